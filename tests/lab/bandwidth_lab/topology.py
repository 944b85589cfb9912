"""The networks that the tests, the demo and the benchmarks run in.

    star:   server eth0 ── router ── eth0 client 0        the server has a default route and a gateway, as a node has
                          (bridge)── eth0 client 1
    pair:   server eth0 ── eth0 client                    the shortest way, for packets per second

Every host has an IPv4 and an IPv6 address. Owns addresses and routes; sends nothing itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from bandwidth_lab.namespaces import Lab, Namespace


@dataclasses.dataclass(frozen=True)
class Host:
    """One end of the traffic. `address4` and `address6` are plain addresses without a length."""

    namespace: Namespace
    interface: str
    address4: str
    address6: str

    def address(self, family: int) -> str:
        return self.address4 if family == 4 else self.address6


@dataclasses.dataclass(frozen=True)
class Network:
    """A server, its clients and, in a star, the router between them."""

    lab: Lab
    server: Host
    clients: tuple[Host, ...]
    router: Namespace | None

    def add_address(self, host: Host, address: str) -> Host:
        """Give a client one more address of its network, and the same host under it (the other family stays)."""
        length = 64 if ":" in address else 24
        host.namespace.ip(f"address add {address}/{length} dev {host.interface}{' nodad' if ':' in address else ''}")
        if ":" in address:
            return dataclasses.replace(host, address6=address)
        return dataclasses.replace(host, address4=address)

    def add_network(self, host: Host, network: str) -> None:
        """Give a client all addresses of a further network of a star, without one command for each."""
        assert self.router is not None
        family = 6 if ":" in network else 4
        host.namespace.ip(f"route add local {network} dev lo")
        self.router.ip(f"route add {network} via {host.address(family)}")


SERVER4, SERVER6 = "192.0.2.10", "2001:db8:0:1::10"
GATEWAY4, GATEWAY6 = "192.0.2.1", "2001:db8:0:1::1"
CLIENTS_GATEWAY4, CLIENTS_GATEWAY6 = "203.0.113.1", "2001:db8:0:2::1"


@contextlib.contextmanager
def star(clients: int = 2, *, uplinks: int = 1, mtu: int = 1500, prefix: str = "lab-") -> Iterator[Network]:
    """A server behind a router, and clients beside each other behind it.

    The clients are 203.0.113.10, .11 … and 2001:db8:0:2::10, ::11 … (hexadecimal digits that read as decimal).
    Each further uplink is eth1, eth2 … with addresses 198.51.100.N and a default route of a higher metric.
    """
    with Lab(prefix) as lab:
        router = lab.namespace("router")
        router.sysctl({"ipv4.ip_forward": 1, "ipv6.conf.all.forwarding": 1})
        server = lab.namespace("server")
        for number in range(uplinks):
            _uplink(lab, server, router, number, mtu)
        router.ip(
            f"link add name clients mtu {mtu} type bridge",
            "link set clients up",
            f"address add {CLIENTS_GATEWAY4}/24 dev clients",
            f"address add {CLIENTS_GATEWAY6}/64 dev clients nodad",
        )
        hosts = tuple(_client(lab, router, number, mtu) for number in range(clients))
        yield Network(lab, Host(server, "eth0", SERVER4, SERVER6), hosts, router)


def _uplink(lab: Lab, server: Namespace, router: Namespace, number: int, mtu: int) -> None:
    """Connect ethN of the server to the router; the first is the one whose addresses the clients dial."""
    ours4, theirs4 = (
        (SERVER4, GATEWAY4) if number == 0 else (f"198.51.100.{4 * number + 2}", f"198.51.100.{4 * number + 1}")
    )
    length4 = 24 if number == 0 else 30
    ours6, theirs6 = (SERVER6, GATEWAY6) if number == 0 else (f"2001:db8:1:{number}::10", f"2001:db8:1:{number}::1")
    lab.link(server, f"eth{number}", router, f"uplink{number}", mtu=mtu)
    router.ip(
        f"address add {theirs4}/{length4} dev uplink{number}", f"address add {theirs6}/64 dev uplink{number} nodad"
    )
    server.ip(
        f"address add {ours4}/{length4} dev eth{number}",
        f"address add {ours6}/64 dev eth{number} nodad",
        f"route add default via {theirs4} dev eth{number} metric {100 + number}",
        f"route add default via {theirs6} dev eth{number} metric {100 + number}",
    )


def _client(lab: Lab, router: Namespace, number: int, mtu: int) -> Host:
    namespace = lab.namespace(f"client{number}")
    lab.link(namespace, "eth0", router, f"client{number}", mtu=mtu)
    router.ip(f"link set client{number} master clients")
    host = Host(namespace, "eth0", f"203.0.113.{10 + number}", f"2001:db8:0:2::{10 + number}")
    namespace.ip(
        f"address add {host.address4}/24 dev eth0",
        f"address add {host.address6}/64 dev eth0 nodad",
        f"route add default via {CLIENTS_GATEWAY4}",
        f"route add default via {CLIENTS_GATEWAY6}",
    )
    return host


@contextlib.contextmanager
def pair(*, mtu: int = 1500, prefix: str = "lab-") -> Iterator[Network]:
    """A server and one client on one link; both have a default route, and neither has a gateway."""
    with Lab(prefix) as lab:
        server = Host(lab.namespace("server"), "eth0", SERVER4, SERVER6)
        client = Host(lab.namespace("client0"), "eth0", "203.0.113.10", "2001:db8:0:2::10")
        lab.link(server.namespace, "eth0", client.namespace, "eth0", mtu=mtu)
        for host in (server, client):
            host.namespace.ip(
                f"address add {host.address4}/32 dev eth0",
                f"address add {host.address6}/128 dev eth0 nodad",
                "route add default dev eth0",
                "route add ::/0 dev eth0",
            )
        yield Network(lab, server, (client,), None)
