"""Reads of the kernel all that concerns one address: what is there, counters twice, and what leaves for it meanwhile.

Opens a capture for the time between the two readings of the counters and closes it; changes nothing, takes no lock and
needs no running agent. What may not be read is left out, and named.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import contract, model, objects, refusals, traffic
from bandwidth_agent.planner import holders, placement, way_out
from bandwidth_agent.settings import Settings
from bandwidth_agent.sight.address_readings import Passed, Readings, Seen
from bandwidth_agent.sight.truth import expected_class, judge, look
from bandwidth_api import addresses
from bandwidth_api.plan import ClassKey, PortRange, Prefix

LOOK_SECONDS = 0.5  # one capture of several
LOOK_PACKETS = 4000
_POLL_SECONDS = 0.02


class Reader:
    """Reads one kernel for one address. `pass_time` waits so many seconds."""

    def __init__(
        self,
        kernel: contract.Kernel,
        settings: Settings,
        *,
        monotonic: Callable[[], float],
        pass_time: Callable[[float], object],
        may_administer: bool = True,
        may_capture: bool = True,
        may_read_rules: bool = True,
    ) -> None:
        """`may_administer`, `may_capture`: whether this process has CAP_NET_ADMIN and CAP_NET_RAW.

        `may_read_rules`: it has both, and the programs of iptables.
        """
        self._kernel = kernel
        self._settings = settings
        self._monotonic = monotonic
        self._pass_time = pass_time
        self._may_administer = may_administer
        self._may_capture = may_capture
        self._may_read_rules = may_read_rules
        self._trees: Mapping[str, objects.Tree] = {}
        self._first: tuple[model.QueueReading | None, float] | None = None  # reading of the queues
        self.missing: list[str] = []  # what could not be read, and what helps

    def read(self, address: Prefix, port: PortRange | None, seconds: float) -> Readings:
        """Return what concerns an address, measured for so many seconds. Raises OSError: the kernel cannot be read."""
        kernel = self._kernel
        facts = self._facts()
        rules = self._may_administer and self._may_read_rules
        state = kernel.observe(rules=rules) if self._may_administer else model.EMPTY
        shaped = way_out.shaped_in(state)
        egress = frozenset(interface.name for interface in placement.egress(facts, self._settings.interfaces))
        ways = self._ways(address)
        before = kernel.counters(rules=False) if self._may_administer else None
        taken = _Taken(address, port, state)
        self._trees, self._first = state.trees, None
        self._watch(taken, _left_by(address, ways, shaped | egress), seconds)
        after = kernel.counters(rules=False) if self._may_administer else None
        seen = taken.seen()
        return Readings(
            facts, state, self._may_administer, rules, before, after, ways, seen, shaped, egress, self._peers()
        )

    def _facts(self) -> model.Facts:
        try:
            return self._kernel.facts()
        except OSError:
            if self._may_administer:
                raise
            return _NO_FACTS

    def _ways(self, address: Prefix) -> model.Ways | None:
        try:
            return self._kernel.ways((address,))
        except OSError as error:
            self.missing.append(f"the way to it cannot be asked for: {refusals.words(error)}")
            return None

    def _peers(self) -> Mapping[Prefix, str]:
        try:
            return self._kernel.peers()
        except OSError:
            return {}  # it would only have been a remark

    def _watch(self, taken: _Taken, interfaces: Collection[str], seconds: float) -> None:
        """Let so many seconds pass, and look at what leaves meanwhile where that is possible."""
        ends = self._monotonic() + seconds
        if interfaces and self._may_capture:
            while (left := ends - self._monotonic()) > 0 and self._look(taken, interfaces, min(LOOK_SECONDS, left)):
                pass
        self._pass_time(max(0.0, ends - self._monotonic()))

    def _look(self, taken: _Taken, interfaces: Collection[str], seconds: float) -> bool:
        """Capture for a moment, with readings of the classes around it; return whether that is possible."""
        started = self._monotonic()
        before = self._kernel.queues(self._trees, interfaces) if self._may_administer else None
        try:
            capture = self._kernel.capture(interfaces, LOOK_PACKETS)
        except OSError as error:
            self.missing.append(f"what leaves cannot be looked at: {refusals.words(error)}")
            return False
        packets: list[traffic.Packet] = []
        began = self._monotonic()
        try:
            while (left := started + seconds - self._monotonic()) > 0:
                self._pass_time(min(_POLL_SECONDS, left))
                packets += capture.take()
            ended, lost = self._monotonic(), capture.lost
        finally:
            capture.close()
        after = self._kernel.queues(self._trees, ()) if self._may_administer else None
        self._first = self._first or (before, began)
        stale_bytes = 0
        if before is not None and self._first[0] is not None:
            stale_bytes = look.stale_bytes(before, self._first[0], began - self._first[1], self._trees)
        taken.add(_Look(packets, lost, before, after, stale_bytes, began, ended))
        return True


class _Look(NamedTuple):
    """One capture."""

    packets: Sequence[traffic.Packet]
    lost: int
    before: model.QueueReading | None
    after: model.QueueReading | None
    stale_bytes: int
    began: float
    ended: float


def _left_by(address: Prefix, ways: model.Ways | None, usual: frozenset[str]) -> frozenset[str]:
    """The interfaces by which packets to an address leave, as far as known."""
    if ways is None:
        return usual
    return frozenset(name for way in ways.of.get(address, ()) for name in way.interfaces) - {"lo"}


class _Taken:
    """Sums of what was captured, and what they show of the classes that should have let it out."""

    def __init__(self, address: Prefix, port: PortRange | None, state: model.State) -> None:
        self._address, self._port = address, port
        self._holding = holders.holding(state, address, port)
        numbers = {holder.number for holder in (*self._holding.holders, *self._holding.inside)}
        self._ruled = address.family in state.chains or bool(state.programs)  # else all is known but for which ports
        self._expected = expected_class.Expected(state)
        self._judge = judge.Judge()
        self._keys = {number: ClassKey(f"{number:x}", "") for number in numbers}
        self._judge.owned(self._keys)
        self._packets = self._lost = 0
        self._bytes = self._seconds = self._class_seconds = 0.0
        self._ports: dict[tuple[int, int], float] = collections.defaultdict(float)
        self._own: dict[int, float] = collections.defaultdict(float)
        self._passed = dict.fromkeys(numbers, Passed(0, 0, 0))

    def add(self, captured: _Look) -> None:
        """Add one capture; packets that found no room were like the others."""
        packets, lost = captured.packets, captured.lost
        self._seconds += captured.ended - captured.began
        self._lost += lost
        weight = (len(packets) + lost) / len(packets) if packets else 0.0
        for packet in packets:
            if self._is_asked_for(packet):
                self._packets += 1
                self._bytes += packet.length * weight
                self._ports[packet.protocol, packet.source_port] += packet.length * weight
                self._own[self._number(packet)] += packet.length * weight
        if captured.before is not None and captured.after is not None:
            passages = look.passages(
                packets, lost, self._expected.number, captured.before, captured.after, captured.stale_bytes
            )
            self._class_seconds += captured.after.at - captured.before.at
            self._judge.note(passages, captured.began, captured.ended)
            for number, passage in passages.items():
                if number in self._passed:
                    count, left, through = self._passed[number]
                    left += round(passage.left_bytes / passage.share)
                    self._passed[number] = Passed(count + passage.packets, left, through + passage.through_bytes)

    def _is_asked_for(self, packet: traffic.Packet) -> bool:
        address, port = self._address, self._port
        if packet.family != address.family:
            return False
        free = addresses.BITS[address.family] - address.length
        return packet.destination >> free == address.network >> free and (port is None or _from(packet, (port,)))

    def _number(self, packet: traffic.Packet) -> int:
        """The class of a packet to the address; where it does not show that, after the port it comes from."""
        found = self._expected.number(packet)
        if found is not None:
            return found
        whole = self._holding.holders
        return next((holder.number for holder in whole if not self._ruled or _from(packet, holder.ports)), 0)

    def seen(self) -> Seen | None:
        """The sums; None where nothing was looked at."""
        if not self._seconds:
            return None
        found = self._judge.bypassed
        bypassed = {number: found[key] for number, key in self._keys.items() if key in found}
        return Seen(
            self._seconds,
            self._packets,
            self._bytes,
            dict(self._ports),
            dict(self._own),
            dict(self._passed),
            bypassed,
            self._lost,
            self._class_seconds,
        )


def _from(packet: traffic.Packet, ports: Iterable[PortRange]) -> bool:
    return any(
        packet.protocol == holders.PROTOCOLS[each.protocol] and each.first <= packet.source_port <= each.last
        for each in ports
    )


_NO_FACTS = model.Facts(
    interfaces={},
    addresses=frozenset(),
    gateways=frozenset(),
    features=model.Features(False, False, False),
    mark_uses=(),
    taken_ifb_names=frozenset(),
    iptables_backend="",
)
