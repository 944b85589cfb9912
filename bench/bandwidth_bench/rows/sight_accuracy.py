"""Who gets how much, as estimated, over what really arrived: real TCP at several rates at once.

One server, six clients (addresses of one host), each filled by a TCP connection at its own steady rate, both families.
What a client's program has received is read at the moment at which a stretch ends. Beside it what the device says that
it sent, against the sum of all estimates.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from bandwidth_bench import looking, stage
from bandwidth_bench.figures import Figure
from bandwidth_lab import Network, TcpFlow, pair
from bandwidth_lab.topology import Host

TOTAL_MBIT = (200, 1_000)
SHARES = (0.40, 0.25, 0.15, 0.10, 0.05, 0.05)
SECONDS = 20
WINDOW = 2  # seconds
SMALLEST = 0.05  # of all: the share from which the figures are judged


class Client(NamedTuple):
    flow: TcpFlow
    address: bytes
    share: float


def measure(extent: stage.Extent) -> list[Figure]:
    """Estimates over what arrived: of each client in each two seconds, and over all of the time."""
    found: list[Figure] = []
    seconds = WINDOW * round(extent.seconds(SECONDS) / WINDOW)
    for total in TOTAL_MBIT:
        for congestion in ("cubic", "bbr"):
            stage.say(f"{total} Mbit/s, {congestion}")
            found += _measured(total, congestion, seconds)
    return found


def _measured(total: int, congestion: str, seconds: int) -> list[Figure]:
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(pair(prefix=stage.PREFIX))
        clients = [_client(network, number, share, total, congestion) for number, share in enumerate(SHARES)]
        for client in clients:
            stack.enter_context(client.flow)
        stage.pause(1.0)
        look = stack.enter_context(
            looking.Looking(network.server.namespace, lambda: tuple(float(c.flow.received_bytes) for c in clients))
        )
        seen = look.until(seconds + 1)
    return _figures(f"{total} Mbit/s", congestion, clients, seen[1:])


def _client(network: Network, number: int, share: float, total: int, congestion: str) -> Client:
    family = 6 if number % 2 else 4
    length = 64 if family == 6 else 24
    address = f"2001:db8:0:2::{20 + number}" if family == 6 else f"203.0.113.{20 + number}"
    host, server = network.clients[0], network.server
    host.namespace.ip(f"address add {address}/{length} dev {host.interface}{' nodad' if family == 6 else ''}")
    there = Host(host.namespace, host.interface, address, address)
    flow = TcpFlow(server, there, family=family, congestion=congestion, rate_bits_per_second=share * total * 1e6)
    return Client(flow, ipaddress.ip_address(address).packed, share)


def _figures(rate: str, congestion: str, clients: Sequence[Client], seen: Sequence[looking.Second]) -> list[Figure]:
    """`seen`: the second before the first one that counts, and those that do."""
    counted = seen[1:]
    case = {"traffic": rate, "congestion control": congestion}
    apart = [
        _ratio(clients, n, counted[at : at + WINDOW], (seen[at], counted[at + WINDOW - 1]))
        for n, client in enumerate(clients)
        if client.share >= SMALLEST
        for at in range(0, len(counted), WINDOW)
    ]
    whole = [_ratio(clients, n, counted, (seen[0], seen[-1])) for n in range(len(clients))]
    sums = [
        sum(s.stretch.seen_bytes for s in part) / sum(s.stretch.sent_bytes for s in part)
        for at in range(0, len(counted), len(counted) // 2)
        if (part := counted[at : at + len(counted) // 2])
    ]
    return [
        Figure(case, f"each client, each {WINDOW} s: least", (min(apart),), "", low=0.9),
        Figure(case, "most", (max(apart),), "", high=1.1),
        Figure(case, f"each client, {len(counted)} s: least", (min(whole),), "", low=0.97),
        Figure(case, "most ", (max(whole),), "", high=1.03),
        Figure(case, "sum ÷ sent by the device", tuple(sums), "", low=0.97, high=1.03),
        Figure(case, "CPU of the reader", (looking.core_percent(list(seen)),), "%"),
    ]


def _ratio(
    clients: Sequence[Client],
    number: int,
    part: Sequence[looking.Second],
    ends: tuple[looking.Second, looking.Second],
) -> float:
    """What was estimated for one client in some stretches, over what it received meanwhile."""
    estimates = looking.summed([second.stretch for second in part])
    received = ends[1].beside[number] - ends[0].beside[number]
    found = estimates.get(clients[number].address)
    return found.bytes / received if found is not None else 0.0
