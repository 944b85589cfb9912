"""What `show` prints: from a kernel state and two readings of its counters to rows, a table and JSON.

Pure: reads no kernel and no clock. Everything shown comes from the kernel, nothing from manifests or a running agent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from bandwidth_agent.kernel import model
from bandwidth_agent.planner.classifier import ownership
from bandwidth_agent.policies.makers import Maker
from bandwidth_agent.reporting import wording
from bandwidth_api import addresses, names, plan, units
from bandwidth_runtime import printable

_HEAD = ("LIMIT", "CLIENT", "PORTS", "RATE", "NOW", "DROPS", "BACKLOG", "MODE", "CHECK", "EXPIRES", "POLICY")
_RIGHT = ("RATE", "NOW", "DROPS", "BACKLOG")
_CLIENTS_SHOWN = 2
_VERIFIED_PACKETS = 32  # so many that a class has counted show that its packets come by, as a running agent takes it
_AT_ITS_LIMIT = 0.95  # of its rate: the client is being slowed now

_BOLD, _YELLOW, _RED, _PLAIN = "\033[1m", "\033[33m", "\033[31m", "\033[0m"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One class: a limit, or one client of a PerEntry limit. Counters are sums over the devices that hold it."""

    limit: str
    client: str  # "" when all clients share the rate
    prefixes: tuple[plan.Prefix, ...]
    ports: tuple[plan.PortRange, ...]  # empty: every port
    number: int
    devices: tuple[str, ...]
    rate_bits_per_second: int | None  # None: no device holds the class, so nothing is slowed
    measured_bits_per_second: float
    counters: model.ClassCounters
    observes: bool
    expires_at: int | None
    maker: Maker | None = None  # the policy that made the limit
    bypassed: bool = False  # packets were seen to leave past it between the readings

    @property
    def check(self) -> str:
        """Whether packets were seen to pass the class: `verified`, `unverified`, or `bypassed` just now."""
        if self.bypassed:
            return "bypassed"
        return "verified" if self.counters.packets >= _VERIFIED_PACKETS else "unverified"

    @property
    def over_limit_share(self) -> float | None:
        """The share of the traffic that an Observe limit would have slowed, 0 to 1; None for an Enforce limit.

        HTB counts each send of an Observe class either as lent (within its rate) or as borrowed (above it). Both count
        a GSO packet once, so only their ratio has a meaning.
        """
        sent = self.counters.lended + self.counters.borrowed
        return self.counters.borrowed / sent if self.observes and sent else (0.0 if self.observes else None)

    @property
    def mode(self) -> str:
        if self.rate_bits_per_second is None:
            return "missing"
        return plan.Mode.OBSERVE.value if self.observes else plan.Mode.ENFORCE.value


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What `show` prints once."""

    rows: tuple[Row, ...]
    direct_packets: Mapping[str, int]  # by device: what passed the tree in no class
    matched_packets: Mapping[int, int]  # by family
    warnings: tuple[str, ...]  # what is there but cannot work
    interval_seconds: float


@dataclasses.dataclass(slots=True)
class _Gathered:
    label: names.Label
    prefixes: set[plan.Prefix] = dataclasses.field(default_factory=set)
    ports: set[plan.PortRange | None] = dataclasses.field(default_factory=set)


def view(
    state: model.State,
    before: model.Counters,
    after: model.Counters,
    remarks: Collection[str] = (),
    bypassed: Collection[int] = (),
    makers: Mapping[str, Maker] = MappingProxyType({}),
) -> View:
    """Return the rows of a kernel state, with the rates between two readings of the counters.

    `remarks`: what else is to be warned of, such as limits whose clients are reached by interfaces that are not shaped.
    `bypassed`: numbers of the classes that packets were seen to leave past between the readings. `makers`: by limit the
    policy that made it.
    """
    seconds = after.at - before.at
    gathered = _gather(state)
    rows = [_row(number, item, state, before, after, seconds) for number, item in gathered.items()]
    rows = [dataclasses.replace(row, bypassed=row.number in bypassed, maker=makers.get(row.limit)) for row in rows]
    rows.sort(key=lambda row: (row.limit, row.prefixes[:1], row.number))
    return View(
        rows=tuple(rows),
        direct_packets=after.direct_packets,
        matched_packets=after.rules,
        warnings=(*_warnings(state, rows), *remarks),
        interval_seconds=seconds,
    )


def _gather(state: model.State) -> Mapping[int, _Gathered]:
    """Return by class number the limit that it belongs to, and the addresses and ports that lead to it."""
    ports: dict[str, set[plan.PortRange | None]] = {}
    for chain in state.chains.values():
        for rule in chain.rules:
            ports.setdefault(rule.set_name, set()).add(rule.ports)
    for name, table in state.tables.items() if state.programs else ():
        ports.setdefault(name, set()).update(table.ports or (None,))
    found: dict[int, _Gathered] = {}
    for match in ownership.matches(state):
        item = found.get(match.number)
        if item is None:
            item = found[match.number] = _Gathered(names.parse_comment(match.label))
        item.prefixes.add(match.prefix)
        item.ports |= ports.get(match.set_name, set())
    return found


def _row(
    number: int,
    item: _Gathered,
    state: model.State,
    before: model.Counters,
    after: model.Counters,
    seconds: float,
) -> Row:
    devices = tuple(sorted(name for name, tree in state.trees.items() if number in tree.classes))
    htb = state.trees[devices[0]].classes[number] if devices else None
    now, earlier = total(after, number, devices), total(before, number, devices)
    moved = max(0, now.bytes - earlier.bytes)  # less than before: the class was made again in between
    everything = None in item.ports
    return Row(
        limit=item.label.key.limit,
        client=item.label.key.client,
        prefixes=tuple(sorted(item.prefixes)),
        ports=() if everything else tuple(sorted(port for port in item.ports if port is not None)),
        number=number,
        devices=devices,
        rate_bits_per_second=htb.rate * 8 if htb is not None else None,
        measured_bits_per_second=moved * 8 / seconds if seconds > 0 else 0.0,
        counters=now,
        observes=htb is not None and htb.ceil > htb.rate,
        expires_at=item.label.expires_at,
    )


def total(counters: model.Counters, number: int, devices: Iterable[str]) -> model.ClassCounters:
    """Return a class's counters, summed over all devices that hold it."""
    by_device = counters.classes
    found = [c for device in devices if (c := by_device.get(device, {}).get(number)) is not None]
    if len(found) == 1:
        return found[0]
    return model.ClassCounters(*(sum(values) for values in zip(*found, strict=True))) if found else NOTHING


