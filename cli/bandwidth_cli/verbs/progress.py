"""Follows a limit that was just made until it is in force, and says on how many nodes it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from bandwidth_api.plan import Mode
from bandwidth_cli import outcome
from bandwidth_cli.kubectl import paths
from bandwidth_cli.kubectl.failures import KubectlError
from bandwidth_cli.kubectl.program import Kubectl
from bandwidth_cli.kubectl.watching import Patience, Watch
from bandwidth_cli.objects import limits
from bandwidth_cli.objects.limits import Limit
from bandwidth_runtime import printable

GRACE_SECONDS = 2.0  # a reason may pass by itself, so it is believed after so long
FAILING_SHOWN = 5


def follow(kubectl: Kubectl, made: Limit, *, seconds: float, say: Callable[[str], None], began: float) -> int:
    """Wait at most so long until the limit is in force; return the exit code. `began`: when it was made, monotonic."""
    patience = Patience(began + seconds)
    last = made
    said = ""
    query = (
        f"fieldSelector=metadata.name%3D{made.name}&resourceVersion={made.version}&timeoutSeconds={int(seconds) + 5}"
    )
    try:
        with Watch(kubectl.watch(paths.LIMITS, query)) as watch:
            for event in watch.until(patience):
                if event.type == "DELETED":
                    say(f"{made.name} was deleted by somebody else")
                    return outcome.NOT_RIGHT
                if event.type not in ("ADDED", "MODIFIED"):
                    continue
                last = limits.read(event.object)
                line = step(last)
                if line and line != said:
                    said = line
                    say(f"{line} after {time.monotonic() - began:.1f} s")
                verdict = decided(last)
                if verdict is True:
                    break
                if verdict is False:
                    patience.ends = min(patience.ends, time.monotonic() + GRACE_SECONDS)
    except KubectlError as error:
        say(f"whether it is in force cannot be watched: {error.text}; kubectl cbl list shows it")
        return outcome.NOT_RIGHT
    return finish(last, seconds, say)


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
