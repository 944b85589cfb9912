"""What policies need of the kernel: how much the uplinks carry, what classes counted, who is no client or protected."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from typing import TypeVar

from bandwidth_agent import reconcile
from bandwidth_agent.commands.options import Options
from bandwidth_agent.kernel import contract, model
from bandwidth_agent.planner.admission import protected_addresses as admission
from bandwidth_agent.planner.classifier import ownership
from bandwidth_agent.planner.placement import decision
from bandwidth_agent.reporting import uplink_capacity
from bandwidth_agent.sight.watch.classes import Classes
from bandwidth_api.compiler import protected_addresses
from bandwidth_api.compiler.protected_addresses import Index
from bandwidth_api.plan import Prefix

CAPACITY_SECONDS = 10.0  # so often it is asked how fast the uplinks are
PEERS_SECONDS = 60.0  # so often all routes are read

T = TypeVar("T")
Kernel = Callable[[], contract.Kernel]  # of the thread that calls


def capacity(of: Kernel, reconciler: reconcile.Reconciler, options: Options) -> Callable[[], int | None]:
    """Return what says how much all uplinks together can carry: as it was set, or as their devices say."""

    def read() -> int | None:
        if reconciler.facts is None:
            return None
        names = [each.name for each in decision.egress(reconciler.facts, options.settings.interfaces)]
        said = of().uplink_counters(names)
        found = [uplink_capacity.capacity(name, each, options.uplink_capacity) for name, each in said.items()]
        known = [each.bits_per_second for each in found if each is not None]
        return sum(known) if known and len(known) == len(names) else None

    return _now_and_then(read, CAPACITY_SECONDS, None)


def peers(of: Kernel) -> Callable[[], Collection[Prefix]]:
    """Return what finds the hosts that packets of others are handed to."""
    return _now_and_then(lambda: of().peers().keys(), PEERS_SECONDS, ())


def untouchable(protected: Callable[[], Index], reconciler: reconcile.Reconciler) -> Callable[[], tuple[Index, ...]]:
    """Return what finds the clients of limits that are in force, and what no limit may touch."""
    known: tuple[model.State | None, Index] = (None, protected_addresses.index(frozenset()))

    def read() -> tuple[Index, ...]:
        nonlocal known
        state = reconciler.believed
        if state is not None and state is not known[0]:
            known = state, protected_addresses.index(frozenset(each.prefix for each in ownership.matches(state)))
        return known[1], protected()

    return read


def protected(of: Kernel, reconciler: reconcile.Reconciler, options: Options) -> Callable[[], Index]:
    """Return what finds the addresses that no limit may touch here, worked out again when the node's facts change."""
    known: tuple[model.Facts, Index] | None = None

    def read() -> Index:
        nonlocal known
        facts = reconciler.facts or (known[0] if known is not None else None)
        if facts is None:
            facts = dataclasses.replace(of().facts(), spared=reconciler.spared())
        if known is None or known[0] is not facts:
            known = facts, protected_addresses.index(admission.prefixes(facts, options.settings))
        return known[1]

    return read


def classes_of(of: Kernel, reconciler: reconcile.Reconciler) -> Classes:
    """Return the counters of classes."""

    def counters() -> model.Counters | None:
        try:
            return of().counters(rules=False)
        except OSError:
            return None

    return Classes(lambda: reconciler.believed, counters)


def _now_and_then(read: Callable[[], T], seconds: float, first: T) -> Callable[[], T]:
    """Return what reads again after so many seconds; what cannot be read stays as it was."""
    asked_at, known = float("-inf"), first

    def latest() -> T:
        nonlocal asked_at, known
        now = time.monotonic()
        if now - asked_at >= seconds:
            asked_at = now
            try:
                known = read()
            except OSError:
                return known
        return known

    return latest
