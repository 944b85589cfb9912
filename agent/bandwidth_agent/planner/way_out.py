"""Clients that are reached by an interface on which nothing is shaped: their limits are not in force, whatever the
kernel holds. Pure: what the kernel reports of each client's network comes in (`model.Ways`), a problem or a warning
goes out.

    every part of a client's network leaves by interfaces that are not shaped    NotOnTheWay
    some of it does, or by one next hop of several, or with a mark only          a warning
    none of it leaves at all, or by what carries a mark along into a tunnel      nothing

Remembers what was asked and found, so that a pass costs nothing for what did not change.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping

from bandwidth_agent.kernel import model
from bandwidth_agent.planner import changed_entries
from bandwidth_api import addresses, names, plan
from bandwidth_api.conditions import Problem, Reason

# Tunnels of the kernel itself: the packet around ours bears our mark, and is shaped where it leaves.
_MARK_GOES_ALONG = frozenset({"ipip", "sit", "gre", "gretap", "ip6tnl", "ip6gre", "ip6gretap", "vxlan", "geneve"})
WARNINGS_MAX = 5
CROWD = 10_000  # networks that may be remembered without being those of a client any more


class WayOut:
    """The known ways to all clients."""

    def __init__(self) -> None:
        self._answers: dict[plan.Prefix, tuple[model.Way, ...]] = {}
        self._defaults: Mapping[int, frozenset[str]] = {}
        self._facts: model.Facts | None = None
        self._interfaces: Mapping[str, tuple[object, ...]] = {}
        self._used: frozenset[str] = frozenset()  # interfaces in the answers
        self._names: tuple[str, ...] = ()  # of the interfaces that are shaped
        self._shaped: frozenset[str] = frozenset()  # interfaces by which a packet passes one of these, or may
        self._entries: tuple[plan.PlanEntry, ...] = ()
        self._results: list[Problem | str | None] = []  # of each entry; a warning, or "" where all is well
        self._open: list[int] = []  # places of entries that have no result yet
        self._crowded = CROWD
        self._found: tuple[dict[str, Problem], tuple[str, ...]] | None = None

    @property
    def networks(self) -> Collection[plan.Prefix]:
        """All networks whose ways were requested."""
        return self._answers.keys()

    def unasked(
        self, entries: tuple[plan.PlanEntry, ...], facts: model.Facts, placed: Collection[str]
    ) -> frozenset[plan.Prefix]:
        """The clients' networks of which nothing is known; all of them when an interface on the way changed."""
        names = tuple(sorted(placed))
        if facts is not self._facts or names != self._names:
            self._heed(facts, names)
        self._take(entries)
        new = [entries[place] for place in self._open]
        return frozenset(client for entry in new for client in entry.clients if client not in self._answers)

    def _heed(self, facts: model.Facts, names: tuple[str, ...]) -> None:
        """Forget what may be different with these interfaces. One that is new comes with routes, which are reported."""
        known = {name: (i.index, i.up, i.master, i.lower, i.kind) for name, i in facts.interfaces.items()}
        altered = {name for name, what in self._interfaces.items() if known.get(name) != what}
        shaped = frozenset(_passing(facts.interfaces, names))
        if not self._used.isdisjoint(altered):
            self._answers, self._used = {}, frozenset()
            self.forget()
        elif names != self._names or not self._used.isdisjoint(shaped ^ self._shaped):
            self.forget()
        self._facts, self._interfaces, self._names, self._shaped = facts, known, names, shaped

    def forget(self) -> None:
        """Look at everything again next time, and ask what is unanswered."""
        self._entries, self._results, self._open, self._found = (), [], [], None

    def _take(self, entries: tuple[plan.PlanEntry, ...]) -> None:
        """Make these the entries that are looked at, with what is known of them already."""
        moved = changed_entries.places(entries, self._entries)
        if moved is not None:
            for place in moved:
                self._results[place] = None
            self._open += moved
        else:
            known = dict(zip(map(id, self._entries), self._results, strict=True))
            self._results = [known.get(id(entry)) for entry in entries]
            self._open = [place for place, result in enumerate(self._results) if result is None]
        if moved is None or moved:
            self._found = None
        self._entries = entries

    def learn(self, ways: model.Ways) -> bool:
        """Take the kernel's answers; return whether a known one has changed."""
        known = self._answers
        changed = any(network in known and known[network] != found for network, found in ways.of.items())
        changed |= ways.defaults != self._defaults
        known.update(ways.of)
        self._used = self._used.union(*{way.interfaces for found in ways.of.values() for way in found})
        self._defaults = ways.defaults
        if changed:
            self.forget()
        return changed

    def problems(self, entries: tuple[plan.PlanEntry, ...]) -> tuple[dict[str, Problem], tuple[str, ...]]:
        """The limits that are not in force for their clients' way, and what else is worth knowing of it."""
        self._take(entries)
        if self._found is None:
            for place in self._open:
                self._results[place] = self._result(entries[place])
            self._open = []
            self._found = self._summary() if self._names else ({}, ())
            if len(self._answers) >= self._crowded:
                asked = {client for entry in entries for client in entry.clients}
                self._answers = {network: ways for network, ways in self._answers.items() if network in asked}
                self._crowded = 2 * len(self._answers) + CROWD
        return self._found

    def _summary(self) -> tuple[dict[str, Problem], tuple[str, ...]]:
        found = list(itertools.compress(zip(self._entries, self._results, strict=True), self._results))
        problems = {entry.limit: result for entry, result in found if isinstance(result, Problem)}
        partly = [f"limit {entry.limit}: {result}" for entry, result in found if isinstance(result, str)]
        if len(partly) > WARNINGS_MAX:
            partly[WARNINGS_MAX:] = [f"so it is with parts of {len(partly) - WARNINGS_MAX} more limits"]
        return problems, (*partly, *self._of_tables({problem.message for problem in problems.values()}))

    def _result(self, entry: plan.PlanEntry) -> Problem | str:
        """What keeps a limit from being in force; else a warning, or "" where all is well."""
        partly: list[str] = []
        for client in entry.clients:
            known = self._answers.get(client, ())
            if all(way.interfaces and way.interfaces <= self._shaped and not way.picked for way in known):
                continue  # nearly all clients
            answers = [way for way in known if not _covered(way.part, entry.excepted)]
            ways = [way for way in answers if not way.picked] or answers
            astray = [way for way in ways if way.interfaces.isdisjoint(self._shaped)]
            if not astray:
                partly += self._beside(client, answers)
                continue
            lost = {way.part for way in astray}
            if lost >= {way.part for way in ways}:
                message = self._message(f"packets to {addresses.write(client)}", astray)
                return Problem(Reason.NOT_ON_THE_WAY, message)
            parts = ", ".join(sorted({addresses.write(way.part) for way in astray}))
            partly.append(self._message(f"packets to {parts} of {addresses.write(client)}", astray))
        return "; ".join(partly)

    def _beside(self, client: plan.Prefix, ways: Iterable[model.Way]) -> Iterator[str]:
        """Ways that some packets take beside one that is shaped: by another next hop, or for a mark that they bear."""
        for way in ways:
            if unshaped := way.interfaces - self._shaped:
                yield self._message(f"some packets to {addresses.write(client)}", [way._replace(interfaces=unshaped)])
                return

    def _message(self, whose: str, astray: Iterable[model.Way]) -> str:
        names = sorted({name for way in astray for name in way.interfaces})
        tables = sorted({way.table for way in astray if way.table})
        which = f" (routing table {', '.join(map(str, tables))})" if tables else ""
        return f"{whose} leave by {', '.join(names)}{which}, which is not shaped; {self._remedy(names)}"

    def _remedy(self, names: Iterable[str]) -> str:
        every = " ".join(f"--interface {name}" for name in sorted({*self._names, *names}))
        return f"name every interface to shape: {every}"

    def _of_tables(self, reported: Collection[str]) -> Iterator[str]:
        """Default routes of tables that rules send some packets to: whose packets these are is not known."""
        for table, found in sorted(self._defaults.items()):
            astray = sorted(found) if found.isdisjoint(self._shaped) else []
            if astray and not any(f"leave by {', '.join(astray)}" in message for message in reported):
                yield (
                    f"packets that a rule sends to routing table {table} leave by {', '.join(astray)}, which is not"
                    f" shaped; to limit them, {self._remedy(astray)}"
                )


