"""What may look as if packets left past a limit, and does not: one function for each kind of trial.

Each plays a few seconds on one client of a node with an agent, beside all the others. Owns what is done; whether the
agent was deceived is judged by `rows.truth`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bandwidth_bench import stage
from bandwidth_lab import Host, TcpFlow, UdpFlow
from bandwidth_lab.namespaces import Namespace
from bandwidth_lab.node import Node

SECONDS = 3.5  # a trial: two looks after a change, and one more


class Stage(NamedTuple):
    """Where a trial is played."""

    node: Node
    server: Host
    client: Host
    name: str  # of the limit, and the beginning of the names of others
    turn: int
    router: Namespace

    def limit(self, rate: str, name: str = "", **spec: object) -> None:
        """A limit for both addresses of the client."""
        self.node.limit(f"{self.name}{name or 'limit'}", [self.client.address4, self.client.address6], rate, **spec)

    def network(self, rate: str, priority: int) -> None:
        """A limit for a small network around the client, which wins at a higher priority."""
        pair = ipaddress.ip_network(f"{self.client.address4}/31", strict=False)
        self.node.limit(f"{self.name}net", [str(pair)], rate, priority=priority)

    def lift(self) -> None:
        for path in self.node.manifests.glob(f"{self.name}*.yaml"):
            path.unlink()

    def tcp(self, family: int = 4, port: int = 0) -> TcpFlow:
        return TcpFlow(self.server, self.client, family=family, port=port)

    def udp(self, rate: float, size: int, segments: int = 1, family: int = 4) -> UdpFlow:
        return UdpFlow(
            self.server,
            self.client,
            rate_bits_per_second=rate,
            payload_bytes=size,
            segments=segments,
            family=family,
            overdue_seconds=0.05,
        )


def draining(at: Stage) -> None:
    """A full queue drains slowly after the rate was lowered and the sender is gone."""
    at.limit("20Mbit")
    with at.udp(30e6, 200):
        stage.pause(0.8)
        at.limit("64kbit")
        stage.pause(0.3)
    stage.pause(SECONDS - 1.1)


def rates(at: Stage) -> None:
    """The rate changes three times a second, up and down by a thousand."""
    with at.tcp():
        for step in range(int(SECONDS / 0.35)):
            at.limit(("64kbit", "100Mbit", "1Mbit", "1Gbit", "8Mbit")[step % 5])
            stage.pause(0.35)


def observing(at: Stage) -> None:
    """The mode changes twice a second: another class each time."""
    with at.tcp(4 if at.turn % 2 else 6):
        for step in range(int(SECONDS / 0.5)):
            at.limit("8Mbit", mode="Observe" if step % 2 else "Enforce")
            stage.pause(0.5)


def coming_and_going(at: Stage) -> None:
    """The client comes for a moment and goes again."""
    at.limit("8Mbit")
    for _ in range(int(SECONDS / 0.35)):
        with at.tcp(), at.tcp(6):
            stage.pause(0.25)
        stage.pause(0.1)


def offloads(at: Stage) -> None:
    """Packets of many segments, while the device stops and starts to take them."""
    at.limit("50Mbit" if at.turn % 2 else "500Mbit")
    with at.udp(20e6, 1200, segments=40), at.tcp():
        for step in range(int(SECONDS / 0.5)):
            at.node.namespace.ip(f"link set eth0 gso_max_segs {65535 if step % 2 else 1}")
            stage.pause(0.5)
        at.node.namespace.ip("link set eth0 gso_max_segs 65535")


def ports(at: Stage) -> None:
    """Limits with different ports lie over one another, and the node dials the client's own port of that number too."""
    at.limit("20Mbit")
    for port in (7443, 8443):
        spec = {"ports": [{"protocol": "TCP", "port": port}]}
        at.limit("2Mbit", f"{port}", priority=5, egress=spec)
    with at.tcp(port=7443), at.tcp(port=9443), _dialling_out(at, 8443):
        stage.pause(SECONDS)


@contextlib.contextmanager
def _dialling_out(at: Stage, port: int) -> Iterator[None]:
    """The node sends to a port of the client, over a connection of its own."""
    listener = at.client.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    sender = at.server.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener, sender:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((at.client.address4, port))
        listener.listen(1)
        sender.connect((at.client.address4, port))
        taken, _ = listener.accept()
        stopping = threading.Event()
        threads = [
            threading.Thread(target=_pour, args=(sender, stopping)),
            threading.Thread(target=_drink, args=(taken,)),
        ]
        for thread in threads:
            thread.start()
        yield
        stopping.set()
        sender.shutdown(socket.SHUT_RDWR)
        taken.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        taken.close()


def _pour(sender: socket.socket, stopping: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not stopping.is_set():
            sender.send(bytes(65536))


def _drink(receiver: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while receiver.recv(65536):
            pass


def datagrams(at: Stage) -> None:
    """Small datagrams, fragments of large ones and echoes, of both families."""
    at.limit("2Mbit")
    with at.udp(4e6, 60), at.udp(4e6, 9000), at.udp(2e6, 5000, family=6):
        command = ["ping", "-q", "-i", "0.01", "-c", str(int(SECONDS * 80)), "-s", "1400", at.client.address4]
        at.node.namespace.run(command, check=False)


def made_again(at: Stage) -> None:
    """The limit is deleted and made again while packets flow."""
    with at.tcp(), at.udp(3e6, 500):
        for step in range(int(SECONDS / 0.45)):
            at.lift() if step % 2 else at.limit("5Mbit")
            stage.pause(0.45)


def tiny(at: Stage) -> None:
    """The least rate there is, whose queue holds seconds of small packets, and a change of it in between."""
    at.limit("64kbit")
    with at.udp(1e6, 30), at.udp(1e6, 30, family=6):
        stage.pause(SECONDS / 2)
        at.limit("128kbit")
        stage.pause(SECONDS / 2)


def bursts(at: Stage) -> None:
    """Nothing for a while, then all at once, with a burst that lets it pass."""
    at.limit("10Mbit", egress={"burst": "1Mi"})
    for _ in range(int(SECONDS / 0.5)):
        with at.udp(80e6, 1000, segments=20):
            stage.pause(0.1)
        stage.pause(0.4)


def moving(at: Stage) -> None:
    """The client moves between its limit and one of its network, from whose slow queue old packets still come."""
    at.limit("20Mbit", priority=5)
    with at.udp(5e6, 100):
        for step in range(int(SECONDS / 0.6)):
            at.network("64kbit", 9 if step % 2 else 1)
            stage.pause(0.6)


def retransmits(at: Stage) -> None:
    """Half of what leaves is dropped behind the node, and sent again."""
    at.limit("8Mbit")
    port = f"client{int(at.client.address4.rpartition('.')[2]) - 10}"
    at.router.tc(f"qdisc add dev {port} root tbf rate 4mbit burst 5k limit 5k")
    try:
        with at.tcp(), at.tcp():
            stage.pause(SECONDS)
    finally:
        at.router.tc(f"qdisc del dev {port} root")


KINDS: tuple[Callable[[Stage], None], ...] = (
    draining,
    rates,
    observing,
    coming_and_going,
    offloads,
    ports,
    datagrams,
    made_again,
    tiny,
    bursts,
    moving,
    retransmits,
)
