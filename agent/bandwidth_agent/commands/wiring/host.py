"""Checks whether this process and machine have what the sub-commands need, and prints errors and warnings.

Owns the checks, the texts of their errors, and the one form of an error on stderr.
"""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Collection
from typing import TYPE_CHECKING

from bandwidth_runtime import result

if TYPE_CHECKING:  # not at run time, so that --help need not load the lock
    from bandwidth_agent.process import lock

FAILED = 1  # exit code: it cannot run here, or a part of it failed

_NEEDED = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}
_BOTH = tuple(_NEEDED.values())
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def missing() -> str:
    """Return what this process lacks to work on the kernel, and what to do about it; "" if it lacks nothing."""
    names = lacking()
    if names:
        separated = ": " if os.geteuid() else ", although it is root: "
        return f"{' and '.join(names)} missing{separated}{remedy()}"
    return absent()


def lacking() -> tuple[str, ...]:
    """Return the names of the capabilities that this process lacks."""
    return tuple(name for bit, name in _NEEDED.items() if not _effective() >> bit & 1)


def remedy(names: Collection[str] = _BOTH) -> str:
    """Return what to do about capabilities that are missing; `names`: those that it takes."""
    if os.geteuid():
        return f"run it as root, or give it {' and '.join(names)}"
    return "the container or service must be given them"


def absent() -> str:
    """Return that the programs of iptables are missing, and what to do about it; "" if they are there."""
    names = [word for word in ("iptables", "ip6tables") if not _there(word)]
    if not names:
        return ""
    return (
        f"no {' and no '.join(names)} program found: install iptables "
        "(Debian and Ubuntu: apt-get install iptables; Fedora: dnf install iptables-nft)"
    )


def _effective() -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))


def _there(family: str) -> bool:
    return any(shutil.which(f"{family}{kind}-restore", path=_PATH) for kind in ("", "-nft", "-legacy"))


def held(error: lock.HeldError, advice: str) -> str:
    """Return the message for a network namespace that another agent holds."""
    return f"an agent is running in this network namespace already ({error}); {advice}"


def fail(message: str) -> int:
    """Print an error, in one line on stderr, and return the exit code for it."""
    result.complain(f"bandwidth-agent: error: {message}")
    return FAILED


def warn(message: str) -> None:
    """Print a warning, in one line on stderr."""
    result.complain(f"bandwidth-agent: warning: {message}")
