"""The columns of a table of clients, and which of them a width has room for. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from bandwidth_api import addresses
from bandwidth_api.plan import PortRange, Prefix
from bandwidth_sight import amounts, cells, rows
from bandwidth_sight.rows import Hold, MadeBy, Rates, Row

GAP = "  "
PORTS_SHOWN = 2
NODES_SHOWN = 2
CLIENT, SINCE, SHARE, ERROR, PORTS, LIMIT, NODES = "CLIENT", "SINCE", "SHARE", "±", "PORTS", "LIMIT", "NODES"
# What goes first where there is no room: first so that whole addresses and limits fit, then so that anything fits. The
# client and what rows are sorted by stay.
_DROPPED_FOR_TEXT = (SINCE, "60s", ERROR, "2s")
_DROPPED = (*_DROPPED_FOR_TEXT, NODES, PORTS, SHARE, LIMIT, "10s")
_WHOLE = {LIMIT: 28, NODES: 16}  # cells that a column of text gets before others are dropped for it
_LEAST = {CLIENT: 15, LIMIT: 10, NODES: 8}  # and to which it may be clipped when they are
_TEXT = frozenset({CLIENT, PORTS, LIMIT, NODES})


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column with its width in cells."""

    name: str
    cells: int

    def write(self, text: str) -> str:
        return (cells.left if self.name in _TEXT else cells.right)(text, self.cells)


def texts(row: Row, totals: Rates, names: Mapping[Prefix, str]) -> dict[str, str]:
    """Return by column what is written of one row; `names`: of addresses, as far as somebody asked for them."""
    by_window = zip(rows.WINDOW_NAMES, row.rates, strict=True)
    return {
        CLIENT: client(row, names),
        **{name: amounts.rate(rate.bits_per_second) for name, rate in by_window},
        SINCE: amounts.size(row.since_bytes),
        SHARE: amounts.share(rows.share(row, totals)),
        ERROR: amounts.error(row.rates[rows.SHARE_WINDOW].error),
        PORTS: _some([str(port.number) for port in row.ports], PORTS_SHOWN, ","),
        LIMIT: limit(row.holds),
        NODES: _some([cells.clean(node) for node in row.nodes], NODES_SHOWN, ","),
    }


def client(row: Row, names: Mapping[Prefix, str]) -> str:
    """Return the address of a row, and behind it what it is or its name, if that is known."""
    words = [addresses.write(row.client), cells.clean(row.label), cells.clean(names.get(row.client, ""))]
    return " ".join(filter(None, words))


def limit(holds: tuple[Hold, ...] | None) -> str:
    """Return the limits that hold a client: `web-crawl 60Mbit, at limit`, or for a port alone `mail 5Mbit 993/tcp`.

    Of one that a policy made the step, which no limit of a person has: `fair-03e9b06641 5Mbit, step 2 of 3, at limit`.
    """
    if holds is None:
        return "?"
    if not holds:
        return amounts.NONE
    # One that is slowing now first, then one for all ports: each says more of the client than the others.
    first = min(holds, key=lambda hold: (not hold.at_limit, hold.ports != (), hold.observes))
    rest = len(holds) - 1
    state = ", at limit" if first.at_limit else ", observed" if first.observes else ""
    state = (f", {step(first.made_by)}" if first.made_by is not None else "") + state
    more = f" +{rest}" if rest else ""
    words = (cells.clean(first.limit), amounts.limit_rate(first.rate_bits_per_second), _limit_ports(first.ports))
    return f"{' '.join(filter(None, words))}{state}{more}"


def step(made_by: MadeBy) -> str:
    """Return which step of its policy a limit is."""
    return f"step {made_by.step}" + (f" of {made_by.steps}" if made_by.steps else "")


def _limit_ports(ports: tuple[PortRange, ...] | None) -> str:
    """Return the ports of a limit, so that it is not taken for one that holds all of a client's packets."""
    if ports is None:
        return "some ports"
    return ",".join(map(amounts.port_range, ports)) if len(ports) <= PORTS_SHOWN else f"{len(ports)} port ranges"


def head(nodes: bool) -> tuple[str, ...]:
    """Return the names of all columns in their order."""
    return (CLIENT, *rows.WINDOW_NAMES, SINCE, SHARE, ERROR, PORTS, *((NODES,) if nodes else ()), LIMIT)


def fit(lines: Sequence[Mapping[str, str]], names: Sequence[str], width: int | None, keep: str) -> list[Column]:
    """Return the columns that fit into so many cells (None: all), each as wide as its texts need, or clipped.

    `keep`: the column that rows are sorted by, which stays however narrow it is.
    """
    needed = {name: max([cells.width(name), *(cells.width(line[name]) for line in lines)]) for name in names}
    chosen = list(names)
    if width is None:
        return [Column(name, needed[name]) for name in chosen]
    # Of a client the address is to be whole; what stands behind it may be clipped.
    whole = {**_WHOLE, CLIENT: max([_LEAST[CLIENT], *(len(line[CLIENT].split(" ")[0]) for line in lines)])}
    for dropped, least in ((_DROPPED_FOR_TEXT, whole), (_DROPPED, _LEAST)):
        for name in dropped:
            if _total(chosen, needed, least) <= width:
                break
            if name in chosen and name != keep:
                chosen.remove(name)
    return _clipped(chosen, needed, whole[CLIENT], width)


def _total(chosen: Sequence[str], needed: Mapping[str, int], least: Mapping[str, int]) -> int:
    return sum(min(needed[name], least.get(name, needed[name])) for name in chosen) + len(GAP) * (len(chosen) - 1)


def _clipped(chosen: Sequence[str], needed: Mapping[str, int], address_cells: int, width: int) -> list[Column]:
    """Give the columns of text what is left: whole addresses first, then limits and nodes, then names."""
    given = {name: min(needed[name], _LEAST.get(name, needed[name])) for name in chosen}
    left = width - sum(given.values()) - len(GAP) * (len(chosen) - 1)
    if left < 0:  # not even the client and the column of the order fit
        given[CLIENT] = max(1, given[CLIENT] + left)
    most = {CLIENT: min(needed[CLIENT], address_cells)}
    for name, wanted in (*most.items(), *((each, needed.get(each, 0)) for each in (LIMIT, NODES, CLIENT))):
        if name in given:
            more = max(0, min(wanted - given[name], left))
            given[name] += more
            left -= more
    return [Column(name, given[name]) for name in chosen]


def line(columns: Sequence[Column], of: Mapping[str, str] | None) -> str:
    """Return one line of the table; None: the head."""
    return GAP.join(column.write(column.name if of is None else of[column.name]) for column in columns).rstrip()


def _some(words: Sequence[str], shown: int, between: str) -> str:
    if not words:
        return amounts.NONE
    rest = len(words) - shown
    return between.join(words[:shown]) + (f" +{rest}" if rest > 0 else "")
