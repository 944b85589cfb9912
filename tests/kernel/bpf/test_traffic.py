"""Nothing is lost while programs, tables and the pair change under traffic."""

from __future__ import annotations

import socket
import threading

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_api.plan import PortRange
from bandwidth_lab import Network, ebpf
from kernel.bpf.node import Node, table
from kernel.tc import shapes

pytestmark = pytest.mark.root

CLIENT, CLASS, OTHER = "203.0.113.10", 7, 8
SWAPS = 50
WEB = PortRange("UDP", 80, 80)


class Numbered:
    """Numbered datagrams from the server to its client, a few at a time and each after the last has arrived."""

    def __init__(self, network: Network) -> None:
        self._arriving = network.clients[0].namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._arriving.bind((CLIENT, 9))
        self._arriving.settimeout(10.0)
        self._sender = network.server.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent, self.wrong = 0, list[int]()

    def __enter__(self) -> Numbered:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._sender.close()
        self._arriving.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            numbers = range(self.sent, self.sent + 8)
            for number in numbers:
                self._sender.sendto(number.to_bytes(8, "big"), (CLIENT, 9))
            self.sent += len(numbers)
            try:
                arrived = [int.from_bytes(self._arriving.recv(64), "big") for _ in numbers]
            except TimeoutError:
                self.wrong += numbers
                return
            if sorted(arrived) != list(numbers):
                self.wrong += numbers


def test_fifty_swaps_lose_nothing(network: Network, node: Node) -> None:
    """The program in its place, the program before another, another class, and other tables: each datagram once."""
    classes = {number: shapes.enforce(1_000_000_000, shapes.WHOLE) for number in (CLASS, OTHER)}
    node.apply(objects.PutPair(0), *shapes.tree_on("cblv0", classes))
    node.put(table(4, {CLIENT: CLASS}), table(6, {}))
    put = objects.PutProgram("eth0", objects.Program(0), None)
    node.apply(put)
    with Numbered(network) as traffic:
        for number in range(SWAPS):
            minor = (CLASS, OTHER)[number % 2]
            node.apply(put, objects.PutTableEntries("cbl-v4", 4, table(4, {CLIENT: minor}).entries))
            if number % 10 == 0 and node.tcx:
                with node.stranger_first(ebpf.NEXT):
                    node.apply(put)
            if number % 10 == 5:
                node.put(table(4, {CLIENT: OTHER}, WEB))
                node.apply(objects.DeleteTable("cbl-v4-x", 4), objects.PutPair(0))
    assert traffic.wrong == []
    assert traffic.sent > SWAPS
    by_device, direct = node.control.counters()
    assert sum(each.packets for each in by_device["cblv0"].values()) == traffic.sent
    assert direct == {"cblv0": 0}
