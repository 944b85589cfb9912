"""A change that cannot be made is told, not raised: it must not keep the next one from being tried."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TypeVar

from bandwidth_agent.kernel import change

Owner = TypeVar("Owner")
Step = TypeVar("Step", bound=change.Change)


def told(apply: Callable[[Owner, Step], change.Outcome]) -> Callable[[Owner, Step], change.Outcome]:
    """Make a method that applies a change return an OSError as the failure of its outcome."""

    @functools.wraps(apply)
    def telling(owner: Owner, step: Step) -> change.Outcome:
        try:
            return apply(owner, step)
        except OSError as refusal:
            code = refusal.errno or 0
            return change.Outcome(step, change.Failure(code, refusal.strerror or str(refusal) or os.strerror(code)))

    return telling
