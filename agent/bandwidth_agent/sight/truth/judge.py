"""Judges by what looks show which limits hold their packets, and which are bypassed. Pure; times are monotonic seconds.

    a class of a limit                                                     the limit
    ─────────────────────────────────────────────────────────────────────  ───────────────────────────────────────
    counted 32 packets since it was made, and nothing speaks against it    verified
    of 32 packets that left, less than half of the bytes came out of it,
    in two looks or more in a row, a second apart                          bypassed
    of 32 packets that left, half of the bytes or more came out of it      no longer bypassed
    anything else: too few packets, a class made anew, old packets         as it was

The same is asked of what leaves by each of several uplinks, and of each kind of packet that is enough of itself in one
look: what was found of such a part ends when as much of the same part was seen to come out.
What few packets show adds up over looks. Where a capture was full, what was seen is the least that can have left: that
proves a bypass, and what is proven held must hold for what was not seen as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import model
from bandwidth_agent.sight.truth import look
from bandwidth_api.plan import ClassKey

PACKETS = 32  # on the wire; fewer prove nothing
_SEEN = 4  # at the tap: one GSO packet of many is no proof either
APART_SECONDS = 1.0  # between the two looks that find a limit bypassed
FORGET_SECONDS = 600.0  # what few packets showed is no part of a judgement any more
MOST_PARTS = 8  # of one class, that are followed at a time
_SUSPICIOUS_PACKETS = 4  # so many that went past the class are enough not to call it verified yet


class Finding(NamedTuple):
    """What was seen of a class that is bypassed."""

    packets: int
    left_bytes: int
    through_bytes: int
    interface: str
    client: tuple[int, int]
    scope: look.Scope = look.WHOLE


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
    earlier_bytes: int = 0

    def add(self, passage: look.Passage) -> None:
        self.seen += passage.seen
        self.packets += passage.packets
        self.left_bytes += passage.left_bytes
        self.through_bytes += passage.through_bytes
        self.unseen_bytes += passage.left_bytes * (1.0 / passage.share - 1.0)
        self.stale_bytes += passage.stale_bytes
        self.earlier_bytes += passage.earlier_bytes

    @property
    def enough(self) -> bool:
        return self.packets >= PACKETS and self.seen >= _SEEN

    @property
    def past(self) -> bool:
        return 2 * (self.through_bytes + self.earlier_bytes) < self.left_bytes - self.stale_bytes

    @property
    def held(self) -> bool:
        return 2 * self.through_bytes >= self.left_bytes + self.unseen_bytes


class Judge:
    """What is known of the limits of one node. A new one knows nothing, and no limit is bypassed."""

    def __init__(self) -> None:
        self._owners: Mapping[int, ClassKey] = {}
        self._counted: dict[int, int] = {}  # packets of each class when it was first read
        self._verified: set[int] = set()
        self._evidence: dict[int, dict[look.Scope, _Evidence]] = {}  # by class
        self._doubts: dict[int, dict[look.Scope, float]] = {}  # → when a look first showed it to go past the class
        self._found: dict[ClassKey, dict[look.Scope, Finding]] = {}
        self._unconfirmed: list[tuple[ClassKey, look.Scope]] = []  # of these, what no pass has confirmed yet
        self._withdrawn: dict[tuple[ClassKey, look.Scope], float] = {}  # → when it was found, but our objects missing
        self._names: frozenset[str] | None = frozenset()  # of verified limits; None: to be worked out again

    @property
    def bypassed(self) -> Mapping[ClassKey, Finding]:
        """The classes that are bypassed, each with the first finding."""
        return {key: next(iter(found.values())) for key, found in self._found.items()}

    @property
    def findings(self) -> Mapping[ClassKey, tuple[Finding, ...]]:
        """All that was found of the classes that are bypassed."""
        return {key: tuple(found.values()) for key, found in self._found.items()}

    @property
    def verified(self) -> frozenset[str]:
        """The limits of which a class was seen to hold its packets, and none is bypassed."""
        if self._names is None:
            against = {key.limit for key in self._found}
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

    @property
    def unconfirmed(self) -> bool:
        """Whether something was found since the kernel was last seen to be as it should."""
        return bool(self._unconfirmed)

    def confirm(self, now: float, *, sound: bool) -> None:
        """Take whether the kernel was as it should when it was last read; if not, what was just found is no finding.

        But once in a while only: repairs that follow one another must not hide what goes past a limit.
        """
        again = {item: at for item, at in self._withdrawn.items() if now - at < FORGET_SECONDS}
        for item in () if sound else self._unconfirmed:
            if item not in again:
                again[item] = now
                self._end(*item)
        self._unconfirmed, self._withdrawn = [], again

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
        self._found = {key: found for key, found in self._found.items() if key in keys}

    def recall(self, key: ClassKey, finding: Finding) -> None:
        """Take what an earlier process has found of a class."""
        self._found.setdefault(key, {})[finding.scope] = finding
        self._names = None

    def shaped(self, uplinks: Collection[str]) -> None:
        """Take the interfaces on which limits are enforced; what was found of a part on another is forgotten."""
        for key, found in list(self._found.items()):
            for scope in [scope for scope in found if scope.interface not in ("", *uplinks)]:
                self._end(key, scope)

    def _drop(self, number: int) -> None:
        if number in self._verified:
            self._verified.remove(number)
            self._names = None
        for known in (self._counted, self._evidence, self._doubts):
            known.pop(number, None)

    def note(
        self,
        passages: Mapping[int, look.Passage],
        began: float,
        ended: float,
        parts: Mapping[int, Mapping[look.Scope, look.Passage]] | None = None,
    ) -> None:
        """Take what one look shows of classes, and of parts of them."""
        for number, passage in passages.items():
            key = self._owners.get(number)
            if key is None:
                continue
            self._note_parts(number, key, passage, (parts or {}).get(number, {}), began, ended)
            self._note(number, key, look.WHOLE, passage, began, ended)

    def _note_parts(
        self,
        number: int,
        key: ClassKey,
        whole: look.Passage,
        parts: Mapping[look.Scope, look.Passage],
        began: float,
        ended: float,
    ) -> None:
        """Take what a look shows of the parts of one class: each uplink, and kinds of packets that matter."""
        wider_past = {scope for scope, passage in parts.items() if not scope.narrow and _shows_past(passage)}
        if _shows_past(whole):
            wider_past.add(look.WHOLE)
        # The narrow ones first: a doubt about one of them keeps what is found of a wider one.
        for scope, passage in sorted(parts.items(), key=lambda part: not part[0].narrow):
            if scope.narrow and not self._follows(number, key, scope):
                covered = bool(wider_past & {look.WHOLE, look.Scope(scope.interface)})
                if covered or not _shows_past(passage) or self._full(number, began):
                    continue
            self._note(number, key, scope, passage, began, ended)

    def _follows(self, number: int, key: ClassKey, scope: look.Scope) -> bool:
        return scope in self._doubts.get(number, {}) or scope in self._found.get(key, {})

    def _full(self, number: int, now: float) -> bool:
        """Return whether as many parts of a class are followed as may be; old doubts make room."""
        doubts = self._doubts.get(number, {})
        for scope in [scope for scope, first in doubts.items() if scope.narrow and now - first > FORGET_SECONDS]:
            self._settle(number, scope)
            self._evidence.get(number, {}).pop(scope, None)
        found = self._found.get(self._owners[number], {})
        return sum(scope.narrow for scope in {*self._doubts.get(number, {}), *found}) >= MOST_PARTS

    def _note(
        self, number: int, key: ClassKey, scope: look.Scope, passage: look.Passage, began: float, ended: float
    ) -> None:
        by_scope = self._evidence.setdefault(number, {})
        evidence = by_scope.get(scope)
        if evidence is None or began - evidence.since > FORGET_SECONDS:
            evidence = by_scope[scope] = _Evidence(began)
        evidence.add(passage)
        if evidence.enough:
            del by_scope[scope]
            self._judge(number, key, scope, evidence, passage, ended)

    def _judge(
        self, number: int, key: ClassKey, scope: look.Scope, evidence: _Evidence, last: look.Passage, ended: float
    ) -> None:
        self._names = None
        found = self._found.get(key, {})
        if evidence.past and scope not in found:
            doubts = self._doubts.setdefault(number, {})
            first = doubts.get(scope)
            if first is None or evidence.since - first > FORGET_SECONDS:
                doubts[scope] = ended
            elif evidence.since - first >= APART_SECONDS:
                self._settle(number, scope)
                self._verified.discard(number)
                shown = evidence.packets, evidence.left_bytes, evidence.through_bytes
                self._found[key] = {**found, scope: Finding(*shown, last.interface, last.client, scope)}
                self._unconfirmed.append((key, scope))
        elif evidence.held:
            self._settle(number, scope)
            if scope in found and not self._doubts_within(number, scope):
                self._end(key, scope)

    def _end(self, key: ClassKey, scope: look.Scope) -> None:
        """End a finding."""
        self._names = None
        if kept := _without(self._found.get(key, {}), scope):
            self._found[key] = kept
        else:
            self._found.pop(key, None)

    def _settle(self, number: int, scope: look.Scope) -> None:
        """End a doubt."""
        doubts = self._doubts.get(number, {})
        doubts.pop(scope, None)
        if not doubts:
            self._doubts.pop(number, None)

    def _doubts_within(self, number: int, scope: look.Scope) -> bool:
        """Return whether a part of this part is in doubt: what holds besides it does not end a finding."""
        inside = (each for each in self._doubts.get(number, {}) if each != scope)
        return any(scope.interface in ("", each.interface) for each in inside)

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
        against = (e for e in self._evidence.get(number, {}).values() if e.packets >= _SUSPICIOUS_PACKETS)
        return (
            number in self._doubts
            or self._owners[number] in self._found
            or any(not evidence.held for evidence in against)
        )


def _shows_past(passage: look.Passage) -> bool:
    """Return whether one look is enough to show that a part went past its class."""
    evidence = _Evidence(0.0)
    evidence.add(passage)
    return evidence.enough and evidence.past


def _without(found: Mapping[look.Scope, Finding], scope: look.Scope) -> dict[look.Scope, Finding]:
    return {each: finding for each, finding in found.items() if each != scope}
