"""Finds the interfaces by which packets to a client leave, with the kernel's own route look-up, rules included.

    a network ──▶ one address of it that no narrower route takes ──▶ look-up ──▶ interfaces
                  one address of each narrower route in it       ──▶ look-up ──▶ interfaces
                  each of these, in the tables that rules send some packets to, where they know it better

Owns the look-ups, and a socket that shows whether any of their results may have changed. Reads only, decides nothing.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import heapq
import operator
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import model, netlink
from bandwidth_agent.kernel.linux.rtnl import links
from bandwidth_agent.kernel.linux.rtnl.routing import policy_rules, routes
from bandwidth_api.plan import Prefix

MAX_ROUTES = 100_000  # of one family; with more, networks are known by one address of theirs only
MAX_NARROW = 2_000  # routes in one network that are looked at
MAX_PARTS = 16  # of these, one for each way

_GROUPS = (7, 8, 11, 19, 32)  # IPV4_ROUTE, IPV4_RULE, IPV6_ROUTE, IPV6_RULE, NEXTHOP
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_RECEIVE_BUFFER_BYTES = 1 << 15  # what does not fit is as good as what does: something changed
_RECEIVE_BYTES = 1 << 16

_BITS = {4: 32, 6: 128}


_start = operator.attrgetter("network")


class _Known(NamedTuple):
    """The routes of one family, as read."""

    narrow: Sequence[routes.Route]  # all but default routes, by network
    leading: Sequence[Prefix]  # their networks
    dead: Sequence[Prefix]  # from which no packet leaves: this node's own addresses, blackholes; by network
    # Between two of these addresses the same route decides for all; None: more than the address decides.
    edges: Sequence[int] | None
    tables: Mapping[int, Mapping[int, Mapping[int, routes.Route]]]  # those of rules: table → length → network
    picked: Collection[int]  # tables that rules send only packets to which bear a mark, a port and the like


class Ways:
    """Looks routes up in the network namespace of the thread that uses it first. Not thread-safe."""

    def __init__(self) -> None:
        self._channel: netlink.Socket | None = None
        self._changes: socket.socket | None = None
        self._known: dict[int, _Known] = {}

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._changes is not None:
            self._changes.close()
        self._channel = self._changes = None

    def changed(self) -> bool:
        """Return whether routes, rules or next hops changed since the last call; False before the first look-up."""
        changed = False
        while self._changes is not None:
            try:
                self._changes.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            changed = True
        if changed:
            self._known = {}
        return changed

    def ask(self, networks: Collection[Prefix]) -> model.Ways:
        """Return the ways by which packets to these networks leave. Raises OSError if the kernel cannot be asked."""
        if self._changes is None:
            self._changes = _subscription()
        channel = self._channel = self._channel or netlink.Socket()
        present = {link.ifindex: link for link in links.dump(channel)}
        vrfs = {link.table: link.name for link in present.values() if link.table}
        for family in {network.family for network in networks} - self._known.keys():
            self._known[family] = _read(channel, family, vrfs.keys())
        asked = [(network, part) for network in networks for part in self._parts(network)]
        answers = self._look_up(channel, [_address(part) for _, part in asked])
        known: dict[int, frozenset[str]] = {}  # of thousands of addresses with one answer
        found: dict[Prefix, tuple[model.Way, ...]] = {}
        for (network, part), answer in zip(asked, answers, strict=True):
            names = known.get(id(answer))
            if names is None:
                names = known[id(answer)] = _names(answer.hops if answer is not None else None, present)
            found[network] = (*found.get(network, ()), *self._ways(part, answer, names, present, vrfs))
        return model.Ways(found, self._defaults(present))

    def _look_up(self, channel: netlink.Socket, addresses: Sequence[Prefix]) -> list[routes.Route | None]:
        """Return the kernel's route for each address; addresses with no route border between them share one look-up."""
        stretches: list[tuple[int, int]] = []
        for address in addresses:
            edges = self._known[address.family].edges
            number = address.network if edges is None else bisect.bisect_right(edges, address.network)
            stretches.append((address.family, number))
        one_of = dict(zip(stretches, addresses, strict=True))
        answers = dict(zip(one_of, routes.look_up(channel, [*one_of.values()]), strict=True))
        return [answers[stretch] for stretch in stretches]

    def _parts(self, network: Prefix) -> Iterator[Prefix]:
        """Yield an address outside of all narrower routes, and one narrower route for each way that they lead."""
        bits = _BITS[network.family]
        if network.length == bits:
            yield network
            return
        narrow = self._known[network.family].narrow
        end = network.network + (1 << (bits - network.length))
        first = bisect.bisect_left(self._known[network.family].leading, network.network, key=_start)
        free = self._free(network)
        ways: dict[tuple[object, ...], Prefix] = {}
        for route in narrow[first : first + MAX_NARROW]:
            inside = route.destination
            if inside.network >= end:
                break
            if inside.length > network.length:
                key = route.table, tuple(hop.ifindex for hop in route.hops or ())
                if key not in ways and len(ways) < MAX_PARTS:
                    ways[key] = inside
        if free < end:
            yield Prefix(network.family, free, network.length)  # its network is taken up again by `_address`
        yield from ways.values()

    def _free(self, network: Prefix) -> int:
        """Return the first address, after the network's own, that no narrower route covers.

        Returns an address behind the network's end if there is none.
        """
        known, bits = self._known[network.family], _BITS[network.family]
        free = network.network + 1
        for inside in heapq.merge(_from(known.leading, network), _from(known.dead, network), key=_start):
            if inside.network > free:
                break
            if inside.length > network.length:
                free = max(free, inside.network + (1 << (bits - inside.length)))
        return free

    def _ways(
        self,
        part: Prefix,
        answer: routes.Route | None,
        names: frozenset[str],
        present: Mapping[int, links.Link],
        vrfs: Mapping[int, str],
    ) -> tuple[model.Way, ...]:
        tables = self._known[part.family].tables
        if not (tables or vrfs):
            return (model.Way(_network(part), names),) if names else ()
        address, network = _address(part), _network(part)
        length = answer.destination.length if answer is not None else -1
        for table, name in vrfs.items():
            if name in names:  # what goes to a VRF is looked up once more, in its table
                better = self._match(table, address)
                names = _names(better.hops, present) if better is not None else frozenset()
        ways = [model.Way(network, names)] if names else []
        for table in tables:
            better = self._match(table, address)
            if better is not None and better.destination.length > max(length, 0):
                picked = table in self._known[part.family].picked
                ways.append(model.Way(network, _names(better.hops, present), table, picked))
        return tuple(ways)

    def _match(self, table: int, address: Prefix) -> routes.Route | None:
        """Return the narrowest route of a table that covers an address."""
        lengths = self._known[address.family].tables.get(table, {})
        bits = _BITS[address.family]
        for length in sorted(lengths, reverse=True):
            route = lengths[length].get(address.network >> (bits - length) << (bits - length))
            if route is not None:
                return route
        return None

    def _defaults(self, present: Mapping[int, links.Link]) -> dict[int, frozenset[str]]:
        found: dict[int, frozenset[str]] = {}
        for known in self._known.values():
            for table, lengths in known.tables.items():
                for route in lengths.get(0, {}).values():
                    found[table] = found.get(table, frozenset()) | _names(route.hops, present)
        return found


