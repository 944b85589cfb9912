"""How fast one client is on each node, from the reports of the nodes, and whether that is within its limit. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from bandwidth_api import addresses
from bandwidth_api.crds import client_rows, client_traffic
from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_api.plan import Prefix

WINDOW = 0  # the last two seconds: nobody has looked for longer
RANKED_BY = 1  # ten seconds: what a node has rows of is chosen by these
SAMPLES_LEAST = 4  # for a rate; a client that has fewer is averaged over a longer time
NOTHING_SAMPLES = 3.0  # what was never sampled would have had that many, but for one case in twenty
SETTLED_SECONDS = 2
SLACK = 1.05  # a class lets its burst by, and headers below IP do not count here


@dataclasses.dataclass(frozen=True, slots=True)
class Now:
    """What a client gets from one node now."""

    bits_per_second: float
    error: float | None  # relative; None: nothing was sampled
    at_most: bool  # it is too small for a row of this node: it gets no more than that

    @property
    def highest(self) -> float:
        """What it gets at most, but for one case in forty."""
        return self.bits_per_second * (1 + 2 * (self.error or 0.0))

    @property
    def lowest(self) -> float:
        """What it gets at least, but for one case in a thousand: it decides whether a limit is said not to hold."""
        return 0.0 if self.at_most else self.bits_per_second * max(0.0, 1 - 3 * (self.error or 0.0))


def by_node(reports: Iterable[Traffic], client: Prefix) -> Mapping[str, Now]:
    """Return what a client, or all clients in a network together, get from each node that reports."""
    return {report.node: _on(report, client) for report in reports if not report.message}


def held(now: Now, limit_bits_per_second: int) -> str:
    """Return in one word whether a rate is within a limit: `held`, `over`, `below`, or `` where it cannot be said."""
    if limit_bits_per_second <= 0:
        return ""
    if now.at_most and now.bits_per_second > limit_bits_per_second:
        return ""
    if now.lowest > SLACK * limit_bits_per_second:
        return "over"
    return "held" if now.highest >= 0.9 * limit_bits_per_second and not now.at_most else "below"


def _single(report: Traffic) -> list[client_rows.Row]:
    return [row for row in report.rows if row.client.length == addresses.BITS[row.client.family]]


def _smallest(report: Traffic) -> float:
    """Return the smallest rate of a row, in the time by which rows are the largest."""
    return min((row.rates[RANKED_BY].bits_per_second for row in _single(report)), default=0.0)


def is_settled(report: Traffic, client: Prefix) -> bool:
    """Return whether a node has looked for this client long enough, or cannot look at all."""
    named = _named(report, client)
    return bool(report.message) or (named is not None and named.seconds >= SETTLED_SECONDS)


def _named(report: Traffic, client: Prefix) -> client_rows.Named | None:
    return next((each for each in report.named if each.client == client), None)


def _by_name(report: Traffic, named: client_rows.Named) -> Now:
    """Return the rate in the shortest time that has enough samples."""
    counts = [client_rows.samples(amount) for amount in named.rates]
    window = next((place for place, count in enumerate(counts) if count >= SAMPLES_LEAST), len(counts) - 1)
    amount = named.rates[window]
    if amount.bits_per_second > 0:
        return Now(amount.bits_per_second, math.sqrt(amount.variance) / amount.bits_per_second, False)
    everything = report.total[-1]
    if everything.bits_per_second <= 0:
        return Now(0.0, None, False)
    # One sample stands for so many bits.
    longest = client_rows.WINDOWS_SECONDS[-1]
    per_sample = everything.variance / everything.bits_per_second * min(longest, max(1, report.seconds))
    bound = NOTHING_SAMPLES * per_sample / min(longest, named.seconds)
    return Now(min(bound, _smallest(report) or bound), None, True)


def _on(report: Traffic, client: Prefix) -> Now:
    named = _named(report, client)
    if named is not None:
        return _by_name(report, named)
    single = _single(report)
    inside = [row.rates[WINDOW] for row in single if addresses.covers(client, row.client)]
    if inside:
        rate = math.fsum(amount.bits_per_second for amount in inside)
        variance = math.fsum(amount.variance for amount in inside)
        return Now(rate, math.sqrt(variance) / rate if rate > 0 else None, False)
    if report.clients <= len(single):
        return Now(0.0, None, False)
    # It is none of the largest: no larger than the smallest of them.
    smallest = _smallest(report)
    return Now(smallest, None, smallest > 0)


def read(items: Iterable[Mapping[str, object]]) -> list[Traffic]:
    """Read the reports of nodes; one that cannot be read is none."""
    return [report for item in items if (report := client_traffic.read(item)) is not None]
