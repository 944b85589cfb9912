"""The parts of a stranger's datapath that our programs must make no difference to: what it sets, and what it sees.

pod ── pod0: sets what is kept with a packet, and sends it out of eth0 ──▶ eth0: our program, then what it sees
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel.linux.bpf import maps, system_call
from bandwidth_lab import Network, ebpf
from bandwidth_lab.ebpf import R1, R2, R6
from bandwidth_lab.namespaces import Namespace

_REDIRECT = 23
_KIND, _MARK, _QUEUE, _PRIORITY, _INGRESS, _TC_INDEX = 4, 8, 12, 32, 36, 44  # in struct __sk_buff
_RECORD = struct.Struct("=Q6I")
_ARRAY = maps.Definition(2, 4, _RECORD.size, 1, 0)


class Kept(NamedTuple):
    """What a datapath keeps with a packet."""

    mark: int
    queue: int
    priority: int
    tc_index: int


class Seen(NamedTuple):
    """How many packets of the pod were seen, and how the last of them was."""

    packets: int
    kind: int  # as packet(7) says: to this host, to all, to another
    kept: Kept
    ingress: int


class Datapath:
    """A pod to send from, a client that keeps all that arrives, and what was seen between them."""

    def __init__(self, pod: Namespace, client: Namespace, array: maps.Map) -> None:
        self._pod, self._array = pod, array
        self.onto = _hardware_address(client)
        self._arriving = client.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        self._arriving.bind(("eth0", 0x0003))
        self._arriving.settimeout(10.0)

    def close(self) -> None:
        self._arriving.close()

    def send(self, *packets: bytes) -> None:
        """IP packets from the pod to the client."""
        with self._pod.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("eth0", 0))
            for packet in packets:
                kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
                sender.send(self.onto + _SOURCE + kind + packet)

    def arrived(self, count: int) -> list[bytes]:
        """The next so many IP packets that came from the pod, as they came."""
        found: list[bytes] = []
        while len(found) < count:
            frame = self._arriving.recv(1 << 16)
            if frame[6:12] == _SOURCE:
                found.append(frame[14:])
        return found

    def nothing_more(self) -> bool:
        """Whether no frame waits that came from the pod, once one more has come by."""
        self.send(_LAST)
        return self.arrived(1) == [_LAST]

    def seen(self) -> Seen:
        packets, kind, mark, queue, priority, ingress, tc_index = _RECORD.unpack(self._array.read()[1])
        return Seen(packets, kind, Kept(mark, queue, priority, tc_index), ingress)


_SOURCE = bytes.fromhex("020000000077")
_LAST = b"\x45" + bytes(59)


@contextlib.contextmanager
def datapath(network: Network, kept: Kept, way: ebpf.Way, *, sees: bool = True) -> Iterator[Datapath]:
    """A datapath in the server's namespace while this lasts. Its own program on eth0's way out is the last there.

    `sees`: whether it has one there.
    """
    server, pod = network.server.namespace, network.lab.namespace("pod")
    pod.sysctl({"ipv6.conf.all.disable_ipv6": 1, "ipv6.conf.default.disable_ipv6": 1})  # nothing that it says by itself
    network.lab.link(server, "pod0", pod, "eth0", mtu=9000)
    descriptor = system_call.create_map(*_ARRAY, "seen")
    array = maps.Map(descriptor, _ARRAY)
    if way == "cls_bpf":
        server.tc("qdisc add dev pod0 clsact", "qdisc add dev eth0 clsact")
    onto = server.call(lambda: socket.if_nametoindex("eth0"))
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        stack.enter_context(ebpf.attached(server, "pod0", "ingress", _sets(kept, onto), way=way))
        if sees:
            stack.enter_context(ebpf.attached(server, "eth0", "egress", _sees(descriptor, kept.mark), way=way))
        made = stack.enter_context(contextlib.closing(Datapath(pod, network.clients[0].namespace, array)))
        yield made


def _sets(kept: Kept, onto: int) -> bytes:
    made = ebpf.Program()
    made.copy(R6, R1)
    for offset, number in zip((_MARK, _QUEUE, _PRIORITY, _TC_INDEX), kept, strict=True):
        made.move(R2, number)
        made.store(R6, offset, R2)
    made.move(R1, onto)
    made.move(R2, 0)
    made.call(_REDIRECT)
    made.leave()
    return made.assembled()


def _sees(array: int, mark: int) -> bytes:
    made = ebpf.Program()
    made.copy(R6, R1)
    made.load(R2, R6, _MARK, 4)
    made.unless_equal(R2, mark, "other")
    made.value(R1, array)
    for number, offset in enumerate((_KIND, _MARK, _QUEUE, _PRIORITY, _INGRESS, _TC_INDEX)):
        made.load(R2, R6, offset, 4)
        made.store(R1, 8 + 4 * number, R2)
    made.move(R2, 1)
    made.count(R1, 0, R2)
    made.label("other")
    made.leave(ebpf.PASS)
    return made.assembled()


def _hardware_address(namespace: Namespace) -> bytes:
    listed = json.loads(namespace.run(["ip", "-j", "link", "show", "eth0"]).stdout)[0]["address"]
    return bytes.fromhex(listed.replace(":", ""))
