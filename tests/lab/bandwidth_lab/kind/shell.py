"""Commands of this machine, each with a bound on its time; and what a run in a kind cluster needs to be there."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.25

NEEDED: Mapping[str, str] = {
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/#kubectl",
    "helm": "https://helm.sh/docs/intro/install/",
}


class NotUsableError(Exception):
    """This machine cannot run a kind cluster; the message names what to do."""


class FailedCommandError(Exception):
    """A command ended with an error; the message holds what it printed."""

    def __init__(self, command: Sequence[str], returncode: int, printed: str) -> None:
        super().__init__(f"{' '.join(command)} exited {returncode}\n{printed.strip()}")
        self.returncode = returncode


def run(
    command: Sequence[str],
    *,
    stdin: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    check: bool = True,
    env: Mapping[str, str] | None = None,
) -> str:
    """What a command prints on stdout. With `check`, a failure raises with everything that it printed."""
    done = subprocess.run(
        command,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env=env,
    )
    if check and done.returncode:
        raise FailedCommandError(command, done.returncode, done.stdout + done.stderr)
    return done.stdout


def eventually(what: str, holds: Callable[[], object], *, seconds: float = TIMEOUT_SECONDS) -> None:
    """Wait until `holds()` is true; a command that fails meanwhile counts as not yet. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        failed = ""
        try:
            if holds():
                return
        except (FailedCommandError, subprocess.TimeoutExpired) as failure:
            failed = f" ({failure})"
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}{failed}")
        time.sleep(POLL_SECONDS)


def check_machine(*images: str) -> None:
    """Raise with everything that is missing at once: programs, a Docker that answers, images."""
    missing = [
        f"{name} is not in PATH; get it from {where}" for name, where in NEEDED.items() if not shutil.which(name)
    ]
    if missing:
        raise NotUsableError("\n".join(missing))
    answered = subprocess.run(
        ["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    if answered.returncode:
        raise NotUsableError(f"the Docker daemon does not answer: {answered.stderr.strip() or answered.stdout.strip()}")
    absent = [image for image in images if not run(["docker", "images", "-q", image]).strip()]
    if absent:
        raise NotUsableError(f"there is no image {' and no image '.join(absent)}; make it with: make images")
