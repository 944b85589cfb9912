"""How many bytes one sample stands for: a power of two with which 1,500 to 3,500 samples a second come. Pure.

Samples are counted, not bytes divided by the period: a packet that is longer than the period is always sampled, and
traffic of long packets (GSO) allows a short period, with which nearly every packet is counted as it is. So is all that
leaves a host from which fewer packets a second leave than samples may come.
"""

from __future__ import annotations

import math

LEAST = 1 << 9  # nearly all bytes of a quiet host are in packets that are longer; a shorter one fills a ring too soon
MOST = 1 << 24  # with which 470 Gbit/s bring no more samples than HIGH: what a sample costs has its bound by time too
FIRST = 1 << 16  # until there was a look at the traffic
# A sample costs the reader 1 to 3 µs with all that is kept of it: about 1 % of a core at most. Half of the high number
# is more than the low one, or the period would go to and fro.
LOW, HIGH = 1_500, 3_500
_STEPS = 4


def following(period: int, samples_per_second: float, mean_bytes: float = 0.0) -> int:
    """Return the period for traffic of which so many samples come with this one: longer at once, shorter by steps.

    A step is a halving, or where there is next to nothing up to four: from few samples nobody can tell more.
    `mean_bytes`: the mean length of the packets that were sampled. Where they are longer than the period all of them
    are, and fewer come only with a period that is longer than they are.
    """
    if samples_per_second > HIGH:
        stood_for = max(period, math.ceil(mean_bytes))
        return min(MOST, 1 << math.ceil(math.log2(stood_for * samples_per_second / HIGH)))
    if samples_per_second < LOW:
        step = math.log2(LOW / max(samples_per_second, LOW >> _STEPS))
        return max(LEAST, period >> max(1, math.floor(step)))
    return period
