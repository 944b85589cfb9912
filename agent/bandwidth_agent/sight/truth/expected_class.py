"""Which class a packet that left should have come from, after the sets and rules or programs in force. Pure.

The rules compare the port that the client dialled, as conntrack knows it. A packet shows its own ports only:

    a service's reply    source port = the port dialled, also behind a NodePort: it is translated back before the uplink
    a connection of our own to a client    destination port = the port dialled; the source port is an ephemeral one

Where rules with ports concern a client and both readings are possible, only the kernel knows the class: not judged.
Programs compare the source port of the packet itself, which leaves no doubt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bandwidth_agent.kernel import model, objects, traffic
from bandwidth_agent.kernel.objects import longest_prefix_match
from bandwidth_agent.kernel.objects.chain import EPHEMERAL_FIRST
from bandwidth_agent.planner.classifier import ownership
from bandwidth_api import addresses
from bandwidth_api.plan import PortRange, Prefix

_PRIVILEGED_LAST = 1023
_PROTOCOLS = {traffic.TCP: "TCP", traffic.UDP: "UDP"}

_Flow = tuple[int, int, int, int, int]


class Expected:
    """The look-up of one kernel state; keeps what it found, so that the packets of one flow cost one look-up."""

    def __init__(self, state: model.State) -> None:
        self._chains = state.chains
        self._sets = state.sets
        self._lookups: dict[str, longest_prefix_match.Lookup] = {}
        self._known: dict[_Flow, int | None] = {}
        self._ports = {family: _by_set(chain.rules) for family, chain in state.chains.items()}
        self._tables = [
            (table, longest_prefix_match.Numbers(table.entries))
            for table in (state.tables.values() if state.programs else ())
        ]
        self._programs_are_first = all(program.first for program in state.programs.values())

    def number(self, packet: traffic.Packet) -> int | None:
        """Return the class number of a packet; None: it has no limit, or what it shows does not tell."""
        _, family, destination, protocol, source_port, _, destination_port = packet
        flow = family, destination, protocol, source_port, destination_port
        try:
            return self._known[flow]
        except KeyError:
            found = self._known[flow] = self._find(*flow)
            return found

    def _find(self, family: int, destination: int, protocol: int, source: int, dialled: int) -> int | None:
        target = Prefix(family, destination, addresses.BITS[family])
        if self._tables:
            return self._in_tables(target, protocol, source)
        chain = self._chains.get(family)
        if chain is None or not chain.jump_first:
            return None
        if chain.guard and self._entry(chain.guard, target) is None:
            return None
        general = self._last(target, (rule.set_name for rule in chain.rules if rule.ports is None))
        selecting = {name: ranges for name, ranges in self._ports[family].items() if self._entry(name, target)}
        if not selecting:
            return general
        name_of_protocol = _PROTOCOLS.get(protocol)
        if name_of_protocol is None:
            return general if protocol >= 0 else None
        if source < 0:
            return None  # a later fragment
        by_source = self._last(target, _holding(selecting, name_of_protocol, source))
        if by_source is not None:
            return by_source if source < EPHEMERAL_FIRST else None
        if dialled < 0:
            return general if source <= _PRIVILEGED_LAST else None
        return None if any(_holding(selecting, name_of_protocol, dialled)) else general

    def _in_tables(self, target: Prefix, protocol: int, source: int) -> int | None:
        """Return the number that programs give a packet: by its source port, else by the table without ports."""
        if not self._programs_are_first:
            return None
        name = _PROTOCOLS.get(protocol, "")
        plain = 0
        for table, numbers in self._tables:
            if table.family != target.family:
                continue
            if not table.ports:
                plain = numbers.find(target)
            elif any(p.protocol == name and p.first <= source <= p.last for p in table.ports):
                found = numbers.find(target)
                if found:
                    return found
        return plain or None

    def _last(self, target: Prefix, set_names: Iterable[str]) -> int | None:
        """Return the number in the last of these sets that has one for this address."""
        found: int | None = None
        for name in set_names:
            entry = self._entry(name, target)
            if entry is not None:
                found = ownership.number(entry)
        return found

    def _entry(self, set_name: str, target: Prefix) -> objects.SetEntry | None:
        lookup = self._lookups.get(set_name)
        if lookup is None:
            ipset = self._sets.get(set_name)
            lookup = longest_prefix_match.Lookup({} if ipset is None else ipset.entries)
            self._lookups[set_name] = lookup
        return lookup.find(target)


def _by_set(rules: Iterable[objects.Rule]) -> Mapping[str, list[PortRange]]:
    found: dict[str, list[PortRange]] = {}
    for rule in rules:
        if rule.ports is not None:
            found.setdefault(rule.set_name, []).append(rule.ports)
    return found


def _holding(selecting: Mapping[str, list[PortRange]], protocol: str, port: int) -> list[str]:
    """Return the sets of which one range holds this port."""
    return [
        name
        for name, ranges in selecting.items()
        if any(each.protocol == protocol and each.first <= port <= each.last for each in ranges)
    ]
