"""What is known of the traffic of one client at each node, and whether that is too much, little, or pressing. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_api import units
from bandwidth_api.crds.policy import Scope, Spec
from bandwidth_api.policy import window
from bandwidth_api.policy.reports import BITS, RECENT_SECONDS, Report
from bandwidth_api.policy.window import Window

MINUTE_SECONDS = 60.0
PRESSING_USE = 0.9  # of its limit, in the last minute
# A sixth of a window counts at most twice the threshold: bursts that come again and again count in full, and one that
# is over in less than a third of the window is no long one, however large.
PARTS = 6
COUNTED_MOST = 2.0
ALL_NODES = "all nodes"
_STALE_SECONDS = 10.0


class Measured(NamedTuple):
    """What the windows of a client at one node say at one time, in bytes."""

    at: float
    recent_a_second: float
    rate: tuple[float, ...]  # by parts of the window, as of the share
    share: tuple[float, ...]
    volume: float


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What one node sent one client, in bytes; a window that the policy does not need stays empty."""

    rate: Window
    share: Window
    volume: Window
    recent: Window
    minute: Window
    known: Window  # seconds of which the bytes are known
    held: Window  # seconds in which its class held packets back
    measured: Measured | None = None  # by the last report that named it


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """What one node said of itself."""

    ended_at: float
    seconds: float  # of its last report
    sent: Window
    capacity_bits_per_second: int | None

    def fresh(self, at: float) -> bool:
        """Whether its last report still speaks of now."""
        return at - self.ended_at <= max(_STALE_SECONDS, 3 * self.seconds)


class Figures(NamedTuple):
    """Of a client that is hot: at one node, or at all together, all that its policy says holds."""

    excess: float  # how many times the threshold
    text: str  # the figures, for people


def nothing(spec: Spec) -> Seen:
    """Return the windows of a policy, empty."""
    when = spec.when
    lasting = [each.for_seconds for each in (when.rate, when.share) if each is not None]
    return Seen(
        Window(when.rate.for_seconds if when.rate else 0.0),
        Window(when.share.for_seconds if when.share else 0.0),
        Window(when.volume.within_seconds if when.volume else 0.0),
        Window(min([RECENT_SECONDS, *lasting])),
        Window(MINUTE_SECONDS),
        Window(MINUTE_SECONDS),
        Window(MINUTE_SECONDS),
    )


def heard(node: Node | None, spec: Spec, report: Report) -> Node:
    """Return what is known of a node after one more report."""
    sent = node.sent if node is not None else Window(spec.when.uplink.for_seconds if spec.when.uplink else 0.0)
    if sent.seconds and report.sent_bytes:
        sent = window.add(sent, report.ended_at - report.seconds, report.ended_at, report.sent_bytes)
    named = spec.when.uplink.capacity if spec.when.uplink is not None else None
    return Node(report.ended_at, report.seconds, sent, named or report.capacity_bits_per_second or None)


def received(seen: Seen, report: Report, number_bytes: float, over_limits: int | None) -> Seen:
    """Return what is known of a client at a node after one more report."""
    began, ended, seconds = report.ended_at - report.seconds, report.ended_at, report.seconds
    added: dict[str, Window] = {}

    def add(name: str, amount: float) -> None:
        known: Window = getattr(seen, name)
        if known.seconds and (amount > 0 or known.buckets):
            added[name] = window.add(known, began, ended, amount)

    for name in ("rate", "share", "volume", "recent", "minute"):
        add(name, number_bytes)
    add("known", seconds)
    if over_limits is not None:
        add("held", seconds if over_limits > 0 else 0.0)
    after = dataclasses.replace(seen, measured=None, **added)
    return dataclasses.replace(after, measured=_measure(after, ended))


# ── is it too much? ────────────────────────────────────────────────────────────────────────────────────────────


def figures(
    spec: Spec, seen: Mapping[str, Seen], nodes: Mapping[str, Node], at: float, next_rate: int
) -> Figures | None:
    """Return the figures of a client where it is hottest; None: it is hot nowhere, or no node says anything of now.

    `next_rate`: what the next limit would allow. A client that gets less than that now is not hot.
    """
    places = [(name, [(seen[name], nodes[name])]) for name in seen if name in nodes and nodes[name].fresh(at)]
    if spec.watch.scope is Scope.CLUSTER and places:
        places = [(ALL_NODES, [place for _, (place,) in places])]
    found = (_place(spec, name, parts, next_rate) for name, parts in places)
    return max((each for each in found if each is not None), key=lambda each: each.excess, default=None)


