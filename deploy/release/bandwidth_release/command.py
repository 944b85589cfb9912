"""Commands of this machine, each with a bound on its time, and what a release needs of them to be there."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

SECONDS = 900.0
_STARTED = time.monotonic()
_LAST_LINES = 30


class ReleaseError(Exception):
    """The release cannot be made; the message says why, and what to do about it."""


def told(what: str) -> None:
    """Print what is done now, with the seconds since the start."""
    sys.stdout.write(f"{time.monotonic() - _STARTED:5.0f} s  {what}\n")
    sys.stdout.flush()


def run(
    words: Sequence[str | pathlib.Path],
    *,
    folder: pathlib.Path | None = None,
    environment: Mapping[str, str] | None = None,
    joined: bool = False,
) -> str:
    """What a command prints on stdout, and on stderr too if `joined`.

    ReleaseError with the end of all that it printed where it fails.
    """
    command = [str(word) for word in words]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ReleaseError(f"{' '.join(command[:3])} … did not end within {SECONDS:g} s") from None
    if done.returncode:
        printed = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:])
        raise ReleaseError(f"{' '.join(command)} exited {done.returncode}\n{printed}")
    return done.stdout + done.stderr if joined else done.stdout


def missing(programs: Mapping[str, str]) -> list[str]:
    """A line for each program that is not in PATH, with where it comes from."""
    return [f"{name} is not in PATH: {where}" for name, where in programs.items() if shutil.which(name) is None]


def fail_with(lines: Iterable[str]) -> None:
    """Raise with all lines at once; do nothing where there are none."""
    if text := "\n".join(lines):
        raise ReleaseError(text)
