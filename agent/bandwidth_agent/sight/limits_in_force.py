"""Which limit holds a client, and is it slowed now: from the kernel's sets and two readings of its classes. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.objects import longest_prefix_match
from bandwidth_agent.planner import holders
from bandwidth_agent.planner.classifier import ownership
from bandwidth_api import addresses, names
from bandwidth_api.compiler.overlap import resolve
from bandwidth_api.plan import Mode, PlanEntry, PortRange, Prefix
from bandwidth_sight.rows import Hold, MadeBy

AT_LIMIT = 0.95  # of its rate: what a class sends that is being slowed

_WHOLE_MARK = 0xFFFFFFFF

Classes = Mapping[str, Mapping[int, model.ClassCounters]]  # by device and class number
_Lookup = longest_prefix_match.Lookup


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """The counters of all classes at one time."""

    at: float  # monotonic seconds
    classes: Classes


class Tables(NamedTuple):
    """The sets of one family, and the rules that say for which ports each is asked."""

    lookups: Mapping[str, _Lookup]  # by set
    rules: Sequence[objects.Rule] | None  # None: not read

    def found(self, client: Prefix) -> Mapping[int, tuple[PortRange, ...] | None]:
        """Return the class numbers of a single address, each with its ports as in `rows.Hold`."""
        entries = {
            name: entry
            for name, lookup in self.lookups.items()
            if (entry := lookup.find(client)) is not None and not entry.hole
        }
        ports: Mapping[str, tuple[PortRange, ...] | None]
        if self.rules is None:
            ports = dict.fromkeys(entries)
            ports[names.set_name(client.family, ())] = ()
        else:
            ports = holders.decided([rule for rule in self.rules if rule.set_name in entries])
        numbers = ((ownership.number(entry), ports[name]) for name, entry in entries.items() if name in ports)
        return {number: of_it for number, of_it in numbers if number}


class LimitsInForce:
    """Answers for one kernel state, or for the limits of a directory; `heed` brings newer counters."""

    def __init__(
        self, tables: Mapping[int, Tables], holds: Mapping[int, Hold], at_limit: frozenset[int] = frozenset()
    ) -> None:
        self._tables = tables  # by family
        self._holds = holds  # by class number
        self.at_limit = at_limit  # class numbers
        self._known: dict[Prefix, tuple[Hold, ...]] = {}

    @property
    def empty(self) -> bool:
        return not self._holds

    def heed(self, before: Reading, after: Reading) -> None:
        """Work out from two readings which classes are at their limit."""
        seconds = after.at - before.at
        if seconds <= 0:
            return
        sent: dict[int, int] = {}
        for device, classes in after.classes.items():
            earlier = before.classes.get(device, {})
            for number, counters in classes.items():
                had = earlier.get(number)
                moved = counters.bytes - (had.bytes if had is not None else 0)
                sent[number] = sent.get(number, 0) + max(0, moved)
        self.at_limit = frozenset(
            number
            for number, hold in self._holds.items()
            if hold.rate_bits_per_second
            and not hold.observes
            and sent.get(number, 0) * 8 / seconds >= AT_LIMIT * hold.rate_bits_per_second
        )
        self._known = {}

    def holds(self, client: Prefix) -> tuple[Hold, ...]:
        """Return the limits that hold a single address, by name; those with ports hold only a part of its traffic."""
        known = self._known.get(client)
        if known is None:
            found = self._tables[client.family].found(client) if client.family in self._tables else {}
            holds = (
                self._holds[number]._replace(at_limit=number in self.at_limit, ports=ports)
                for number, ports in found.items()
                if number in self._holds
            )
            known = self._known[client] = tuple(sorted(holds, key=lambda hold: (hold.limit, hold.ports or ())))
        return known


def has_ports(state: model.State) -> bool:
    """Return whether there are limits with ports, so that rules say more than sets do."""
    families = (4, 6)
    usual = {name for family in families for name in (names.set_name(family, ()), names.clients_set(family))}
    return not usual.issuperset(state.sets)


def of_kernel(
    state: model.State,
    at_limit: frozenset[int] = frozenset(),
    made_by: Mapping[str, MadeBy] = MappingProxyType({}),
) -> LimitsInForce:
    """Return what holds by the sets and classes of a kernel; `state` needs no hooks, and chains or tables only for
    ports.

    `at_limit`: the classes that were at their limit by the last counters; `made_by`: by limit the policy that made it.
    """
    lookups: dict[int, dict[str, _Lookup]] = {4: {}, 6: {}}
    for name, ipset in state.sets.items():
        lookups[ipset.family][name] = _Lookup(ipset.entries)
    tables = {family: Tables(sets, _rules(state, family)) for family, sets in lookups.items()}
    owners = ownership.owners(state)
    classes: dict[int, objects.HtbClass] = {}
    for tree in state.trees.values():
        classes |= tree.classes
    holds = {
        number: _hold(label, classes.get(number))._replace(made_by=made_by.get(label.key.limit))
        for number, label in owners.items()
    }
    return LimitsInForce(tables, holds, at_limit)


def _rules(state: model.State, family: int) -> Sequence[objects.Rule] | None:
    """The rules of a family, or what programs do in their place; None where neither was read."""
    if family in state.chains:
        return state.chains[family].rules
    return holders.program_rules(state, family) if state.programs else None


def _hold(label: names.Label, htb: objects.HtbClass | None) -> Hold:
    if htb is None:
        return Hold(label.key.limit, None, at_limit=False, observes=False)
    return Hold(label.key.limit, htb.rate * 8, at_limit=False, observes=htb.ceil > htb.rate)


def of_entries(entries: Iterable[PlanEntry]) -> LimitsInForce:
    """Return what should hold by the limits themselves, where the kernel cannot be asked."""
    resolution = resolve.resolve(entries)
    numbers = {key: number for number, key in enumerate(resolution.classes, 1)}
    holds = {
        numbers[key]: Hold(entry.limit, entry.rate_bits_per_second, at_limit=False, observes=entry.mode is Mode.OBSERVE)
        for key, entry in resolution.classes.items()
    }
    lookups: dict[int, dict[str, _Lookup]] = {4: {}, 6: {}}
    rules: dict[int, list[objects.Rule]] = {4: [], 6: []}
    for table in sorted(resolution.tables, key=lambda table: bool(table.ports)):
        name = names.set_name(table.family, table.ports)
        rules[table.family] += [objects.Rule(name, ports, True, True) for ports in table.ports or (None,)]
        lookups[table.family][name] = _Lookup(
            {
                prefix: objects.SetEntry(0, 0, 0, "", hole=True)
                if key is None
                else objects.SetEntry(numbers[key], _WHOLE_MARK, 0, key.limit)
                for prefix, key in table.entries.items()
            }
        )
    return LimitsInForce({family: Tables(lookups[family], rules[family]) for family in lookups}, holds)


def networks(state: model.State) -> tuple[Prefix, ...]:
    """Return the networks, not the single addresses, that lead to a class."""
    found = {match.prefix for match in ownership.matches(state)}
    return tuple(sorted(prefix for prefix in found if prefix.length < addresses.BITS[prefix.family]))
