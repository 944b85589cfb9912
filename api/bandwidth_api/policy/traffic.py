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
    """What one client gets at one node, or at all together."""

    hot: bool  # all that the policy says holds
    node: str
    recent_bits_per_second: float
    capacity_unknown: bool
    excess: float  # how many times the threshold: the hottest first
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
        *(Window(MINUTE_SECONDS) for _ in range(3)),
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
    return dataclasses.replace(seen, **added)


# ── is it too much? ────────────────────────────────────────────────────────────────────────────────────────────


def figures(
    spec: Spec, seen: Mapping[str, Seen], nodes: Mapping[str, Node], at: float, next_rate: int
) -> Figures | None:
    """Return what a client gets where it gets most, hot places first; None where no node says anything of now.

    `next_rate`: what the next limit would allow. A client that gets less than that now is not hot.
    """
    places = [(name, [(seen[name], nodes[name])]) for name in seen if name in nodes and nodes[name].fresh(at)]
    if spec.watch.scope is Scope.CLUSTER and places:
        places = [(ALL_NODES, [place for _, (place,) in places])]
    found = [_place(spec, name, parts, next_rate) for name, parts in places]
    return max(found, key=lambda each: (each.hot, each.excess), default=None)


def _place(spec: Spec, name: str, parts: list[tuple[Seen, Node]], next_rate: int) -> Figures:
    when = spec.when
    recent = BITS * sum(window.mean(seen.recent, node.ended_at) for seen, node in parts)
    capacities = [node.capacity_bits_per_second for _, node in parts]
    capacity = sum(each or 0 for each in capacities) if all(capacities) else None
    holds, texts, excess, unknown = [recent > next_rate], [], 0.0, False
    if when.rate is not None:
        least = when.rate.above
        mean, counted = _means([(seen.rate, node.ended_at) for seen, node in parts], least)
        holds.append(counted > least and recent > least)
        excess = max(excess, mean / least)
        texts.append(f"more than {_rate(when.rate.above)} over {when.rate.for_seconds} s")
    if when.volume is not None:
        volume = sum(window.total(seen.volume, node.ended_at) for seen, node in parts)
        holds.append(volume > when.volume.above)
        excess = max(excess, volume / when.volume.above)
        texts.append(f"{units.show_bytes(volume)} within {when.volume.within_seconds} s")
    if when.share is not None:
        unknown |= capacity is None
        least = (capacity or 0) * when.share.above_percent // 100
        mean, counted = _means([(seen.share, node.ended_at) for seen, node in parts], least)
        holds.append(capacity is not None and counted > least and recent > least)
        excess = max(excess, mean / least if least else 0.0)
        texts.append(
            f"more than {when.share.above_percent} % of {_rate(capacity or 0)} over {when.share.for_seconds} s"
        )
    if when.uplink is not None:
        unknown |= capacity is None
        sent = BITS * sum(window.mean(node.sent, node.ended_at) for _, node in parts)
        busy = 100 * sent / capacity if capacity else 0.0
        holds.append(busy > when.uplink.above_percent)
        texts.append(f"the uplink at {busy:.0f} % of {_rate(capacity or 0)}")
    text = f"{', '.join(texts)}; {_rate(recent)} now on {name}"
    return Figures(all(holds), name, recent, unknown, excess, text)


def _means(windows: list[tuple[Window, float]], most: int) -> tuple[float, float]:
    """Return the mean of these windows together, each at its own time, and the mean that counts; in bits per second.

    `most`: the threshold, in bits per second; COUNTED_MOST times that is the most that a part counts.
    """
    seconds = windows[0][0].seconds
    bits = [BITS * sum(each) for each in zip(*(window.parts(*of, PARTS) for of in windows), strict=True)]
    enough = COUNTED_MOST * most * seconds / PARTS
    return sum(bits) / seconds, sum(min(each, enough) for each in bits) / seconds


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
