"""Traffic that is held, and an agent that looks all the time whether it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bandwidth_lab import Network, TcpFlow, UdpFlow
from kernels.forked import ForkedNode


@contextlib.contextmanager
def limited_traffic(network: Network, node: ForkedNode) -> Iterator[None]:
    """A limit in force, another that nobody meets, for whose sake there are looks, and traffic of both families."""
    (client,) = network.clients
    node.limit("slow", [client.address4, client.address6], "2Mbit")
    node.limit("unmet", ["203.0.113.99"], "1Mbit")
    node.start()
    node.until_rate(client.address4, 2_000_000)
    with (
        TcpFlow(network.server, client),
        UdpFlow(network.server, client, family=6, rate_bits_per_second=1e6, payload_bytes=300),
        UdpFlow(network.server, client, rate_bits_per_second=1e6, payload_bytes=4000),
    ):
        yield
