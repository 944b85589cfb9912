"""Follows a limit that was just made until it is in force, and says on how many nodes it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from bandwidth_api.plan import Mode
from bandwidth_cli import outcome
from bandwidth_cli.kubectl import paths
from bandwidth_cli.kubectl.failures import Kind, KubectlError
from bandwidth_cli.kubectl.program import Kubectl
from bandwidth_cli.kubectl.watching import Patience, Watch
from bandwidth_cli.objects import limits
from bandwidth_cli.objects.limits import Limit
from bandwidth_runtime import printable

GRACE_SECONDS = 2.0  # a reason may pass by itself, so it is believed after so long
AGAIN_SECONDS = 0.5  # until a watch that broke off is begun again
FAILING_SHOWN = 5


def follow(kubectl: Kubectl, made: Limit, *, seconds: float, say: Callable[[str], None], began: float) -> int:
    """Wait at most so long until the limit is in force; return the exit code. `began`: when it was made, monotonic."""
    following = _Following(kubectl, made, Patience(began + seconds), say, began)
    while following.goes_on():
        following.watch()
    if following.deleted:
        say(f"{made.name} was deleted by somebody else")
        return outcome.NOT_RIGHT
    if following.trouble:
        say(f"whether it is in force is not known: {following.trouble}; kubectl cbl list shows it")
        return outcome.NOT_RIGHT
    return finish(following.last, seconds, say)


class _Following:
    """One limit, watched until it is decided: an API server that goes and comes back is waited for."""

    def __init__(
        self, kubectl: Kubectl, made: Limit, patience: Patience, say: Callable[[str], None], began: float
    ) -> None:
        self.last = made
        self.trouble = ""  # why nothing is known
        self.deleted = False
        self._kubectl = kubectl
        self._patience = patience
        self._say = say
        self._began = began
        self._version = made.version  # from where to watch; "": from what is there
        self._said = ""
        self._over = False

    def goes_on(self) -> bool:
        """Return whether there is something to wait for, and time for it."""
        return not (self._over or self.deleted) and time.monotonic() < self._patience.ends

    def watch(self) -> None:
        """Watch until it is decided, or as long as the watch holds."""
        try:
            if not self._version:
                self._take(limits.read(self._kubectl.get(f"{paths.LIMITS}/{self.last.name}")))
            if self.goes_on():
                self._watch()
        except KubectlError as error:
            self.deleted = error.kind is Kind.NOT_FOUND
            self.trouble = error.text.partition("\n")[0]
            self._over = error.kind in (Kind.FORBIDDEN, Kind.UNAUTHORIZED, Kind.CONFIGURATION, Kind.MISSING_PROGRAM)
        self._version = ""
        if self.goes_on():
            time.sleep(min(AGAIN_SECONDS, max(0.0, self._patience.ends - time.monotonic())))

    def _watch(self) -> None:
        left = int(self._patience.ends - time.monotonic()) + 5
        query = f"fieldSelector=metadata.name%3D{self.last.name}&timeoutSeconds={left}"
        version = self._version or self.last.version
        with Watch(self._kubectl.watch(paths.LIMITS, f"{query}&resourceVersion={version}")) as watch:
            for event in watch.until(self._patience):
                self.trouble = ""
                if event.type == "DELETED":
                    self.deleted = True
                    return
                if event.type in ("ADDED", "MODIFIED"):
                    self._take(limits.read(event.object))
                if not self.goes_on():
                    return

    def _take(self, limit: Limit) -> None:
        self.last, self.trouble = limit, ""
        line = step(limit)
        if line and line != self._said:
            self._said = line
            self._say(f"{line} after {time.monotonic() - self._began:.1f} s")
        verdict = decided(limit)
        self._over = verdict is True
        if verdict is False:
            self._patience.ends = min(self._patience.ends, time.monotonic() + GRACE_SECONDS)


def step(limit: Limit) -> str:
    """Return in words how far a limit is; "" before the operator has looked at it."""
    if not limit.desired:
        return ""
    return f"in force on {limit.programmed} of {limit.desired} nodes"


def decided(limit: Limit) -> bool | None:
    """Return whether waiting is over: True, it is in force; False, something is wrong; None, not yet."""
    if limit.ready.status == "True":
        return True
    if limit.desired and limit.programmed >= limit.desired and limit.ready.status == "Unknown":
        return True  # in force, and nothing of it was seen yet
    if limit.ready.status == "False" and limit.ready.reason != "Pending":
        return False
    return None


def finish(limit: Limit, seconds: float, say: Callable[[str], None]) -> int:
    """Say how it ended; return the exit code."""
    if limit.ready.status == "True":
        return outcome.DONE
    if decided(limit):
        if limit.mode is Mode.ENFORCE:
            say(f"it is set up on all nodes; {printable.line(limit.ready.text)}")
        return outcome.DONE
    text = printable.line(limit.ready.text) or "no operator has looked at it"
    say(f"it is not in force after {seconds:g} s: {text}")
    for node in limit.failing[:FAILING_SHOWN]:
        say(f"  {printable.line(f'{node.name}: {node.reason}: {node.message}')}")
    say("kubectl cbl status says what is wrong; the limit stays, and takes effect when that is mended")
    return outcome.NOT_RIGHT
