"""What happens to a node while its limits hold, and may look as if they did not: one function for each kind of trial.

Each disturbs a few seconds of steady traffic of several limited clients, and leaves the node as it was. Owns what is
done; whether the agent was deceived is judged by `rows.truth`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import ipaddress
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bandwidth_bench import stage
from bandwidth_lab import Host, Network, TcpFlow, UdpFlow, ebpf
from bandwidth_lab.namespaces import Namespace
from bandwidth_lab.node import Node

SECONDS = 4.0  # a trial: two looks, a second apart, and some time around them
CROWD = "198.18.7.0/24"  # clients of one limit, all at one host

_ETHTOOL = 0x8946  # SIOCETHTOOL
_SET_TSO, _SET_GSO = 0x1F, 0x24


class Stage(NamedTuple):
    """Where a trial is played."""

    node: Node
    network: Network
    turn: int

    @property
    def namespace(self) -> Namespace:
        return self.network.server.namespace

    @property
    def router(self) -> Namespace:
        assert self.network.router is not None
        return self.network.router

    @property
    def client(self) -> Host:
        return self.network.clients[0]

    def steps(self, seconds: float) -> Iterator[int]:
        """Count, with a pause of so many seconds before each next number, until the trial is over."""
        for step in range(max(1, int(SECONDS / seconds))):
            yield step
            stage.pause(seconds)


@contextlib.contextmanager
def traffic(network: Network, node: Node) -> Iterator[None]:
    """Steady traffic of limited clients: TCP and datagrams of both families, and many clients of one limit."""
    first, second, crowded = network.clients
    network.add_network(crowded, CROWD)
    node.limit("one", [first.address4, first.address6], "8Mbit")
    node.limit("two", [second.address4, second.address6], "2Mbit")
    node.limit("crowd", [CROWD], "3Mbit")
    node.until_rate(first.address4, 8_000_000)
    node.until_rate(str(ipaddress.ip_network(CROWD)[1]), 3_000_000)
    with contextlib.ExitStack() as stack:
        stack.enter_context(TcpFlow(network.server, first))
        stack.enter_context(TcpFlow(network.server, second, family=6))
        stack.enter_context(UdpFlow(network.server, second, rate_bits_per_second=2e6, payload_bytes=100))
        stack.enter_context(UdpFlow(network.server, first, rate_bits_per_second=3e6, payload_bytes=900, family=6))
        stack.enter_context(to_all(network.server, CROWD, rate_bits_per_second=6e6, port=5353))
        stage.pause(1.0)
        yield


@contextlib.contextmanager
def to_all(server: Host, network: str, rate_bits_per_second: float, size: int = 400, port: int = 0) -> Iterator[None]:
    """Datagrams to each address of a network in turn."""
    targets = [str(address) for address in ipaddress.ip_network(network).hosts()]
    sender = server.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("", port))
    ending = threading.Event()

    def send() -> None:
        at = 0
        burst = max(1, int(rate_bits_per_second / 8 / size * 0.01))
        while not ending.wait(0.01):
            for _ in range(burst):
                with contextlib.suppress(OSError):
                    sender.sendto(bytes(size), (targets[at % len(targets)], 40_000))
                at += 1

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        sender.close()


def stopped_and_continued(at: Stage) -> None:
    """The agent stands still for a moment, again and again, in the middle of looks too."""
    for step in at.steps(0.1):
        with at.node.suspended():
            stage.pause((0.05, 0.3, 0.9, 1.4)[(step + at.turn) % 4])
        if step >= SECONDS:
            break


def counters_made_anew(at: Stage) -> None:
    """Another program removes our classes and devices, which the agent makes again."""
    for step in at.steps(0.9):
        if (step + at.turn) % 2:
            at.namespace.run(["ip", "link", "del", "cbl0"], check=False)
        else:
            at.namespace.run(["tc", "qdisc", "del", "dev", "cbl0", "root"], check=False)


def the_hook_is_deleted(at: Stage) -> None:
    """By hand, under traffic: our filters, or the qdisc that they are in; packets go past until that is repaired."""
    what = "filter del dev eth0 egress" if at.turn % 2 else "qdisc del dev eth0 clsact"
    at.namespace.run(["tc", *what.split()], check=False)
    stage.pause(SECONDS)


def a_second_user_of_the_hook(at: Stage) -> None:
    """Another program's filters come to the hook and go, before ours and behind them."""
    for step in at.steps(0.5):
        pref = (1, 100, 49_152, 65_300)[(step + at.turn) % 4]
        with (
            contextlib.suppress(OSError),
            ebpf.attached(at.namespace, "eth0", "egress", ebpf.verdict(ebpf.NEXT), way="cls_bpf", pref=pref),
        ):
            stage.pause(0.2)
        at.namespace.run(["tc", "filter", "del", "dev", "eth0", "egress", "pref", str(pref)], check=False)