def _read(channel: netlink.Socket, family: int, vrfs: Collection[int]) -> _Known:
    rules = policy_rules.read(channel, family, vrfs)
    tables = rules.tables.keys() - policy_rules.USUAL_TABLES
    picked = {table for table in tables if rules.tables[table]}
    by_table: dict[int, dict[int, dict[int, routes.Route]]] = {table: {} for table in tables}
    found = routes.dump(channel, family, MAX_ROUTES)
    if found is None:
        return _Known((), (), (), None, by_table, picked)
    for route in found:
        if route.table in by_table and route.hops is not None:
            by_table[route.table].setdefault(route.destination.length, {})[route.destination.network] = route
    usual = [r for r in found if r.destination.length and (r.table in by_table or r.table in policy_rules.USUAL_TABLES)]
    usual.sort(key=lambda route: route.destination.network)
    narrow = [route for route in usual if route.hops is not None]
    dead = [route.destination for route in usual if route.hops is None]
    edges = _edges(family, found) if rules.usual else None
    return _Known(narrow, [route.destination for route in narrow], dead, edges, by_table, picked)


def _edges(family: int, found: Sequence[routes.Route]) -> list[int]:
    bits = _BITS[family]
    edges: set[int] = set()
    for route in found:
        first = route.destination.network
        edges.update((first, first + (1 << (bits - route.destination.length))))
    return sorted(edges)


def _from(places: Sequence[Prefix], network: Prefix) -> Iterator[Prefix]:
    """Return those of sorted networks that begin in this one, and the index behind them."""
    first = bisect.bisect_left(places, network.network, key=_start)
    return (places[index] for index in range(first, len(places)))


def _address(part: Prefix) -> Prefix:
    """Return an address to look up for a part of a network: not its first one, which may be a broadcast address."""
    bits = _BITS[part.family]
    if part.length == bits:
        return part
    first = part.network >> (bits - part.length) << (bits - part.length)
    inner = part.network if part.network != first or bits - part.length < 2 else first + 1
    return Prefix(part.family, inner, bits)


def _network(part: Prefix) -> Prefix:
    bits = _BITS[part.family]
    if part.length == bits:
        return part
    return part._replace(network=part.network >> (bits - part.length) << (bits - part.length))


def _names(hops: tuple[routes.NextHop, ...] | None, present: Mapping[int, links.Link]) -> frozenset[str]:
    """Return the interfaces of next hops; none if one of them is not understood."""
    found = set()
    for ifindex, _ in hops or ():
        if ifindex is None:
            return frozenset()
        if ifindex in present:
            found.add(present[ifindex].name)
    return frozenset(found)


def _subscription() -> socket.socket:
    """Open a socket that collects route changes until it is read; it is in no selector, so it wakes no thread."""
    made = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    )
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    made.bind((0, 0))
    for group in _GROUPS:
        with contextlib.suppress(OSError):  # a kernel without it has none of these to change
            made.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    return made
