"""What a program needs of the process and the machine before it can touch the kernel, and the words for what lacks.

Owns the checks and the one way in which a program says why it cannot go on.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import sys

from bandwidth_agent import lock

FAILED = 1  # exit code: it cannot run here, or a part of it failed

_NEEDED = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def missing() -> str:
    """What keeps this process from working on the kernel, and what to do about it; "" if nothing does."""
    lacking = [name for bit, name in _NEEDED.items() if not _effective() >> bit & 1]
    if lacking:
        if os.geteuid():
            return f"{' and '.join(lacking)} missing: run it as root, or give it CAP_NET_ADMIN and CAP_NET_RAW"
        return f"{' and '.join(lacking)} missing, although it is root: the container or service must be given them"
    absent = [word for word in ("iptables", "ip6tables") if not _there(word)]
    if absent:
        return (
            f"no {' and no '.join(absent)} program found: install iptables "
            "(Debian and Ubuntu: apt-get install iptables; Fedora: dnf install iptables-nft)"
        )
    return ""


def _effective() -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))


def _there(family: str) -> bool:
    return any(shutil.which(f"{family}{kind}-restore", path=_PATH) for kind in ("", "-nft", "-legacy"))


def held(error: lock.HeldError, advice: str) -> str:
    """The message when another agent holds this network namespace."""
    return f"an agent is running in this network namespace already ({error}); {advice}"


def fail(message: str) -> int:
    """Say why it does not work, in one line on stderr, and return the exit code for it."""
    sys.stderr.write(f"bandwidth-agent: error: {message}\n")
    return FAILED


def warn(message: str) -> None:
    sys.stderr.write(f"bandwidth-agent: warning: {message}\n")
