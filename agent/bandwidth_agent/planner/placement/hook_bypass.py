"""Detects interfaces where another program (for example at TCX) accepts packets before our egress filters run.

Such a program cannot be listed without CAP_BPF, so counters are compared. Two things must come together:

    the rules matched packets of limited clients, and almost none of them were redirected on this interface;
    this interface sent packets that never reached its hook, enough of them to be those packets.

The second distinguishes one interface from another, and a bypass from limited clients that are reached through no
egress interface at all (a pod beside the host): those match, but no packets are missing at any hook.

    missing = left − (reached − redirected)        redirected packets reach the hook once more behind the ifb

Two cases are not detected, and placement stays as it is: a program that lets some limited packets through to us, and
one whose packets are hidden by arriving packets, which raise `reached` where others filter on the ingress hook too.

Owns the decision and the readings for it. Pure: the time is a parameter (monotonic seconds).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import model

MATCHED_PACKETS = 32  # fewer prove nothing
STRAY_SHARE = 50  # one redirected packet in so many matched ones is none: it may have come from another time
SMALLEST_PACKET_BYTES = 28  # a matched packet has an IP and a transport header at least
MISCOUNT_SHARE = 10  # a driver may count a tenth more bytes than we do: the frame check sequence of small packets
TRIAL_SECONDS = 30.0  # a new hook is watched so long, or until it was seen to work
RETEST_SECONDS = 600.0  # where limits cannot be enforced meanwhile anyway


class _Found(NamedTuple):
    ifindex: int  # of the device; another one of the same name starts again
    since: float


def bypassed_hooks(before: model.HookReading, now: model.HookReading) -> frozenset[str] | None:
    """Return the interfaces that two readings of their hooks show to be bypassed; None if too little was sent."""
    matched = now.matched_packets - before.matched_packets
    if matched < MATCHED_PACKETS:
        return None
    return frozenset(name for name, hook in now.hooks.items() if _bypassed(before.hooks[name], hook, matched))


def _bypassed(before: model.HookCounters, now: model.HookCounters, matched: int) -> bool:
    if (now.redirected_packets - before.redirected_packets) * STRAY_SHARE >= matched:
        return False
    left = now.left_bytes - before.left_bytes
    redirected = now.redirected_bytes - before.redirected_bytes
    missing = left - (now.reached_bytes - before.reached_bytes) + redirected
    return missing >= matched * SMALLEST_PACKET_BYTES and missing * MISCOUNT_SHARE >= left


class Watch:
    """Compares readings, and remembers which interfaces are bypassed.

    An interface stays bypassed while our HTB at its root limits its traffic: to test whether the program is gone, its
    clients would have to be unlimited meanwhile. It is tested again by a new process, when the interface is another
    device, and after ten minutes if the limits are not in force on it anyway.
    """

    def __init__(self) -> None:
        self._before = model.HookReading(0, {})
        self._trials: dict[str, float] = {}  # hooks that were not yet seen to work → since when they are watched
        self._found: dict[str, _Found] = {}

    def in_doubt(self, hooks: Collection[str], now: float) -> bool:
        """Return whether one of these hooks is so new that a reading should not wait for the next read-back."""
        return any(
            name not in self._before.hooks or now - self._trials.get(name, -TRIAL_SECONDS) < TRIAL_SECONDS
            for name in hooks
        )

    def note(self, reading: model.HookReading, now: float) -> frozenset[str]:
        """Take a reading of all our hooks; return the interfaces that it shows to be bypassed."""
        before = self._before
        if not _continues(before, reading):
            self._trials = {
                name: self._trials.get(name, now)
                for name in reading.hooks
                if name in self._trials or name not in before.hooks
            }
            self._before = reading
            return frozenset()
        found = bypassed_hooks(before, reading)
        if found is None:
            return frozenset()  # what is matched adds up until it suffices
        self._before = reading
        for name, hook in reading.hooks.items():
            if hook.redirected_packets > before.hooks[name].redirected_packets:
                self._trials.pop(name, None)
        self._found |= {name: _Found(reading.hooks[name].index, now) for name in found}
        return found

    def bypassed(self, interfaces: Mapping[str, model.Interface], now: float) -> frozenset[str]:
        """Return those of the existing interfaces whose hook is bypassed."""
        self._found = {
            name: found
            for name, found in self._found.items()
            if name in interfaces
            and interfaces[name].index == found.ifindex
            and (interfaces[name].root.ours or now - found.since < RETEST_SECONDS)
        }
        return frozenset(self._found)


def _continues(before: model.HookReading, now: model.HookReading) -> bool:
    """Return whether every counter continues from the last reading; new rules, hooks and devices start at zero."""
    return (
        before.hooks.keys() == now.hooks.keys()
        and before.matched_packets <= now.matched_packets
        and all(_goes_on(before.hooks[name], hook) for name, hook in now.hooks.items())
    )


def _goes_on(before: model.HookCounters, now: model.HookCounters) -> bool:
    return before.index == now.index and all(was <= count for was, count in zip(before, now, strict=True))
