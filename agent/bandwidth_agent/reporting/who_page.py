"""What `who` prints for people: one page, whose first sentence is the answer. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence

from bandwidth_agent.kernel.objects import root
from bandwidth_agent.planner import holders
from bandwidth_agent.policies.makers import Maker
from bandwidth_agent.reporting import wording
from bandwidth_agent.reporting.who import OWN_ADDRESS, Answer, Row, Verdict
from bandwidth_agent.sight import address_readings
from bandwidth_api import addresses, plan, units
from bandwidth_runtime import printable
from bandwidth_sight import draft
from bandwidth_sight.rows import is_address

PARTS_SHOWN = 20  # of a network, how many entries for parts of it get lines
_PORTS_SHOWN = 4
_SUGGESTED = 5_000_000  # bit/s, where nothing was seen
_TTL_SECONDS = 3600
_DIRECTORY = "/etc/client-bandwidth"
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}

_BOLD, _GREEN, _YELLOW, _RED, _PLAIN = "\033[1m", "\033[32m", "\033[33m", "\033[31m", "\033[0m"
_COLORS = {
    Verdict.HELD: _GREEN,
    Verdict.OBSERVED: _YELLOW,
    Verdict.UNCLEAR: "",
    Verdict.NOTHING_SEEN: "",
    Verdict.NO_LIMIT: "",
}
_NO_ROUTE = "no route leads there: no packet leaves for it"
_WIDTH = 12  # of the words before each line


def page(found: Answer, now: float, *, colors: bool) -> str:
    """Return the page; `now` in seconds since the epoch."""
    color = (_COLORS.get(found.verdict, _RED) or _BOLD) if colors else ""
    lines = [f"{color}{printable.line(headline(found))}{_PLAIN if color else ''}"]
    shown = [row for row in found.rows if row.whole] + [row for row in found.rows if not row.whole][:PARTS_SHOWN]
    if shown:
        lines += ["", *_table(shown, now, rules_known=found.rules_known)]
        hidden = len(found.rows) - len(shown)
        lines += [f"… and {hidden} more entries for parts of it (-o json has them all)"] if hidden else []
    details = [*_details(found, shown, now)]
    if details:
        lines += ["", *(f"{word:<{_WIDTH}}{printable.line(text)}".rstrip() for word, text in details)]
    lines += [printable.line(f"warning: {message}") for message in found.problems]
    lines += [printable.line(f"missing: {message}") for message in found.missing]
    commands = suggestions(found)
    if commands:
        lines += ["", "To slow it down for an hour, with a reason that others will read:"]
        lines += [f"  {where:<14}{command}" for where, command in commands]
    return "\n".join(lines) + "\n"


# ── the answer in one sentence ─────────────────────────────────────────────────────────────────────────────────


def headline(found: Answer) -> str:
    """Return the answer in one sentence."""
    client = _client(found)
    first = next((row for row in found.rows if row.verdict is found.verdict), None)
    if first is None:
        return _of_nobody(found, client)
    if not first.whole:
        client = f"{addresses.write(first.holder.prefix)} in {client}"
    limit, rate = _limit(found, first), _rate(first.rate_bits_per_second)
    now = units.show_rate(_taken(first))
    match found.verdict:
        case Verdict.NOT_IN_FORCE:
            return f"The limit {limit} names {client}, but does not slow it: {first.why_not}."
        case Verdict.BYPASSED:
            return (
                f"The limit {limit} does not hold {client}: {now}/s leave for it, and they leave past the class that"
                f" should hold it at {rate}/s."
            )
        case Verdict.OBSERVED:
            share = f", {first.over_share:.0%} of it above" if first.over_share else ""
            return f"The limit {limit} only observes {client}: {now}/s now, beside a rate of {rate}/s{share}."
        case Verdict.UNCLEAR:
            return (
                f"{client} has the limit {limit} of {rate}/s; {_seconds(found)} showed too little to say whether it"
                " holds: look longer with --seconds."
            )
        case Verdict.NOTHING_SEEN:
            return f"{client} is held at {rate}/s by the limit {limit}; nothing left for it in {_seconds(found)}."
        case _:
            how = "as much as it may" if first.at_limit else "less than it may, so nothing is slowed now"
            return f"{client} is held at {rate}/s by the limit {limit}: {now}/s now, {how}."


def _limit(found: Answer, row: Row) -> str:
    """Return the name of a limit, and behind it the policy that made it."""
    name = row.holder.label.key.limit
    maker = found.makers.get(name)
    return name if maker is None else f"{name} (made by {maker.which})"


def _of_nobody(found: Answer, client: str) -> str:
    seen = found.seen
    now = f"{units.show_rate(seen.bits_per_second)}/s left for it in {_seconds(found)}" if seen is not None else ""
    if found.verdict is Verdict.UNKNOWN:
        return f"Which limit holds {client} cannot be told here" + (f"; {now}." if now else ".")
    if seen is not None and not seen.packets:
        now = f"nothing left for it in {_seconds(found)}"
    excepted = next((hole.label.key.limit for hole in found.excepted if hole.label.key.limit), "")
    why = f": the limit {excepted} excepts it" if excepted else ""
    return f"No limit holds {client}{why}" + (f"; {now}." if now else ".")


def _client(found: Answer) -> str:
    text = addresses.write(found.address)
    return text if found.port is None else f"{text} at port {wording.port(found.port)}"


def _taken(row: Row) -> float:
    """What the address takes now: what was seen leaving for it, else what its class let out."""
    return row.measured_bits_per_second if row.own_bits_per_second is None else row.own_bits_per_second


def _rate(bits_per_second: int | None) -> str:
    return "-" if bits_per_second is None else units.show_rate(bits_per_second)


def _seconds(found: Answer) -> str:
    seconds = found.seen.seconds if found.seen is not None else found.seconds
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


# ── the table ──────────────────────────────────────────────────────────────────────────────────────────────────

_HEAD = ("LIMIT", "ENTRY", "PORTS", "RATE", "CLASS NOW", "DROPS", "BACKLOG", "MODE", "EXPIRES", "VERDICT")
_RIGHT = frozenset({"RATE", "CLASS NOW", "DROPS", "BACKLOG"})
_WORDS = {
    Verdict.BYPASSED: "leaves past the class",
    Verdict.NOT_IN_FORCE: "not in force",
    Verdict.HELD: "held",
    Verdict.OBSERVED: "observed",
    Verdict.UNCLEAR: "unclear",
    Verdict.NOTHING_SEEN: "nothing seen",
}


def _table(rows: Sequence[Row], now: float, *, rules_known: bool) -> Iterator[str]:
    rest = "other" if any(row.holder.ports for row in rows) else "all"
    cells = [_HEAD, *(_cells(row, now, rest if rules_known else "unknown") for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(_HEAD, line, widths, strict=True)
        )
        yield "  ".join(padded).rstrip()


def _cells(row: Row, now: float, rest: str) -> tuple[str, ...]:
    label = row.holder.label
    ports = _some([wording.port(each) for each in row.holder.ports], _PORTS_SHOWN)
    at_limit = ", at its limit" if row.verdict is Verdict.HELD and row.at_limit else ""
    return (
        printable.line(" ".join(filter(None, (label.key.limit, label.key.client)))),
        addresses.write(row.holder.prefix),
        ports or rest,
        _rate(row.rate_bits_per_second),
        units.show_rate(row.measured_bits_per_second),
        str(row.drops),
        units.show_bytes(row.backlog_bytes),
        (plan.Mode.OBSERVE if row.observes else plan.Mode.ENFORCE).value,
        "-" if label.expires_at is None else wording.left(label.expires_at - now),
        _WORDS[row.verdict] + at_limit,
    )


def _some(texts: Sequence[str], most: int) -> str:
    rest = len(texts) - most
    return ", ".join(texts[:most]) + (f" +{rest}" if rest > 0 else "")


# ── how it is so ───────────────────────────────────────────────────────────────────────────────────────────────


def _details(found: Answer, shown: Sequence[Row], now: float) -> Iterator[tuple[str, str]]:
    """Yield lines, each with the word before it."""
    for maker in dict.fromkeys(found.makers.get(row.holder.label.key.limit) for row in shown):
        if maker is not None:
            yield from _of_policy(maker, now)
    seen = found.seen
    if seen is not None:
        by_port = f": {_by_port(seen)}" if seen.ports else ""
        yield "seen", f"{units.show_rate(seen.bits_per_second)}/s left for it in {_seconds(found)}{by_port}"
        if seen.lost:
            yield "", f"estimated: {seen.lost} packets to all came too fast to be looked at"
        for row in (row for row in shown if row.whole):
            if row.passed is not None and row.passed.packets:
                yield "", _passed(row.holder, row.passed, seen)
    if found.ways is not None:
        yield "way", _way(found)
    for row in shown:
        if row.whole:
            yield "found by", _found_by(row)
    for hole in found.excepted:
        limit = f", excepted by the limit {hole.label.key.limit}" if hole.label.key.limit else ""
        ports = f" for {_some([wording.port(p) for p in hole.ports], _PORTS_SHOWN)}" if hole.ports else ""
        yield "excepted", f"{addresses.write(hole.prefix)} is a hole in the set {hole.set_name}{ports}{limit}"
    for peer, what in [*found.peers.items()][:PARTS_SHOWN]:
        yield "no client", f"{addresses.write(peer)} is the {what}: another node or a router, not who asked"
    for prefix, why in found.protected.items():
        yield "protected", f"{addresses.write(prefix)}: {why}; no limit may touch it"
    if found.refused and not found.protected:
        yield "refused", f"{found.refused}"


def _of_policy(maker: Maker, now: float) -> Iterator[tuple[str, str]]:
    """Yield why a policy made a limit, what ends it, and what a pardon is."""
    yield "why", maker.why
    below, following = maker.lifted_below_bits_per_second, maker.following
    if maker.terms is not None and below is not None:
        yield "lifted", f"when it gets less than {units.show_rate(below)}/s for {_for(maker.terms.lift_seconds)}"
    if following is not None:
        becomes = f"{units.show_rate(following.rate_bits_per_second)}/s for {_for(following.seconds)}"
        left = _for(max(1, round(maker.expires_at - now)))
        yield "else", f"in {left} it ends, or if the client still presses against it becomes {becomes}"
    pardon = maker.pardon_seconds(now)
    alone = "" if pardon is None else f"; then it is left alone for {_for(pardon)}"
    yield "pardon", f"rm {shlex.quote(maker.file)}{alone}"


def _for(seconds: int) -> str:
    """Return a duration in its two largest units."""
    return wording.left(seconds).removeprefix("in ").replace(" 0s", "").replace(" 0m", "").replace(" 0h", "")


def _by_port(seen: address_readings.Seen) -> str:
    largest = sorted(seen.ports.items(), key=lambda each: -each[1])
    texts = [
        f"{_port(protocol, port)} {units.show_rate(size * 8 / seen.seconds)}/s" for (protocol, port), size in largest
    ]
    return _some(texts, _PORTS_SHOWN)


def _port(protocol: int, port: int) -> str:
    name = _PROTOCOLS.get(protocol, f"protocol {protocol}")
    return f"{port}/{name}" if port >= 0 else name


def _passed(holder: holders.Holder, passed: address_readings.Passed, seen: address_readings.Seen) -> str:
    left = units.show_rate(passed.left_bytes * 8 / seen.seconds)
    through = units.show_rate(passed.class_bytes * 8 / (seen.class_seconds or seen.seconds))
    return f"to all clients of {holder.label.key.limit}: {left}/s left, and its class let {through}/s out"


def _way(found: Answer) -> str:
    if not found.ways:
        if found.protected.get(found.address) == OWN_ADDRESS:
            return "none: what is sent to it stays on this host"
        of_nobody = is_address(found.address) and draft.refusal(found.address)
        return "none is asked for: no client has such an address" if of_nobody else _NO_ROUTE
    texts = []
    for way in found.ways:
        part = "" if way.part == found.address else f"{addresses.write(way.part)} "
        names = ", ".join(f"{name}{_how(found, name)}" for name in sorted(way.interfaces))
        table = f", routing table {way.table}" if way.table else ""
        some = ", some packets only" if way.picked else ""
        texts.append(f"{part}by {names}{table}{some}")
    return "; ".join(texts)


def _how(found: Answer, interface: str) -> str:
    if not found.known:
        return ""
    if interface in found.shaped:
        return " (shaped)"
    return " (not shaped now; is while there is a limit)" if interface in found.egress else " (not shaped)"


def _found_by(row: Row) -> str:
    entry = row.holder.entry
    what = f"mark {entry.mark:#x}/{entry.mask:#x}" if entry.mask else ""
    priority = f"priority {root.classid(row.holder.number)}" if entry.priority else ""
    carried = " and ".join(filter(None, (what, priority)))
    where = f" on {', '.join(row.devices)}" if row.devices else ""
    return (
        f"set {row.holder.set_name}, entry {addresses.write(row.holder.prefix)}: {carried}, "
        f"class {root.classid(row.holder.number)}{where}"
    )


# ── what would slow it ─────────────────────────────────────────────────────────────────────────────────────────


def suggestions(found: Answer) -> tuple[tuple[str, str], ...]:
    """Return the commands that would slow an address without a limit: (where, command)."""
    if found.verdict is not Verdict.NO_LIMIT or found.refused or found.peers:
        return ()
    taken = found.seen.bits_per_second if found.seen is not None else 0.0
    drafted = draft.Draft(
        name=draft.name(found.address),
        client=found.address,
        rate_bits_per_second=units.parse_rate(draft.suggested_rate(taken or 3 * _SUGGESTED)),
        ttl_seconds=_TTL_SECONDS,
        reason="WHY",
    )
    client, rate = addresses.write(found.address), units.write_rate(drafted.rate_bits_per_second)
    manifest, port = draft.as_object(drafted), ""
    if found.port is not None:
        manifest["spec"]["egress"]["ports"] = [{"protocol": found.port.protocol, "port": found.port.first}]
        port = f" --ports {wording.port(found.port)}"
    written = json.dumps(manifest, separators=(",", ":"))
    return (
        ("on one host", f"echo '{written}' > {_DIRECTORY}/{drafted.name}.json"),
        ("in a cluster", f"kubectl cbl slow {client} --rate {rate}{port} --for 1h --reason WHY"),
    )
