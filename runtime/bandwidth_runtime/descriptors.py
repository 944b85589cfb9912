"""How many files and sockets this process may have open. Owns the process's RLIMIT_NOFILE."""

from __future__ import annotations

import contextlib
import resource

WANTED = 65_536  # more than any part of the programs can use; some hard limits are a billion


def raise_limit() -> int:
    """Raise the soft limit as far as the hard limit allows, at most to WANTED; return the soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # what there is has to do
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    """Return how many descriptors this process may have open now; another process can change that at any time."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED if soft == resource.RLIM_INFINITY else soft