NOTHING = model.ClassCounters(*([0] * len(model.ClassCounters._fields)))


def _warnings(state: model.State, rows: Iterable[Row]) -> Iterable[str]:
    for shard, ifb in sorted(state.ifbs.items()):
        if not ifb.healthy:
            yield f"{names.ifb(shard)} is down or altered: what is redirected to it is lost; a running agent repairs it"
    for shard, pair in sorted(state.pairs.items()):
        if not pair.healthy:
            yield f"{names.pair(shard)} is down or altered: what is sent there is lost; a running agent repairs it"
    for name, program in sorted(state.programs.items()):
        if not program.first or not program.sound:
            what = "is not the first there" if not program.first else "is another version's, or not kept"
            yield f"our program on {name} {what}: packets may leave past their limits; a running agent repairs it"
    families = {ipset.family for ipset in state.sets.values()} if not state.programs else ()
    for family in sorted(families):
        chain = state.chains.get(family)
        if chain is None or not chain.jump_first:
            yield f"IPv{family} packets are not looked up first of all: no agent runs, or another program is in the way"
    for row in rows:
        if row.rate_bits_per_second is None:
            yield f"{row.limit} has entries but no class: nothing is slowed; a running agent repairs it"
        elif row.bypassed:
            yield (
                f"packets of {row.limit} were seen to leave past its class just now: another program leads them past"
                " netfilter; docs/is-it-working.md, Bypassed, says what helps"
            )


# ── for people ─────────────────────────────────────────────────────────────────────────────────────────────────


