"""What stands in the way of limiting a client, in the order in which it is told. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

from bandwidth_api import addresses
from bandwidth_api.compiler import protected_addresses
from bandwidth_api.compiler.protected_addresses import Index
from bandwidth_api.crds.policy import Policy
from bandwidth_api.plan import Prefix
from bandwidth_api.policy.decision import Block, Obstacle
from bandwidth_api.policy.surroundings import Surroundings

MINUTE_SECONDS = 60.0


def lasting(policy: Policy, client: Prefix, around: Surroundings, taken: Mapping[Prefix, str]) -> Block | None:
    """Return what forbids a limit on a client, also one that is there; None: nothing does.

    `taken`: the clients that other policies limit, by prefix the policy's name.
    """
    exempt = next(iter(_exempt(policy.spec.safety.exempt).touching(client)), None)
    if exempt is not None:
        return Block(Obstacle.EXEMPT, f"{_lies(client, exempt)} exempt by spec.safety.exempt")
    protected = next(iter(around.protected.touching(client)), None)
    if protected is not None:
        return Block(Obstacle.PROTECTED, f"{_lies(client, protected)} protected: no limit may touch it")
    person = next(iter(around.persons_index.touching(client)), None)
    if person is not None:
        written = f"the limit {around.persons[person]}, which a person wrote"
        return Block(Obstacle.PERSON, f"{written}, names {addresses.write(person)}: nothing is done beside it")
    for other, name in taken.items():
        if addresses.covers(other, client) or addresses.covers(client, other):
            return Block(Obstacle.OTHER_POLICY, f"the policy {name} limits {addresses.write(other)}")
    return None


def bound(policy: Policy, limited: int, starts: Iterable[float], at: float) -> Block | None:
    """Return which of its bounds a policy has reached; `starts`: when it made its last limits, by the same clock."""
    safety = policy.spec.safety
    if limited >= safety.max_limits:
        return Block(
            Obstacle.MAXIMUM, f"{limited} clients are limited already, of safety.maxLimits {safety.max_limits}"
        )
    lately = sum(at - start < MINUTE_SECONDS for start in starts)
    if lately >= safety.max_new_per_minute:
        return Block(
            Obstacle.PER_MINUTE,
            f"{lately} limits were made in the last minute, of safety.maxNewPerMinute {safety.max_new_per_minute}",
        )
    return None


@functools.lru_cache(64)
def _exempt(networks: tuple[Prefix, ...]) -> Index:
    return protected_addresses.index(frozenset(networks))


def _lies(client: Prefix, found: Prefix) -> str:
    if client == found:
        return f"{addresses.write(client)} is"
    if addresses.covers(found, client):
        return f"{addresses.write(client)} lies in {addresses.write(found)}, which is"
    return f"{addresses.write(client)} holds {addresses.write(found)}, which is"
