"""Several nodes and several clients in one network, for tests of a cluster.

    node 0  eth0 ──┐                      ┌── eth0  client 0
    node 1  eth0 ──┤  bridge  router  bridge  ├── eth0  client 1
    node 2  eth0 ──┘                      └── eth0  client 2

Every node has its default route over eth0, as a node has. The nodes are 192.0.2.10, .11 …, the clients 203.0.113.10,
.11 …, both with an IPv6 address as well. Owns addresses and routes; runs nothing and sends nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bandwidth_lab.namespaces import Lab, kill_all_in
from bandwidth_lab.topology import Host

SIDES = {"node": ("192.0.2", "2001:db8:0:1:"), "client": ("203.0.113", "2001:db8:0:2:")}
FIRST = 10


class Fleet:
    """The network; `nodes` and `clients` in the order of their numbers."""

    def __init__(self, lab: Lab, nodes: int, clients: int) -> None:
        self.lab = lab
        self.router = lab.namespace("router")
        self.router.sysctl({"ipv4.ip_forward": 1, "ipv6.conf.all.forwarding": 1})
        for side, (four, six) in SIDES.items():
            self.router.ip(
                f"link add name {side}s type bridge",
                f"link set {side}s up",
                f"address add {four}.1/24 dev {side}s",
                f"address add {six}:1/64 dev {side}s nodad",
            )
        self.nodes = [self._host("node", number) for number in range(nodes)]
        self.clients = [self._host("client", number) for number in range(clients)]

    def reboot(self, number: int) -> Host:
        """Kill everything on a node and give it a kernel as after a boot; the same addresses, another namespace."""
        kill_all_in(self.nodes[number].namespace.name)
        self.router.ip(f"link delete node{number}")
        self.lab.discard(self.nodes[number].namespace)
        self.nodes[number] = self._host("node", number)
        return self.nodes[number]

    def _host(self, side: str, number: int) -> Host:
        four, six = SIDES[side]
        namespace = self.lab.namespace(f"{side}{number}")
        self.lab.link(namespace, "eth0", self.router, f"{side}{number}")
        self.router.ip(f"link set {side}{number} master {side}s")
        host = Host(namespace, "eth0", f"{four}.{FIRST + number}", f"{six}:{FIRST + number}")
        namespace.ip(
            f"address add {host.address4}/24 dev eth0",
            f"address add {host.address6}/64 dev eth0 nodad",
            f"route add default via {four}.1 dev eth0",
            f"route add default via {six}:1 dev eth0",
        )
        return host


@contextlib.contextmanager
def fleet(nodes: int, clients: int, *, prefix: str) -> Iterator[Fleet]:
    """A fleet of its own; everything of it is gone afterwards."""
    with Lab(prefix) as lab:
        yield Fleet(lab, nodes, clients)
