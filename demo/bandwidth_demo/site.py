"""The network of the demonstration and its traffic: a mail server, its uplink, and the clients behind it.

    server eth0 ── router ── uplink, 50 Mbit/s ─┬─ greedy   fetches mail over many connections, as fast as it goes
                                                ├─ quiet    asks for a steady rate
                                                └─ crowd    many small clients, each with a little

The uplink is as narrow as a real one, beyond the server and out of the agent's reach. All of it is IPv4 and IPv6 alike.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping

from bandwidth_lab.crowd import Crowd, addresses
from bandwidth_lab.topology import Host, Network, star
from bandwidth_lab.traffic import TcpFlow

UPLINK_BITS_PER_SECOND = 50_000_000
QUEUE_BYTES = UPLINK_BITS_PER_SECOND // 8 // 10  # 100 ms
GREEDY_CONNECTIONS = 15  # of each family
CONGESTION = "cubic"  # as most servers have it, whatever this machine has
QUIET_BITS_PER_SECOND = 4_000_000  # payload, of each family
CROWD_BITS_PER_SECOND = 1_500_000  # payload, of each family
MAIL_PORT, WEB_PORT = 993, 443
CROWD = {
    4: ("198.51.100.0/24", addresses("198.51.100.0/24", 90)),
    6: ("2001:db8:100::/48", addresses("2001:db8:100::/48", 40, step=1 << 64)),
}
CLIENTS = 2 + sum(len(clients) for _, clients in CROWD.values()) + 2  # greedy and quiet have an address of each family


class Site:
    """The running network. What was started flows until the site is taken down."""

    def __init__(self, network: Network, traffic: contextlib.ExitStack) -> None:
        self.server = network.server
        self.greedy, self.quiet, self._crowd = network.clients
        self._network = network
        self._traffic = traffic
        self._greed = traffic.enter_context(contextlib.ExitStack())
        assert network.router is not None
        network.router.tc(
            f"qdisc add dev clients root tbf rate {UPLINK_BITS_PER_SECOND}bit burst 100000 limit {QUEUE_BYTES}"
        )
        counters = f"ip daddr {self.greedy.address4} counter\nip6 daddr {self.greedy.address6} counter\n"
        table = f"table inet sent {{ chain greedy {{ type filter hook prerouting priority 0\n{counters}}}\n}}"
        network.router.run(["nft", "-f", "-"], stdin=table)
        self._router = network.router

    def start_crowd(self) -> None:
        """Begin to serve the many small clients."""
        for network, clients in CROWD.values():
            self._network.add_network(self._crowd, network)
            self._traffic.enter_context(
                Crowd(self.server, self._crowd, clients, rate_bits_per_second=CROWD_BITS_PER_SECOND, port=WEB_PORT)
            )

    def start_quiet(self) -> Mapping[int, TcpFlow]:
        """Begin to serve the quiet client; return its connections by family."""
        return {family: self._connect(self.quiet, family, WEB_PORT, QUIET_BITS_PER_SECOND) for family in (4, 6)}

    def start_greedy(self) -> None:
        """Let the greedy client open all its connections."""
        for _ in range(GREEDY_CONNECTIONS):
            for family in (4, 6):
                self._connect(self.greedy, family, MAIL_PORT, None, self._greed)

    def stop_greedy(self) -> None:
        """Close all connections of the greedy client; it may begin again."""
        self._greed.close()

    def _connect(
        self, client: Host, family: int, port: int, rate: float | None, until: contextlib.ExitStack | None = None
    ) -> TcpFlow:
        return (until or self._traffic).enter_context(
            TcpFlow(self.server, client, family=family, port=port, rate_bits_per_second=rate, congestion=CONGESTION)
        )

    def sent_to_greedy(self) -> int:
        """Return the bytes sent to the greedy client so far, as the router counts them before its queue."""
        listed = self._router.run(["nft", "list", "table", "inet", "sent"]).stdout
        return sum(int(count) for count in re.findall(r"bytes (\d+)", listed))

    def kernel_state(self) -> dict[str, str]:
        """Return everything that an agent could leave in the server's kernel, without counters and times."""
        commands = (
            "tc qdisc show",
            "tc filter show dev eth0 egress",
            "ip -o link show",
            "ipset save",
            "nft list ruleset",
            "iptables-save -t mangle",
            "ip6tables-save -t mangle",
        )
        printed = {command: self.server.namespace.run(command.split()).stdout for command in commands}
        return {
            command: re.sub(r"^#.*\n|\[\d+:\d+\]", "", text, flags=re.MULTILINE) for command, text in printed.items()
        }


@contextlib.contextmanager
def made() -> Iterator[Site]:
    """Yield the network without traffic; take all of it down at the end, however it ends."""
    with star(clients=3, prefix="lab-demo-") as network, contextlib.ExitStack() as traffic:
        yield Site(network, traffic)
