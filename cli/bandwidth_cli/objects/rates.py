"""How fast one client is on each node, from the reports of the nodes, and whether that is within its limit. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from bandwidth_api import addresses
from bandwidth_api.crds import client_traffic
from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_api.plan import Prefix

WINDOW = 0  # the last two seconds: nobody has looked for longer
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
    if now.lowest > SLACK * limit_bits_per_second:
        return "over"
    return "held" if now.highest >= 0.9 * limit_bits_per_second and not now.at_most else "below"


def _on(report: Traffic, client: Prefix) -> Now:
    single = [row for row in report.rows if row.client.length == addresses.BITS[row.client.family]]
    inside = [row.rates[WINDOW] for row in single if addresses.covers(client, row.client)]
    if inside:
        rate = math.fsum(amount.bits_per_second for amount in inside)
        variance = math.fsum(amount.variance for amount in inside)
        return Now(rate, math.sqrt(variance) / rate if rate > 0 else None, False)
    if report.clients <= len(single):
        return Now(0.0, None, False)
    # It is none of the largest: no larger than the smallest of them.
    return Now(min((row.rates[WINDOW].bits_per_second for row in single), default=0.0), None, True)


def read(items: Iterable[Mapping[str, object]]) -> list[Traffic]:
    """Read the reports of nodes; one that cannot be read is none."""
    return [report for item in items if (report := client_traffic.read(item)) is not None]
