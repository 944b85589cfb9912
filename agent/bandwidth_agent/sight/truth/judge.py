"""Judges by what looks show which limits hold their packets, and which are bypassed. Pure; times are monotonic seconds.

    a class of a limit                                                     the limit
    ─────────────────────────────────────────────────────────────────────  ───────────────────────────────────────
    counted 32 packets since it was made, and nothing speaks against it    verified
    of 32 packets that left, less than half of the bytes came out of it,
    in two looks or more in a row, a second apart                          bypassed
    of 32 packets that left, half of the bytes or more came out of it      no longer bypassed
    anything else: too few packets, a class made anew, old packets         as it was

What few packets show adds up over looks. Where a capture was full, what was seen is the least that can have left: that
proves a bypass, and what is proven held must hold for what was not seen as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import model
from bandwidth_agent.sight.truth import look
from bandwidth_api.plan import ClassKey

PACKETS = 32  # on the wire; fewer prove nothing
_SEEN = 4  # at the tap: one GSO packet of many is no proof either
APART_SECONDS = 1.0  # between the two looks that find a limit bypassed
FORGET_SECONDS = 600.0  # what few packets showed is no part of a judgement any more
_SUSPICIOUS_PACKETS = 4  # so many that went past the class are enough not to call it verified yet


class Finding(NamedTuple):
    """What was seen of a class that is bypassed."""

    packets: int
    left_bytes: int
    through_bytes: int
    interface: str
    client: tuple[int, int]


@dataclasses.dataclass(slots=True)
class _Evidence:
    """What looks have shown of one class since it was last judged."""

    since: float
    seen: int = 0
    packets: int = 0
    left_bytes: int = 0
    through_bytes: int = 0
    unseen_bytes: float = 0.0  # that left too if the packets without room were like the others
    stale_bytes: int = 0

    def add(self, passage: look.Passage) -> None:
        self.seen += passage.seen
        self.packets += passage.packets
        self.left_bytes += passage.left_bytes
        self.through_bytes += passage.through_bytes
        self.unseen_bytes += passage.left_bytes * (1.0 / passage.share - 1.0)
        self.stale_bytes += passage.stale_bytes

    @property
    def enough(self) -> bool:
        return self.packets >= PACKETS and self.seen >= _SEEN

    @property
    def past(self) -> bool:
        return 2 * self.through_bytes < self.left_bytes - self.stale_bytes

    @property
    def held(self) -> bool:
        return 2 * self.through_bytes >= self.left_bytes + self.unseen_bytes


class Judge:
    """What is known of the limits of one node. A new one knows nothing, and no limit is bypassed."""

    def __init__(self) -> None:
        self._owners: Mapping[int, ClassKey] = {}
        self._counted: dict[int, int] = {}  # packets of each class when it was first read
        self._verified: set[int] = set()
        self._evidence: dict[int, _Evidence] = {}
        self._doubts: dict[int, float] = {}  # class → when a look first showed its packets to go past it
        self._bypassed: dict[ClassKey, Finding] = {}
        self._names: frozenset[str] | None = frozenset()  # of verified limits; None: to be worked out again

    @property
    def bypassed(self) -> Mapping[ClassKey, Finding]:
        """The classes that are bypassed."""
        return self._bypassed

    @property
    def verified(self) -> frozenset[str]:
        """The limits of which a class was seen to hold its packets, and none is bypassed."""
        if self._names is None:
            against = {key.limit for key in self._bypassed}
            self._names = frozenset({self._owners[number].limit for number in self._verified} - against)
        return self._names

    @property
    def unverified(self) -> bool:
        """Whether a class has not been seen to hold its packets."""
        return len(self._verified) < len(self._owners)

    @property
    def in_doubt(self) -> bool:
        """Whether one more look may find a limit bypassed."""
        return bool(self._doubts)

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget what was seen of these classes: they are made anew. A bypass is not forgotten by that."""
        for number in numbers:
            self._drop(number)

    def owned(self, owners: Mapping[int, ClassKey]) -> None:
        """Take the limits that are in force, by class number; what was known of others is forgotten."""
        if owners is self._owners:
            return
        for number in [n for n, key in self._owners.items() if owners.get(n) != key]:
            self._drop(number)
        self._owners, self._names = owners, None
        keys = set(owners.values())
        self._bypassed = {key: finding for key, finding in self._bypassed.items() if key in keys}

    def _drop(self, number: int) -> None:
        if number in self._verified:
            self._verified.remove(number)
            self._names = None
        for known in (self._counted, self._evidence, self._doubts):
            known.pop(number, None)

    def note(self, passages: Mapping[int, look.Passage], began: float, ended: float) -> None:
        """Take what one look shows."""
        for number, passage in passages.items():
            key = self._owners.get(number)
            if key is None:
                continue
            evidence = self._evidence.get(number)
            if evidence is None or began - evidence.since > FORGET_SECONDS:
                evidence = self._evidence[number] = _Evidence(began)
            evidence.add(passage)
            if evidence.enough:
                del self._evidence[number]
                self._judge(number, key, evidence, passage, ended)

    def _judge(self, number: int, key: ClassKey, evidence: _Evidence, last: look.Passage, ended: float) -> None:
        self._names = None
        if evidence.past and key not in self._bypassed:
            first = self._doubts.get(number)
            if first is None or evidence.since - first > FORGET_SECONDS:
                self._doubts[number] = ended
            elif evidence.since - first >= APART_SECONDS:
                del self._doubts[number]
                self._verified.discard(number)
                shown = evidence.packets, evidence.left_bytes, evidence.through_bytes
                self._bypassed.setdefault(key, Finding(*shown, last.interface, last.client))
        elif evidence.held:
            self._doubts.pop(number, None)
            self._bypassed.pop(key, None)

    def count(self, reading: model.QueueReading) -> None:
        """Take what the classes have counted: who counted enough, and has nothing against it, is verified."""
        packets: dict[int, int] = {}
        for classes in reading.classes.values():
            for number, counted in classes.items():
                if number in self._owners:
                    packets[number] = packets.get(number, 0) + counted.packets
        for number, count in packets.items():
            before = self._counted.setdefault(number, count)
            if count < before:
                self._counted[number] = count  # made anew by another program
            elif count - before >= PACKETS and number not in self._verified and not self._suspicious(number):
                self._verified.add(number)
                self._names = None

    def _suspicious(self, number: int) -> bool:
        evidence = self._evidence.get(number)
        return (
            number in self._doubts
            or self._owners[number] in self._bypassed
            or (evidence is not None and evidence.packets >= _SUSPICIOUS_PACKETS and not evidence.held)
        )