def _place(spec: Spec, name: str, parts: list[tuple[Seen, Node]], next_rate: int) -> Figures | None:
    when, texts, excess = spec.when, [], 0.0
    measured = [_measured(seen, node.ended_at) for seen, node in parts]
    recent = BITS * sum(each.recent_a_second for each in measured)
    if recent <= next_rate:
        return None
    capacities = [node.capacity_bits_per_second for _, node in parts]
    capacity = sum(each or 0 for each in capacities) if all(capacities) else None
    if when.rate is not None:
        above, seconds = when.rate.above, when.rate.for_seconds
        mean = _mean([each.rate for each in measured], seconds, above)
        if mean is None or recent <= above:
            return None
        excess = mean / above
        texts.append(f"more than {_rate(above)} over {seconds} s")
    if when.volume is not None:
        volume = sum(each.volume for each in measured)
        if volume <= when.volume.above:
            return None
        excess = max(excess, volume / when.volume.above)
        texts.append(f"{units.show_bytes(volume)} within {when.volume.within_seconds} s")
    if when.share is not None:
        percent, seconds = when.share.above_percent, when.share.for_seconds
        above = (capacity or 0) * percent // 100
        mean = _mean([each.share for each in measured], seconds, above)
        if capacity is None or mean is None or recent <= above:
            return None
        excess = max(excess, mean / above)
        texts.append(f"more than {percent} % of {_rate(capacity)} over {seconds} s")
    if when.uplink is not None:
        sent = BITS * sum(window.mean(node.sent, node.ended_at) for _, node in parts)
        if capacity is None or (busy := 100 * sent / capacity) <= when.uplink.above_percent:
            return None
        texts.append(f"the uplink at {busy:.0f} % of {_rate(capacity)}")
    return Figures(excess, f"{', '.join(texts)}; {_rate(recent)} now on {name}")


def _mean(parts: list[tuple[float, ...]], seconds: float, above: int) -> float | None:
    """Return the mean of these windows together in bits per second; None where what counts of it is not above."""
    bits = [BITS * sum(each) for each in zip(*parts, strict=True)]
    enough = COUNTED_MOST * above * seconds / PARTS
    return sum(bits) / seconds if sum(min(each, enough) for each in bits) > above * seconds else None


def _measured(seen: Seen, at: float) -> Measured:
    known = seen.measured
    return known if known is not None and known.at == at else _measure(seen, at)


def _measure(seen: Seen, at: float) -> Measured:
    def parts(of: Window) -> tuple[float, ...]:
        return tuple(window.parts(of, at, PARTS)) if of.seconds else ()

    return Measured(
        at, window.mean(seen.recent, at), parts(seen.rate), parts(seen.share), window.total(seen.volume, at)
    )


def _rate(bits_per_second: float) -> str:
    return units.show_rate(bits_per_second)


# ── how does it use its limit? ─────────────────────────────────────────────────────────────────────────────────


def is_high(report: Report, number_bytes: float, rate_bits_per_second: int, percent: int) -> bool:
    """Return whether a client got at least so many per cent of its limit in the time of one report."""
    return BITS * number_bytes / report.seconds >= rate_bits_per_second * percent / 100


def use(seen: Mapping[str, Seen], nodes: Mapping[str, Node], at: float, rate_bits_per_second: int) -> float | None:
    """Return how much of its limit a client uses now, where most; None where a node that served it is silent."""
    found = []
    for name, each in seen.items():
        if name in nodes:
            if not nodes[name].fresh(at) or window.total(each.known, nodes[name].ended_at) <= 0:
                return None
            found.append(BITS * window.mean(each.recent, nodes[name].ended_at) / rate_bits_per_second)
    return max(found, default=None)


def presses(
    spec: Spec, seen: Mapping[str, Seen], nodes: Mapping[str, Node], at: float, rate_bits_per_second: int
) -> bool:
    """Return whether a client would get more at some node if it were allowed, by the last minute.

    It gets nearly all that its limit allows; or, as a slow flow does, less, while its class holds packets back in at
    least half of the time.
    """
    for name, each in seen.items():
        if name not in nodes or not nodes[name].fresh(at):
            continue
        ended = nodes[name].ended_at
        known = min(MINUTE_SECONDS, window.total(each.known, ended))
        if known <= 0:
            continue
        used = BITS * window.total(each.minute, ended) / known / rate_bits_per_second
        held = window.total(each.held, ended) / known
        if used >= PRESSING_USE or (held >= 0.5 and used >= spec.lift.when_below_percent / 100):
            return True
    return False


def lives(seen: Seen, at: float) -> bool:
    """Return whether any of the windows still holds something."""
    return any(window.total(each, at) > 0 for each in (seen.rate, seen.share, seen.volume, seen.minute))


def lately(seen: Mapping[str, Seen], at: float) -> float:
    """Return the bytes of the last minute at all nodes."""
    return sum(window.total(each.minute, at) for each in seen.values())