def table(shown: View, now: float, *, colors: bool) -> str:
    """Return the rows as a table for people; `now` in seconds since the epoch."""
    if not shown.rows:
        return "no limit is in the kernel\n" + _warned(shown, colors=colors)
    hidden = {"PORTS"} if not any(row.ports for row in shown.rows) else set()
    hidden |= {"POLICY"} if not any(row.maker for row in shown.rows) else set()
    columns = [i for i, name in enumerate(_HEAD) if name not in hidden]
    cells = [[cell for i, cell in enumerate(_cells(row, now)) if i in columns] for row in shown.rows]
    head = [_HEAD[i] for i in columns]
    widths = [max(len(line[i]) for line in (head, *cells)) for i in range(len(head))]
    lines = [_painted(_line(head, head, widths), _BOLD if colors else "")]
    for row, line in zip(shown.rows, cells, strict=True):
        lines.append(_painted(_line(head, line, widths), _color(row) if colors else ""))
    return "\n".join(lines) + "\n" + _warned(shown, colors=colors)


def _warned(shown: View, *, colors: bool) -> str:
    lines = [_painted(printable.line(f"warning: {message}"), _RED if colors else "") for message in shown.warnings]
    return "".join(f"{line}\n" for line in lines)


def _cells(row: Row, now: float) -> tuple[str, ...]:
    rate = "-" if row.rate_bits_per_second is None else units.show_rate(row.rate_bits_per_second)
    return (
        printable.line(row.limit),
        printable.line(row.client) or _some([addresses.write(prefix) for prefix in row.prefixes]),
        _some([wording.port(port) for port in row.ports]) or "all",
        rate,
        units.show_rate(row.measured_bits_per_second),
        str(row.counters.drops),
        units.show_bytes(row.counters.backlog_bytes),
        row.mode if row.over_limit_share is None else f"{row.mode}, {row.over_limit_share:.0%} over",
        row.check,
        "-" if row.expires_at is None else wording.left(row.expires_at - now),
        "-" if row.maker is None else row.maker.which.removeprefix("the policy "),
    )


def _some(texts: Sequence[str]) -> str:
    rest = len(texts) - _CLIENTS_SHOWN
    return ", ".join(texts[:_CLIENTS_SHOWN]) + (f" +{rest}" if rest > 0 else "")


def _line(head: Sequence[str], cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if name in _RIGHT else cell.ljust(width)
        for name, cell, width in zip(head, cells, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _color(row: Row) -> str:
    if row.rate_bits_per_second is None or row.bypassed:
        return _RED
    slowed = not row.observes and row.measured_bits_per_second >= _AT_ITS_LIMIT * row.rate_bits_per_second
    return _YELLOW if slowed else ""


def _painted(text: str, color: str) -> str:
    return f"{color}{text}{_PLAIN}" if color else text


# ── for programs ───────────────────────────────────────────────────────────────────────────────────────────────


def as_json(shown: View) -> dict[str, object]:
    """Return the JSON object of `show -o json` (docs/reference/show.md)."""
    return {
        "limits": [_row_json(row) for row in shown.rows],
        "directPackets": dict(shown.direct_packets),
        "matchedPackets": {f"IPv{family}": packets for family, packets in shown.matched_packets.items()},
        "warnings": list(shown.warnings),
        "intervalSeconds": round(shown.interval_seconds, 6),
    }


def _row_json(row: Row) -> dict[str, object]:
    counters = row.counters
    return {
        "name": row.limit,
        "client": row.client or None,
        "addresses": [addresses.write(prefix) for prefix in row.prefixes],
        "ports": [{"protocol": p.protocol, "port": p.first, "endPort": p.last} for p in row.ports],
        "mode": row.mode,
        "check": row.check,
        "rateBitsPerSecond": row.rate_bits_per_second,
        "measuredBitsPerSecond": round(row.measured_bits_per_second),
        "bytes": counters.bytes,
        "packets": counters.packets,
        "drops": counters.drops,
        "overlimits": counters.overlimits,
        "overLimitShare": None if row.over_limit_share is None else round(row.over_limit_share, 4),
        "backlogBytes": counters.backlog_bytes,
        "expiresAt": None if row.expires_at is None else wording.rfc3339(row.expires_at),
        "policy": None if row.maker is None else row.maker.as_json(),
        "class": f"{names.HTB_MAJOR:x}:{row.number:x}",
        "devices": list(row.devices),
    }
