"""What leaves by the interfaces of a node, as a packet socket shows it: single packets, or estimates from samples.

Owns the types only. Nothing here is a kernel object: while a window is open there is one socket, and nothing after.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

TCP, UDP = 6, 17


class Packet(NamedTuple):
    """One packet that left, from its headers. A GSO packet counts as one, at its whole length."""

    interface: str
    family: int
    destination: int  # in the fixed header, where rules look: with a routing header of IPv6 the next stop
    protocol: int  # behind the extension headers of IPv6; -1 where the headers do not show it
    source_port: int  # of TCP and UDP; -1: none, or not shown (a later fragment)
    length: int  # bytes from the IP header on
    destination_port: int = -1  # as `source_port`


class Estimate(NamedTuple):
    """What one client was sent, from samples. An estimate without bias: adding two of them gives one of both."""

    bytes: float
    samples: int
    squares: float  # bytes × bytes: the variance of `bytes`; the relative standard error is √squares ÷ bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Stretch:
    """What was sampled on one interface in a stretch of time."""

    began: float  # monotonic seconds
    ended: float
    clients: Mapping[bytes, Estimate]  # by destination: 4 or 16 bytes, as in the header
    ports: Mapping[bytes, Mapping[tuple[int, int], float]]  # by destination: (protocol, source port) → bytes
    sent_bytes: int  # what the device says it sent, with its link headers
    lost: int  # samples that found no room; the others then stand for more
    period: int  # bytes for which one sample stands, at the end of the stretch
    link_bytes: float = 0.0  # of the link headers of all that is in `clients`, to compare the sum with `sent_bytes`
    packets: float = 0.0  # an estimate of how many that was

    @property
    def seen_bytes(self) -> float:
        """The estimate of everything that was seen, as the device counts it; of `sent_bytes` the rest was not seen."""
        return self.link_bytes + sum(each[0] for each in self.clients.values())
