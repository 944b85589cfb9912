"""Memory that a process may lock: Linux before 5.11 counts all of eBPF as such, and allows 64 KB of it by default.

Owns the process's RLIMIT_MEMLOCK, and touches it on such a kernel alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource

_NOT_COUNTED_SINCE = (5, 11)
_MOST = resource.RLIM_INFINITY


def allow() -> None:
    """Allow this process as much as it may have: without CAP_SYS_RESOURCE what its hard limit says."""
    if not _counted():
        return
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    for limits in ((_MOST, _MOST), (hard, hard)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)
            return


def lack() -> str:
    """Return what this process lacks, and what gives it that; "" where this is not what keeps maps from being made."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if not _counted() or soft == _MOST:
        return ""
    return (
        f"Linux {os.uname().release} counts eBPF as locked memory, and this process may lock {soft >> 10} KB:"
        " LimitMEMLOCK=infinity, of the container runtime or of the agent's unit"
    )


def _counted() -> bool:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) < _NOT_COUNTED_SINCE
