"""How many bytes one sample stands for: a power of two with which 1,500 to 3,500 samples a second come. Pure.

Samples are counted, not bytes divided by the period: a packet that is longer than the period is always sampled, and
traffic of long packets (GSO) allows a short period, with which nearly every packet is counted as it is.
"""

from __future__ import annotations

import math

LEAST, MOST = 1 << 12, 1 << 20
FIRST = 1 << 16  # until there was a look at the traffic
# A sample costs the reader 1 µs, one of an address of its own 4 µs with all that is kept of it: about 1 % of a core at
# most. Half of the high number is more than the low one, or the period would go to and fro.
LOW, HIGH = 1_500, 3_500


def following(period: int, samples_per_second: float) -> int:
    """Return the period for traffic of which so many samples come with this one: longer at once, shorter by steps."""
    if samples_per_second > HIGH:
        return min(MOST, period << math.ceil(math.log2(samples_per_second / HIGH)))
    if samples_per_second < LOW:
        return max(LEAST, period >> 1)
    return period
