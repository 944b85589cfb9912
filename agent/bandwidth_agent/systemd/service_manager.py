"""Asks systemd to read, enable, start and stop units. Owns how it is asked; decides nothing.

Enabling is links in directories, and works where systemd does not run, as in an image that is being made.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess

_RUNS = pathlib.Path("/run/systemd/system")  # sd_booted(3)
_SECONDS = 100.0  # a unit that is stopped is killed after 90


def present() -> bool:
    """Return whether units can be enabled here."""
    return shutil.which("systemctl") is not None


def runs() -> bool:
    """Return whether systemd is what runs this host, so that units can be started."""
    return present() and _RUNS.is_dir()


def active(unit: str) -> bool:
    """Return whether a unit runs."""
    return not ask("is-active", "--quiet", unit)


def ask(*words: str) -> str:
    """Call systemctl; return "" if it succeeded, else what it printed."""
    try:
        done = subprocess.run(
            ["systemctl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if not done.returncode:
        return ""
    printed = " ".join((done.stderr + done.stdout).split())
    return printed or f"systemctl {words[0]} ended with {done.returncode}"
