"""Which limits of this host a policy made, and of each: its step, what ends it, and what it takes to pardon the client.

Values only, and the form in which the running agent writes down by which terms it decides. Pure; `kept_makers` reads.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from bandwidth_api import units
from bandwidth_api.plan import Prefix

DIRECTORY = "made"  # in the state directory: the limits
TERMS = "terms"  # the key of a policy's terms, beside its status

Json = dict[str, Any]


class Step(NamedTuple):
    rate_bits_per_second: int
    seconds: int


class Terms(NamedTuple):
    """What a policy does to a client that it limits."""

    steps: tuple[Step, ...]
    lift_percent: int  # of the limit's rate
    lift_seconds: int
    memory_seconds: int


@dataclasses.dataclass(frozen=True, slots=True)
class Maker:
    """The policy of one limit."""

    policy: str
    client: Prefix
    step: int  # counted from 1
    rate_bits_per_second: int
    expires_at: float  # seconds since the epoch
    why: str
    file: str  # whoever deletes it pardons the client
    terms: Terms | None  # None: the agent has not written them down

    @property
    def which(self) -> str:
        """The policy and the step, for people."""
        of = f" of {len(self.terms.steps)}" if self.terms is not None else ""
        return f"the policy {self.policy}, step {self.step}{of}"

    @property
    def lifted_below_bits_per_second(self) -> float | None:
        """What the client has to need less than to be let go; None: not known, or it is not let go before the end."""
        if self.terms is None or not self.terms.lift_percent:
            return None
        return self.rate_bits_per_second * self.terms.lift_percent / 100

    @property
    def following(self) -> Step | None:
        """What comes when the time is over and the client still presses against its limit; None: not known."""
        return None if self.terms is None else self.terms.steps[min(self.step, len(self.terms.steps) - 1)]

    def pardon_seconds(self, now: float) -> int | None:
        """Return for how long a client is left alone that is pardoned now; None: not known."""
        return None if self.terms is None else max(self.terms.memory_seconds, round(self.expires_at - now))

    def as_json(self) -> Json:
        """Return what programs are told of it."""
        terms, below, following = self.terms, self.lifted_below_bits_per_second, self.following
        return {
            "name": self.policy,
            "step": self.step,
            "steps": None if terms is None else len(terms.steps),
            "why": self.why,
            "liftedBelowBitsPerSecond": None if below is None else round(below),
            "liftedAfterSeconds": None if terms is None or below is None else terms.lift_seconds,
            "next": None
            if following is None
            else {"rateBitsPerSecond": following.rate_bits_per_second, "seconds": following.seconds},
            "file": self.file,
            "memorySeconds": None if terms is None else terms.memory_seconds,
        }


def write_terms(terms: Terms) -> Json:
    """Return the terms of a policy as the agent writes them down."""
    return {
        "steps": [
            {"rate": units.write_rate(step.rate_bits_per_second), "ttlSeconds": step.seconds} for step in terms.steps
        ],
        "whenBelowPercent": terms.lift_percent,
        "forSeconds": terms.lift_seconds,
        "memorySeconds": terms.memory_seconds,
    }


def read_terms(wire: object) -> Terms | None:
    """Return what `write_terms` made; None for anything else."""
    if not isinstance(wire, dict):
        return None
    try:
        steps = tuple(Step(units.parse_rate(each["rate"]), int(each["ttlSeconds"])) for each in wire["steps"])
        if not steps:
            return None
        return Terms(steps, int(wire["whenBelowPercent"]), int(wire["forSeconds"]), int(wire["memorySeconds"]))
    except (KeyError, TypeError, ValueError):
        return None