def the_uplink_goes_down_and_up(at: Stage) -> None:
    """With its routes, which come back with it."""
    routes = at.namespace.run(["ip", "route", "show", "default"]).stdout.splitlines()
    routes6 = at.namespace.run(["ip", "-6", "route", "show", "default"]).stdout.splitlines()
    for _ in at.steps(1.2):
        at.namespace.ip("link set eth0 down")
        stage.pause(0.2)
        at.namespace.ip("link set eth0 up", f"address replace {at.network.server.address6}/64 dev eth0 nodad")
        for family, lines in (("-4", routes), ("-6", routes6)):
            for line in lines:
                words = line.replace("linkdown", "").replace("dead", "").split()
                at.namespace.run(["ip", family, "route", "replace", *words], check=False)


def another_mtu(at: Stage) -> None:
    """Large and small packets in turns."""
    for step in at.steps(0.4):
        at.namespace.ip(f"link set eth0 mtu {(1280, 1500, 1400)[(step + at.turn) % 3]}")
    at.namespace.ip("link set eth0 mtu 1500")


def segmentation_off_and_on(at: Stage) -> None:
    """The device cuts packets itself, or has them cut by the stack."""
    for step in at.steps(0.4):
        at.namespace.call(lambda on=step % 2: _segment(on))  # type: ignore[misc]
    at.namespace.call(lambda: _segment(1))


def _segment(on: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for command in (_SET_TSO, _SET_GSO):
            value = ctypes.create_string_buffer(struct.pack("=II", command, on), 8)
            fcntl.ioctl(asking, _ETHTOOL, struct.pack("@16sP16x", b"eth0", ctypes.addressof(value)))


def fragments(at: Stage) -> None:
    """Large datagrams through a small MTU, of both families, for limits with ports and without."""
    at.namespace.ip("link set eth0 mtu 1280")
    ports = {"ports": [{"protocol": "UDP", "port": 5353}]}
    at.node.limit("ported", [at.client.address4], "1Mbit", priority=5, egress=ports)
    flows = [
        UdpFlow(at.network.server, at.client, rate_bits_per_second=4e6, payload_bytes=8000, family=family)
        for family in (4, 6)
    ]
    with flows[0], flows[1]:
        stage.pause(SECONDS)
    at.node.lift("ported")
    at.namespace.ip("link set eth0 mtu 1500")


def storms_of_retransmissions(at: Stage) -> None:
    """What many connections sent is lost altogether, and sent again at once when the way is back."""
    with contextlib.ExitStack() as stack:
        for _ in range(15):
            stack.enter_context(TcpFlow(at.network.server, at.client))
        for _ in at.steps(0.6):
            at.router.ip(f"route add blackhole {at.client.address4}/32")
            stage.pause(0.5)
            at.router.ip(f"route del blackhole {at.client.address4}/32")


def edits(at: Stage) -> None:
    """Somebody edits the limits all the time: every field, one after the other."""
    first, second, _ = at.network.clients
    for step in at.steps(1.0 if at.turn % 2 else 0.4):
        match (step + at.turn) % 5:
            case 0:
                at.node.limit("one", [first.address4, first.address6], "5Mbit")
            case 1:
                at.node.limit("two", [second.address6, second.address4], "2Mbit", sharing="PerEntry")
            case 2:
                at.node.limit("crowd", [CROWD], "3Mbit", priority=7)
            case 3:
                at.node.limit("one", [first.address4, second.address4, first.address6], "8Mbit", priority=3)
            case 4:
                at.node.limit("crowd", [CROWD], "1Mbit", sharing="Shared", **{"except": ["198.18.7.128/25"]})
    at.node.limit("one", [first.address4, first.address6], "8Mbit")
    at.node.limit("two", [second.address4, second.address6], "2Mbit")
    at.node.limit("crowd", [CROWD], "3Mbit")


def each_of_a_crowd(at: Stage) -> None:
    """Hundreds of clients, each with a class of its own from one second to the next."""
    at.node.limit("crowd", [f"198.18.7.{n}" for n in range(1, 250)], "64kbit", sharing="PerEntry")
    stage.pause(SECONDS)
    at.node.limit("crowd", [CROWD], "3Mbit")
    stage.pause(0.5)


def a_deep_queue_behind(at: Stage) -> None:
    """What the limits let out waits for seconds in another program's queue, and leaves when its senders are gone."""
    at.namespace.run(["tc", "qdisc", "replace", "dev", "eth0", "root", "handle", "1:", *_SLOW_ROOT], check=False)
    at.node.limit("deep", ["198.18.7.200/30"], "100Mbit", priority=9)
    stage.pause(1.2)
    with to_all(at.network.server, "198.18.7.200/30", rate_bits_per_second=60e6, size=1200):
        stage.pause(1.0)
    stage.pause(SECONDS)
    at.node.lift("deep")
    at.namespace.run(["tc", "qdisc", "del", "dev", "eth0", "root"], check=False)


_SLOW_ROOT = ["tbf", "rate", "12mbit", "burst", "20k", "limit", "8m"]

KINDS: tuple[Callable[[Stage], None], ...] = (
    stopped_and_continued,
    counters_made_anew,
    the_hook_is_deleted,
    a_second_user_of_the_hook,
    the_uplink_goes_down_and_up,
    another_mtu,
    segmentation_off_and_on,
    fragments,
    storms_of_retransmissions,
    edits,
    each_of_a_crowd,
    a_deep_queue_behind,
)
