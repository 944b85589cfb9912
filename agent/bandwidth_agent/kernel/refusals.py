"""What a refusal of the kernel means, by its errno, and how the refusal of a change becomes its outcome.

    not allowed    EPERM, EACCES                  of this process, whatever the kernel can do
    not now        EBUSY, ENOBUFS, ENOMEM …       of this moment: tried again, and never remembered
    not there      all others                     of the kernel: a module or an object is missing

A change that cannot be made raises nothing: it must not keep the next one from being tried.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from typing import TypeVar

from bandwidth_agent.kernel import objects

NOT_ALLOWED = frozenset({errno.EPERM, errno.EACCES})
NOT_NOW = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ETIMEDOUT,
    }
)

NOT_ALLOWED_HELP = (
    "capabilities count only in the user namespace that owns this network namespace: run it there, or on the host;"
    " or a security module forbids it (in a cluster: agent.privileged)"
)
NOT_NOW_HELP = "the kernel was busy or short of memory; try again"

Owner = TypeVar("Owner")
Step = TypeVar("Step", bound=objects.Change)


def words(error: OSError) -> str:
    """Why the kernel could not be read, and what helps, as far as the errno shows."""
    text = error.strerror or str(error)
    if error.errno in NOT_ALLOWED:
        return f"{text}: {NOT_ALLOWED_HELP}"
    return f"{text}: {NOT_NOW_HELP}" if error.errno in NOT_NOW else text


def as_outcome(apply: Callable[[Owner, Step], objects.Outcome]) -> Callable[[Owner, Step], objects.Outcome]:
    """Make a method that applies a change return an OSError as the failure of its outcome."""

    @functools.wraps(apply)
    def applied(owner: Owner, step: Step) -> objects.Outcome:
        try:
            return apply(owner, step)
        except OSError as refusal:
            code = refusal.errno or 0
            return objects.Outcome(step, objects.Failure(code, refusal.strerror or str(refusal) or os.strerror(code)))

    return applied