def asleep(entries: Iterable[plan.PlanEntry], idle: Mapping[int, str]) -> dict[str, Problem]:
    """The limits of a family whose packets do not come to our rules; `idle`: by family, why."""
    if not idle:
        return {}
    problems = {
        family: Problem(Reason.NOT_ON_THE_WAY, f"no IPv{family} packet comes to our rule: {why}")
        for family, why in idle.items()
    }
    found = {}
    for entry in entries:
        for family in {client.family for client in entry.clients} & idle.keys():
            found[entry.limit] = problems[family]
    return found


def limits_in(state: model.State) -> tuple[plan.PlanEntry, ...]:
    """What stands in the kernel's sets as limits: of each its name and its clients, and nothing else that is true."""
    clients: dict[str, list[plan.Prefix]] = {}
    for ipset in state.sets.values():
        for prefix, entry in ipset.entries.items():
            if not entry.hole:
                clients.setdefault(names.parse_comment(entry.comment).key.limit, []).append(prefix)
    return tuple(entry_of(limit, tuple(found)) for limit, found in clients.items())


def entry_of(limit: str, clients: tuple[plan.Prefix, ...]) -> plan.PlanEntry:
    """A limit of which its name and its clients are known, and nothing else that it says is true."""
    return plan.PlanEntry(
        limit, "", 0, clients, (), (), 0, None, plan.Mode.ENFORCE, plan.Sharing.SHARED, 0, 0.0, None, ()
    )


def shaped_in(state: model.State) -> frozenset[str]:
    """Return the interfaces that hold something of ours."""
    devices = {*map(names.ifb, state.ifbs), *map(names.pair, state.pairs)}
    return frozenset({*state.hooks, *state.programs, *(device for device in state.trees if device not in devices)})


def _covered(part: plan.Prefix, excepted: Iterable[plan.Prefix]) -> bool:
    return any(addresses.covers(each, part) for each in excepted)


def _passing(interfaces: Mapping[str, model.Interface], placed: Collection[str]) -> Iterator[str]:
    """The interfaces by which a packet leaves through something that is shaped, or may."""
    by_index = {interface.index: interface for interface in interfaces.values()}
    masters = {interfaces[name].master for name in placed if name in interfaces}
    for name, interface in interfaces.items():
        below: model.Interface | None = interface
        for _ in by_index:
            if below is None or below.name in placed:
                break
            below = by_index.get(below.lower) if below.lower else None
        leads = below is not None and below.name in placed
        if leads or interface.index in masters or interface.kind in _MARK_GOES_ALONG:
            yield name
