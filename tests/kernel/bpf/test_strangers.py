"""Datapaths that hand a packet around after our program has seen it: it is in its class once, and arrives once.

    eth0, way out: our program (▶ pair ▶ eth0 again), then theirs ── what it has not seen: over there ──▶ around0
    around1, way in: theirs ── and back onto ──▶ eth0, way out

Each such datapath has a sign by which it knows what it has seen; without one it would loop by itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.bpf import maps, system_call
from bandwidth_api import names
from bandwidth_lab import Network, ebpf
from bandwidth_lab.ebpf import R1, R2, R6
from kernel.bpf import packets
from kernel.bpf.datapath import Datapath, Kept, datapath
from kernel.bpf.node import Node, table
from kernel.tc import shapes

pytestmark = pytest.mark.root

LIMITED, OTHER = "203.0.113.10", "203.0.113.11"
CLASS = 7
KEPT = Kept(mark=0xCB1, queue=0, priority=0, tc_index=0)
COUNT = 20

REDIRECT, NEIGHBOUR = 23, 152
_MARK, _INGRESS, _CB = 8, 36, 48  # in struct __sk_buff
_SEEN, _JUNK = 0x5EE4, 0x0BAD_CAFE
_ARRAY = maps.Definition(2, 4, 8, 1, 0)


def in_class(node: Node) -> int:
    return node.control.counters()[0][names.pair(0)][CLASS].packets


def limited(node: Node) -> None:
    node.apply(objects.PutPair(0), *shapes.tree_on(names.pair(0), {CLASS: shapes.enforce(1_000_000_000, shapes.WHOLE)}))
    node.put(table(4, {LIMITED: CLASS}), table(6, {}))
    node.apply(objects.PutProgram("eth0", objects.Program(0), None))


def write_all_over(made: ebpf.Program, number: int) -> None:
    """All of what is anybody's."""
    made.move(R2, number)
    for word in range(5):
        made.store(R6, _CB + 4 * word, R2)


def send(made: ebpf.Program, onto: int, helper: int = REDIRECT) -> None:
    made.move(R1, onto)
    for register in range(2, 5):
        made.move(register, 0)
    made.call(helper)
    made.leave()


Known = Callable[[ebpf.Program, int], None]  # goes to "seen" where the packet is known, else makes it so


def by_mark(made: ebpf.Program, _: int) -> None:
    made.load(R2, R6, _MARK, 4)
    made.if_equal(R2, _SEEN, "seen")
    write_all_over(made, _JUNK)
    made.move(R2, _SEEN)
    made.store(R6, _MARK, R2)


def by_cb(made: ebpf.Program, _: int) -> None:
    made.load(R2, R6, _CB + 16, 4)
    made.if_equal(R2, _SEEN, "seen")
    write_all_over(made, _SEEN)


def by_arrival(made: ebpf.Program, back: int) -> None:
    made.load(R2, R6, _INGRESS, 4)
    made.if_equal(R2, back, "seen")
    write_all_over(made, _JUNK)


def hands_around(known: Known, array: int | None, onto: int, back: int, helper: int = REDIRECT) -> bytes:
    """Hands on what it has not seen yet. `array`: where it counts what it sees, of the pod's packets alone."""
    made = ebpf.Program()
    made.copy(R6, R1)
    if array is not None:
        made.load(R2, R6, _MARK, 4)
        made.if_equal(R2, _SEEN, "of the pod")
        made.unless_equal(R2, KEPT.mark, "seen")
        made.label("of the pod")
        made.value(R1, array)
        made.move(R2, 1)
        made.count(R1, 0, R2)
    known(made, back)
    send(made, onto, helper)
    made.label("seen")
    made.leave(ebpf.PASS)
    return made.assembled()


def hands_back(onto: int) -> bytes:
    made = ebpf.Program()
    made.copy(R6, R1)
    send(made, onto)
    return made.assembled()


class Around:
    """A datapath that hands around, behind one that sends from a pod; and how often it saw a packet."""

    def __init__(self, sends: Datapath, array: maps.Map) -> None:
        self.sends, self._array = sends, array

    @property
    def seen(self) -> int:
        return int.from_bytes(self._array.read()[1], "little")


@contextlib.contextmanager
def around(network: Network, way: ebpf.Way, known: Known) -> Iterator[Around]:
    server = network.server.namespace
    server.ip("link add around0 type veth peer name around1", "link set around0 up", "link set around1 up")
    server.sysctl({"ipv6.conf.around0.disable_ipv6": 1, "ipv6.conf.around1.disable_ipv6": 1})
    eth0, out, back = (
        server.call(lambda name=name: socket.if_nametoindex(name)) for name in ("eth0", "around0", "around1")
    )
    descriptor = system_call.create_map(*_ARRAY, "around")
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        sends = stack.enter_context(datapath(network, KEPT, way, sees=False))
        if way == "cls_bpf":
            server.tc("qdisc add dev around1 clsact")
        stack.enter_context(
            ebpf.attached(server, "eth0", "egress", hands_around(known, descriptor, out, back), way=way)
        )
        stack.enter_context(ebpf.attached(server, "around1", "ingress", hands_back(eth0), way=way))
        yield Around(sends, maps.Map(descriptor, _ARRAY))


@pytest.mark.parametrize("known", [by_mark, by_cb, by_arrival])
def test_what_is_handed_around_behind_us_arrives_once(network: Network, node: Node, known: Known) -> None:
    """By whatever sign another program knows what it has seen, and wherever it writes: it sees each packet twice."""
    with around(network, "tcx" if node.tcx else "cls_bpf", known) as made:
        limited(node)
        other = [packets.v4(OTHER, payload=bytes([number])) for number in range(COUNT)]
        made.sends.send(*other)
        assert made.sends.arrived(COUNT) == other
        assert (made.seen, in_class(node)) == (2 * COUNT, 0)
        sent = [packets.v4(LIMITED, payload=bytes([number])) for number in range(COUNT)]
        made.sends.send(*sent)
        assert made.sends.arrived(COUNT) == sent
        assert made.sends.nothing_more()
        assert in_class(node) == COUNT
        assert made.seen == 2 * (2 * COUNT + 1)
