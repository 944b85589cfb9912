"""Packets on their way through the pair: each once, as it was, with all that is kept with it."""

from __future__ import annotations

import contextlib
import pathlib
import socket
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.rtnl import features
from bandwidth_api import names
from bandwidth_lab import Network, pair
from kernel.bpf import packets
from kernel.bpf.conftest import WAYS
from kernel.bpf.datapath import Datapath, Kept, datapath
from kernel.bpf.node import Node, table
from kernel.tc import shapes

pytestmark = pytest.mark.root

LIMITED4, OTHER4 = "203.0.113.10", "203.0.113.11"
LIMITED6, OTHER6 = "2001:db8:0:2::10", "2001:db8:0:2::11"
CLASS = 7
KEPT = Kept(mark=0xCB1, queue=0x1234, priority=0x0001_0003, tc_index=0x4321)
FORWARDED = 3  # the kind of a packet to another host, as the pod's are to the node
PAIR = names.pair(0)


def limited(node: Node, leaf: objects.Leaf = shapes.WHOLE) -> None:
    """A class on the pair, tables that lead to it, and the program on eth0."""
    node.apply(objects.PutPair(0), *shapes.tree_on(PAIR, {CLASS: shapes.enforce(1_000_000_000, leaf)}))
    node.put(table(4, {LIMITED4: CLASS}), table(6, {LIMITED6: CLASS}))
    node.apply(objects.PutProgram("eth0", objects.Program(0), None))


def in_class(node: Node) -> int:
    by_device, _ = node.control.counters()
    return by_device[PAIR][CLASS].packets


@pytest.fixture
def around(network: Network, node: Node) -> Iterator[Datapath]:
    """A datapath that was there before our program."""
    with datapath(network, KEPT, "tcx" if node.tcx else "cls_bpf") as made:
        limited(node)
        yield made


def test_each_packet_is_seen_once_with_all_that_is_kept_with_it(node: Node, around: Datapath) -> None:
    """The datapath's own program sees a limited packet as one without a limit: once, and as its maker left it."""
    for count, (packet, counted) in enumerate(
        (
            (packets.v4(OTHER4), 0),
            (packets.v4(LIMITED4), 1),
            (packets.v6(OTHER6), 1),
            (packets.v6(LIMITED6), 2),
        ),
        1,
    ):
        around.send(packet)
        assert around.arrived(1) == [packet]
        seen = around.seen()
        assert (seen.packets, seen.kind, seen.kept) == (count, FORWARDED, KEPT)
        assert in_class(node) == counted
    assert around.nothing_more()


QUEUES = {
    "whole": shapes.WHOLE,
    "cut": shapes.CUTTING,
    "in flows": shapes.WHOLE._replace(inner="fq_codel"),
    "cut, in flows": shapes.CUTTING._replace(inner="fq_codel"),
    "large": shapes.LARGE,
}


@pytest.mark.parametrize("queue", QUEUES)
def test_every_queue_leaves_what_is_kept(node: Node, network: Network, queue: str) -> None:
    """None of the queues below the classes writes where it is carried."""
    leaf = QUEUES[queue]
    lacking = {leaf.kind, leaf.inner} & objects.LEAF_KINDS - _leaf_kinds(node)
    if lacking:
        pytest.skip(f"this kernel has no {lacking}")
    with datapath(network, KEPT, "tcx" if node.tcx else "cls_bpf") as around:
        limited(node, leaf)
        sent = [packets.v4(LIMITED4, payload=number.to_bytes(16, "big")) for number in range(20)]
        around.send(*sent)
        assert around.arrived(20) == sent
        seen = around.seen()
        assert (seen.packets, seen.kind, seen.kept) == (20, FORWARDED, KEPT)


def _leaf_kinds(node: Node) -> frozenset[str]:
    answers = node.control.features()
    return frozenset(kind for kind in objects.LEAF_KINDS if answers[kind] is features.Answer.THERE)


def test_many_packets_keep_their_order(node: Node, around: Datapath) -> None:
    """Of 2,000 packets of one client each arrives once, in the order in which it was sent."""
    sent = [packets.v4(LIMITED4, payload=number.to_bytes(16, "big")) for number in range(2_000)]
    for at in range(0, len(sent), 20):
        around.send(*sent[at : at + 20])
        assert around.arrived(20) == sent[at : at + 20]
    assert around.seen().packets == in_class(node) == len(sent)


def test_what_the_pair_sends_by_itself_goes_nowhere(node: Node, around: Datapath) -> None:
    """A frame with the address of the pair, as the kernel sends it, is dropped at the other end."""
    with node.namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sender:
        sender.sendto(packets.v4(LIMITED4), (PAIR, 0x0800, 0, 0, around.onto))
    assert around.nothing_more()
    assert around.seen().packets == 1


@pytest.mark.parametrize("mtu", [1280, 1500, 9000])
@pytest.mark.parametrize("way", WAYS)
def test_packets_of_every_size_and_shape_are_left_as_they_are(directory: pathlib.Path, mtu: int, way: str) -> None:
    """The largest ones, with options, with extension headers and as fragments: the same bytes at the other end."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(pair(mtu=mtu, prefix="kb-"))
        node = Node(network.server.namespace, directory, tcx=WAYS[way])
        stack.callback(node.close)
        made = stack.enter_context(datapath(network, KEPT, "tcx" if node.tcx else "cls_bpf"))
        limited(node)
        extensions = [(packets.HOP_BY_HOP, 1), (packets.DESTINATION, 2), (packets.ROUTING, 0)]
        fragment = [*extensions, (packets.FRAGMENT, 0)]
        full4, full6 = mtu - 20, mtu - 40
        behind = sum(8 * (length + 1) for _, length in extensions)
        sent = [
            packets.v4(LIMITED4, payload=bytes(full4 - 8)),
            packets.v4(LIMITED4, packets.TCP, options=40, payload=bytes(full4 - 40 - 20)),
            packets.v4(LIMITED4, more=True, payload=bytes((full4 - 8) & ~7)),
            packets.v4(LIMITED4, offset=100, payload=bytes(full4)),
            packets.v6(LIMITED6, payload=bytes(full6 - 8)),
            packets.v6(LIMITED6, packets.TCP, extensions=extensions, payload=bytes(full6 - behind - 20)),
            packets.v6(LIMITED6, extensions=fragment, offset=100, payload=bytes(full6 - behind - 8)),
            packets.v6(LIMITED6, payload=b""),
        ]
        made.send(*sent)
        assert made.arrived(len(sent)) == sent
        assert in_class(node) == len(sent)
        assert made.nothing_more()
