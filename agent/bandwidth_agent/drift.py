"""Drift: which objects of ours somebody else changed, and when repairing them has become a fight.

Pure but for the ledger's own memory; the time is always a parameter (monotonic seconds). Never touches the kernel.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, TypeVar

from bandwidth_agent import diff
from bandwidth_agent.kernel import change, model
from bandwidth_api import names

_K = TypeVar("_K")
_V = TypeVar("_V")

REPAIRS_BEFORE_GIVING_UP = 3
WINDOW_SECONDS = 600.0


class Object(NamedTuple):
    """One kernel object of ours as a stranger sees it: a device, a qdisc tree, a hook, a set or a chain."""

    layer: str  # "ifb", "tree", "hook", "set" or "chain"
    name: str

    def __str__(self) -> str:
        return f"{self.layer} {self.name}"


def chain(family: int) -> Object:
    return Object("chain", f"IPv{family} {names.CHAIN}")


def touched(step: change.Change) -> Object:
    """The object that a change is about."""
    match step:
        case change.PutIfb(shard=shard) | change.DeleteIfb(shard=shard):
            return Object("ifb", names.ifb(shard))
        case change.PutHook(interface=name) | change.TrimHook(interface=name) | change.DeleteHook(interface=name):
            return Object("hook", name)
        case (
            change.PutSet(name=name)
            | change.PutEntries(name=name)
            | change.DeleteEntries(name=name)
            | change.DeleteSet(name=name)
        ):
            return Object("set", name)
        case change.PutChain(family=family) | change.DeleteChain(family=family):
            return chain(family)
        case _:
            return Object("tree", step.device)


def found(believed: model.State, observed: model.State, desired: model.State) -> frozenset[Object]:
    """What differs from what we left behind although we want it to be there.

    An interface that went away, or a limit that did, is no drift: nothing of it is desired any more.
    """
    if believed == observed:
        return frozenset()
    moved = {touched(step) for step in diff.compute(believed, observed)}
    missing = {touched(step) for step in diff.compute(desired, observed)}
    return frozenset(moved & missing)


class Ledger:
    """Remembers repairs, and says which objects are fought over with a stubborn writer."""

    def __init__(self) -> None:
        self._repairs: dict[Object, collections.deque[float]] = {}

    def note(self, repaired: Iterable[Object], now: float) -> None:
        for item in repaired:
            self._repairs.setdefault(item, collections.deque()).append(now)

    def given_up(self, now: float) -> frozenset[Object]:
        """Objects repaired three times within ten minutes; they are left alone until the ten minutes have passed."""
        for item in list(self._repairs):
            times = self._repairs[item]
            while times and times[0] <= now - WINDOW_SECONDS:
                times.popleft()
            if not times:
                del self._repairs[item]
        return frozenset(i for i, times in self._repairs.items() if len(times) >= REPAIRS_BEFORE_GIVING_UP)

    def next_release(self, now: float) -> float | None:
        """When the first object that was given up may be tried again."""
        releases = [self._repairs[item][0] + WINDOW_SECONDS for item in self.given_up(now)]
        return min(releases, default=None)


def without(desired: model.State, observed: model.State, given_up: frozenset[Object]) -> model.State:
    """The desired state with each object that was given up as it is observed, so that it is not written again.

    What would hurt somebody is still taken away: nothing may be redirected to an ifb that is fought over (a packet
    redirected to a device that is down or gone is dropped), and no rule may name a set that is missing.
    """
    if not given_up:
        return desired
    gone_shards = {s for s in desired.ifbs if Object("ifb", names.ifb(s)) in given_up}
    ifbs = {s: v for s, v in desired.ifbs.items() if s not in gone_shards}
    trees = _as_observed(desired.trees, observed.trees, {o.name for o in given_up if o.layer == "tree"})
    trees = {d: t for d, t in trees.items() if d not in {names.ifb(s) for s in gone_shards}}
    hooks = _as_observed(desired.hooks, observed.hooks, {o.name for o in given_up if o.layer == "hook"})
    hooks = {i: hook._replace(shards=hook.shards - gone_shards) for i, hook in hooks.items()}
    sets = _as_observed(desired.sets, observed.sets, {o.name for o in given_up if o.layer == "set"})
    families = {f for f in (4, 6) if chain(f) in given_up}
    chains = _as_observed(desired.chains, observed.chains, families)
    chains = {
        family: value
        if family in families
        else value._replace(rules=tuple(rule for rule in value.rules if rule.set_name in sets))
        for family, value in chains.items()
    }
    return dataclasses.replace(desired, ifbs=ifbs, trees=trees, hooks=hooks, sets=sets, chains=chains)


def _as_observed(desired: Mapping[_K, _V], observed: Mapping[_K, _V], keys: Collection[_K]) -> dict[_K, _V]:
    kept = {key: value for key, value in desired.items() if key not in keys}
    kept.update((key, observed[key]) for key in keys if key in observed)
    return kept
