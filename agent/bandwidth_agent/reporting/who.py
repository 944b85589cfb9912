"""What `who` finds out about one address: what holds it, whether that works, and what would slow it. Pure.

From a kernel state, two readings of the counters, the ways to the address and what a capture saw leave, to an answer;
`who_page` writes it for people, `who_json` for programs. Reads no kernel and no clock.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from bandwidth_agent.kernel import model
from bandwidth_agent.kernel.objects import root
from bandwidth_agent.planner import holders, way_out
from bandwidth_agent.planner.placement import datapath_sign
from bandwidth_agent.policies.makers import Maker
from bandwidth_agent.reporting import show
from bandwidth_agent.sight.address_readings import Passed, Readings, Seen
from bandwidth_agent.sight.truth import advice
from bandwidth_api import addresses, plan
from bandwidth_api.plan import PortRange, Prefix
from bandwidth_sight import draft

OWN_ADDRESS = "an address of this node"
AT_ITS_LIMIT = 0.95  # of its rate: the class is slowing now


class Verdict(enum.StrEnum):
    """In one word, for programs; of several limits the first of these."""

    UNKNOWN = "Unknown"  # a privilege is missing without which the sets cannot be read
    BYPASSED = "Bypassed"  # a limit holds it, and its packets leave past the class
    NOT_IN_FORCE = "NotInForce"  # a limit names it, and the kernel does not lead its packets to a class
    HELD = "Held"  # a limit holds it, and its packets come out of the class
    OBSERVED = "Observed"  # a limit in mode Observe counts it, and slows nothing
    UNCLEAR = "Unclear"  # packets were seen that did not come out of the class, too few or for too short to prove it
    NOTHING_SEEN = "NothingSeen"  # a limit holds it, and no packet left for it meanwhile
    NO_LIMIT = "NoLimit"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One limit that holds the address, or a part of the network that was asked for."""

    holder: holders.Holder
    whole: bool
    devices: tuple[str, ...]  # whose class takes its packets
    why_not: str  # "": the kernel leads its packets to a class
    rate_bits_per_second: int | None
    measured_bits_per_second: float  # of the class, which other clients of the limit may share
    drops: int  # meanwhile
    backlog_bytes: int
    observes: bool
    over_share: float | None  # of an Observe class: of what was sent meanwhile, what would have been slowed
    own_bits_per_second: float | None  # to the address, seen leaving; None: nothing was captured
    passed: Passed | None
    bypassed: str  # the problem, as the limit's status has it; "": nothing proves one
    verdict: Verdict

    @property
    def at_limit(self) -> bool:
        return (
            self.rate_bits_per_second is not None
            and not self.observes
            and self.measured_bits_per_second >= AT_ITS_LIMIT * self.rate_bits_per_second
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Everything that `who` prints."""

    address: Prefix
    port: PortRange | None
    rows: tuple[Row, ...]
    excepted: tuple[holders.Holder, ...]
    peers: Mapping[Prefix, str]  # in what was asked for: hosts that this node hands packets of others to
    protected: Mapping[Prefix, str]
    refused: str  # why no limit may name it; "": one may
    ways: tuple[model.Way, ...] | None  # None: not known
    shaped: frozenset[str]
    egress: frozenset[str]  # shaped while there is a limit
    seen: Seen | None
    seconds: float  # between the two readings of the counters
    problems: tuple[str, ...]
    missing: tuple[str, ...]
    makers: Mapping[str, Maker]  # by limit, of those that policies made
    known: bool  # whether sets and devices could be read
    rules_known: bool
    verdict: Verdict


def answer(
    address: Prefix,
    port: PortRange | None,
    read: Readings,
    protected: Mapping[Prefix, str],
    missing: tuple[str, ...] = (),
    makers: Mapping[str, Maker] = MappingProxyType({}),
) -> Answer:
    """Return what is known of an address.

    `protected`: by address why no limit may touch it; `makers`: by limit the policy that made it.
    """
    found = holders.holding(read.state, address, port, rules_known=read.rules_known)
    ways = _ways(address, read)
    problems = _problems(address, read, ways, bool(found.holders or found.inside))
    interfaces = _interfaces(ways, read.shaped or read.egress)
    rows = tuple(
        _row(holder, whole, read, interfaces, found.unasked or next(iter(problems), ""))
        for whole, of_them in ((True, found.holders), (False, found.inside))
        for holder in of_them
    )
    touching = {p: why for p, why in protected.items() if addresses.covers(p, address) or addresses.covers(address, p)}
    of_rows = (row.why_not or row.bypassed for row in rows)
    reasons = dict.fromkeys(filter(None, (found.unasked, *problems, *of_rows)))
    return Answer(
        address=address,
        port=port,
        rows=rows,
        excepted=found.excepted,
        peers={peer: what for peer, what in read.peers.items() if addresses.covers(address, peer)},
        protected=touching,
        refused=_refused(address, touching),
        ways=ways,
        shaped=read.shaped,
        egress=read.egress,
        seen=read.seen,
        seconds=_seconds(read),
        problems=tuple(reasons),
        missing=missing,
        makers=makers,
        known=read.known,
        rules_known=read.rules_known,
        verdict=_verdict(rows, known=read.known),
    )


def _verdict(rows: Collection[Row], *, known: bool) -> Verdict:
    if not known:
        return Verdict.UNKNOWN
    found = {row.verdict for row in rows}
    return next((verdict for verdict in Verdict if verdict in found), Verdict.NO_LIMIT)


def _seconds(read: Readings) -> float:
    return read.after.at - read.before.at if read.before is not None and read.after is not None else 0.0


def _ways(address: Prefix, read: Readings) -> tuple[model.Way, ...] | None:
    return None if read.ways is None else read.ways.of.get(address, ())


def _interfaces(ways: tuple[model.Way, ...] | None, shaped: frozenset[str]) -> tuple[str, ...]:
    """The shaped interfaces by which packets to the address leave; all, where the way is not known or not shaped."""
    reached = {name for way in ways or () for name in way.interfaces} & shaped
    return tuple(sorted(reached or shaped))


def _problems(address: Prefix, read: Readings, ways: tuple[model.Way, ...] | None, held: bool) -> tuple[str, ...]:
    """Why packets to the address do not come to what slows them, as far as their way shows."""
    if not held or read.ways is None or ways is None:
        return ()
    entry = way_out.entry_of(str(addresses.write(address)), (address,))
    known = way_out.WayOut()
    known.unasked((entry,), read.facts, read.shaped or read.egress)
    known.learn(read.ways)
    problems, _ = known.problems((entry,))
    problems = problems | way_out.asleep((entry,), read.facts.idle)
    return tuple(problem.message for problem in problems.values())


def _refused(address: Prefix, touching: Mapping[Prefix, str]) -> str:
    """Why no limit may name the address."""
    for prefix, why in touching.items():
        return f"{addresses.write(prefix)} is {why}"
    return draft.refusal(address)


def _row(holder: holders.Holder, whole: bool, read: Readings, interfaces: tuple[str, ...], why_not: str) -> Row:
    paths = [holders.device(read.state, interface, holder) for interface in interfaces]
    devices = tuple(dict.fromkeys(device for device, _ in paths if device))
    why_not = why_not or next((why for _, why in paths if why), "") or ("" if devices else "no interface is shaped")
    trees = read.state.trees
    holding = devices or tuple(sorted(name for name, tree in trees.items() if holder.number in tree.classes))
    htb = trees[holding[0]].classes[holder.number] if holding else None
    if htb is None:
        why_not = f"its class {root.classid(holder.number)} is missing; a running agent puts it right"
    observes = htb is not None and htb.ceil > htb.rate
    moved, backlog_bytes = _moved(read, holder.number, holding)
    sent, seconds, seen = moved.lended + moved.borrowed, _seconds(read), read.seen
    row = Row(
        holder=holder,
        whole=whole,
        devices=devices,
        why_not=why_not,
        rate_bits_per_second=None if htb is None else htb.rate * 8,
        measured_bits_per_second=moved.bytes * 8 / seconds if seconds > 0 else 0.0,
        drops=moved.drops,
        backlog_bytes=backlog_bytes,
        observes=observes,
        over_share=(moved.borrowed / sent if sent else 0.0) if observes else None,
        own_bits_per_second=None if seen is None or not seen.seconds else _own(seen, holder.number),
        passed=None if seen is None else seen.classes.get(holder.number),
        bypassed=_bypassed(read, holder.number),
        verdict=Verdict.HELD,
    )
    return dataclasses.replace(row, verdict=_verdict_of(row))


def _bypassed(read: Readings, number: int) -> str:
    finding = None if read.seen is None else read.seen.bypassed.get(number)
    if finding is None:
        return ""
    sign = datapath_sign.found(read.facts.interfaces, sorted(read.shaped))
    leads = finding.interface in read.shaped | read.egress
    return advice.problem(
        finding, sign, advice.remedy(read.facts.features, read.state) if leads else advice.NONE
    ).message


def _own(seen: Seen, number: int) -> float:
    return seen.own.get(number, 0) * 8 / seen.seconds


def _moved(read: Readings, number: int, devices: Iterable[str]) -> tuple[model.ClassCounters, int]:
    """What a class has counted between the readings, and what waits in it at the end."""
    if read.before is None or read.after is None:
        return show.NOTHING, 0
    now, earlier = show.total(read.after, number, devices), show.total(read.before, number, devices)
    # Less than before: the class was made again in between.
    return model.ClassCounters(*(max(0, a - b) for a, b in zip(now, earlier, strict=True))), now.backlog_bytes


def _verdict_of(row: Row) -> Verdict:
    if row.why_not:
        return Verdict.NOT_IN_FORCE
    if row.bypassed:
        return Verdict.BYPASSED
    if row.passed is not None and row.passed.astray:
        return Verdict.UNCLEAR
    if row.observes:
        return Verdict.OBSERVED
    taken = row.measured_bits_per_second if row.own_bits_per_second is None else row.own_bits_per_second
    return Verdict.HELD if taken else Verdict.NOTHING_SEEN


def protection(facts: model.Facts, named: Collection[str]) -> Mapping[plan.Prefix, str]:
    """Return by address why no limit of this node may touch it; `named`: with --protected."""
    found = {addresses.parse(text): "an address that --protected names" for text in named}
    found |= dict.fromkeys(facts.gateways, "a gateway of this node")
    found |= facts.spared
    return found | dict.fromkeys(facts.addresses, OWN_ADDRESS)
