"""Egress hooks that are passed by: somebody's program there ends the walk before our filters see the marked packets.

A program at TCX cannot be listed without CAP_BPF, so counters must tell. Two things must come together:

    the rules matched packets of limited clients, and next to none of them was redirected on this interface;
    this interface sent what never came to its hook, enough of it to be those packets.

The second is what tells an interface from the next, and a bypass from limited clients that are reached through no
egress interface at all (a pod beside the host): those match, but nothing is missing at any hook.

    missing = left − (reached − redirected)        what is redirected comes to the hook once more behind the ifb

What cannot be told is not told, and placement stays as it is: a program that lets some of the limited through to us;
one whose traffic is hidden where arriving packets raise `reached`, because others filter on the ingress hook too.

Owns the judgement and what is remembered of it. Pure: the time is a parameter (monotonic seconds).
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
    ifindex: int  # of the device; another one of the same name starts anew
    since: float


def passed_by(before: model.Passage, now: model.Passage) -> frozenset[str] | None:
    """The interfaces that are bypassed by two readings of the same hooks; None when too little was sent to tell."""
    matched = now.matched_packets - before.matched_packets
    if matched < MATCHED_PACKETS:
        return None
    return frozenset(name for name, hook in now.hooks.items() if _bypassed(before.hooks[name], hook, matched))


def _bypassed(before: model.HookPassage, now: model.HookPassage, matched: int) -> bool:
    if (now.redirected_packets - before.redirected_packets) * STRAY_SHARE >= matched:
        return False
    left = now.left_bytes - before.left_bytes
    redirected = now.redirected_bytes - before.redirected_bytes
    missing = left - (now.reached_bytes - before.reached_bytes) + redirected
    return missing >= matched * SMALLEST_PACKET_BYTES and missing * MISCOUNT_SHARE >= left


class Watch:
    """Compares readings, and remembers which interfaces are bypassed.

    A bypassed interface stays so while our HTB at its root limits its traffic: to look whether the program is gone
    would mean to let the limited go free meanwhile. It is tried again by a new process, when the interface is another
    device, and after ten minutes where the limits are not in force on it anyway.
    """

    def __init__(self) -> None:
        self._before = model.Passage(0, {})
        self._trials: dict[str, float] = {}  # hooks that were not yet seen to work → since when they are watched
        self._found: dict[str, _Found] = {}

    def in_doubt(self, hooks: Collection[str], now: float) -> bool:
        """Whether one of these hooks is so new that a reading should not wait for the next read-back."""
        return any(
            name not in self._before.hooks or now - self._trials.get(name, -TRIAL_SECONDS) < TRIAL_SECONDS
            for name in hooks
        )

    def note(self, reading: model.Passage, now: float) -> frozenset[str]:
        """Take a reading of all our hooks; returns the interfaces that it shows to be bypassed."""
        before = self._before
        if not _continues(before, reading):
            self._trials = {
                name: self._trials.get(name, now)
                for name in reading.hooks
                if name in self._trials or name not in before.hooks
            }
            self._before = reading
            return frozenset()
        found = passed_by(before, reading)
        if found is None:
            return frozenset()  # what is matched adds up until it suffices
        self._before = reading
        for name, hook in reading.hooks.items():
            if hook.redirected_packets > before.hooks[name].redirected_packets:
                self._trials.pop(name, None)
        self._found |= {name: _Found(reading.hooks[name].index, now) for name in found}
        return found

    def bypassed(self, interfaces: Mapping[str, model.Interface], now: float) -> frozenset[str]:
        """The interfaces whose hook leads nowhere, of those that are there."""
        self._found = {
            name: found
            for name, found in self._found.items()
            if name in interfaces
            and interfaces[name].index == found.ifindex
            and (interfaces[name].root.ours or now - found.since < RETEST_SECONDS)
        }
        return frozenset(self._found)


def _continues(before: model.Passage, now: model.Passage) -> bool:
    """Whether every counter goes on from where it was; rules, hooks and devices made anew start at nothing."""
    return (
        before.hooks.keys() == now.hooks.keys()
        and before.matched_packets <= now.matched_packets
        and all(_goes_on(before.hooks[name], hook) for name, hook in now.hooks.items())
    )


def _goes_on(before: model.HookPassage, now: model.HookPassage) -> bool:
    return before.index == now.index and all(was <= count for was, count in zip(before, now, strict=True))
