"""A namespace with our eBPF in it: drivers that insist, and packets run through the programs without being sent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import socket
import struct
from collections.abc import Iterator, Mapping

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.bpf import driver, system_call
from bandwidth_agent.kernel.linux.rtnl import tc
from bandwidth_api import addresses, names
from bandwidth_api.plan import PortRange, Prefix
from bandwidth_lab import ebpf
from bandwidth_lab.namespaces import Namespace

_TEST_RUN = 10
_CONTEXT_BYTES = 192  # struct __sk_buff
_PRIORITY_AT = 32  # of it
# program, what it returned; bytes in, bytes out, where; repetitions, time; context in, context out, where; flags
_RUN = struct.Struct("=IIIIQQIIIIQQI4x")
NEXT, REDIRECT = 0xFFFF_FFFF, 7  # what programs return

V4, V6 = "cbl-v4", "cbl-v6"


def prefix(text: str) -> Prefix:
    return addresses.parse(text)


def table(family: int, entries: Mapping[str, int], *ports: PortRange) -> objects.LookupTable:
    return objects.LookupTable(family, ports, {prefix(client): minor for client, minor in entries.items()})


class Node:
    """Drivers in a namespace."""

    def __init__(self, namespace: Namespace, directory: pathlib.Path, *, tcx: bool) -> None:
        self.namespace, self.directory, self.tcx = namespace, directory, tcx
        self.driver = namespace.call(lambda: driver.Driver(str(directory), tcx=tcx))
        self.control = namespace.call(lambda: tc.TrafficControl(self.driver.way_back))

    @contextlib.contextmanager
    def another(self) -> Iterator[Node]:
        """One that knows nothing of what this one did."""
        made = Node(self.namespace, self.directory, tcx=self.tcx)
        try:
            yield made
        finally:
            made.close()

    def close(self) -> None:
        self.driver.close()
        self.control.close()

    def apply(self, *steps: objects.Change) -> None:
        """Make changes and insist that they succeed, twice: putting what is there is no failure."""
        for step in steps * 2:
            outcome = self.attempt(step)
            assert outcome == objects.Outcome(step), outcome

    def attempt(self, step: objects.Change) -> objects.Outcome:
        return self.namespace.call(lambda: self._attempt(step))

    def _attempt(self, step: objects.Change) -> objects.Outcome:
        match step:
            case objects.PutTable():
                return self.driver.put_table(step)
            case objects.PutTableEntries():
                return self.driver.put_entries(step)
            case objects.DeleteTableEntries():
                return self.driver.delete_entries(step)
            case objects.DeleteTable():
                return self.driver.delete_table(step)
            case objects.PutProgram():
                return self.driver.put_program(step)
            case objects.DeleteProgram():
                return self.driver.delete_program(step)
            case _:
                return self.control.apply_one(step)

    def put(self, *tables: objects.LookupTable) -> None:
        """Tables, each with the name that its set has."""
        self.apply(*(objects.PutTable(names.set_name(t.family, t.ports), t) for t in tables))

    @contextlib.contextmanager
    def stranger_first(self, verdict: int = ebpf.PASS) -> Iterator[None]:
        """A program of another at TCX on eth0's way out, before all that are there, while this lasts."""
        program = system_call.load(ebpf.verdict(verdict), "cil_to_netdev")
        try:
            index = self.namespace.call(lambda: socket.if_nametoindex("eth0"))
            link = self.namespace.call(lambda: system_call.link_first(program, index))
        finally:
            os.close(program)
        try:
            yield
        finally:
            system_call.detach_link(link)
            os.close(link)

    @contextlib.contextmanager
    def program(self, interface: str = "eth0") -> Iterator[Runner]:
        """The program of an interface, to be asked about packets."""
        index = self.namespace.call(lambda: socket.if_nametoindex(interface))
        (path,) = self.directory.glob(f"client-bandwidth/*/program-{index}")
        descriptor = system_call.open_pinned(str(path))
        try:
            yield Runner(descriptor)
        finally:
            os.close(descriptor)

    @property
    def tables(self) -> Mapping[str, objects.LookupTable]:
        return self.namespace.call(self.driver.observe)[0]

    @property
    def programs(self) -> Mapping[str, objects.Program]:
        return self.namespace.call(self.driver.observe)[1]

    def before(self, interface: str = "eth0") -> tuple[str, ...]:
        return self.namespace.call(lambda: self.driver.before(interface))

    @property
    def pairs(self) -> Mapping[int, objects.Pair]:
        return self.control.observe().pairs


class Runner:
    """Asks a program about packets that nobody sends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._out = ctypes.create_string_buffer(1 << 14)
        self._context = ctypes.create_string_buffer(_CONTEXT_BYTES)

    def run(self, packet: bytes, ether_type: int | None = None) -> tuple[int, int]:
        """What the program returns for an IP packet, and the priority that the packet has then."""
        kind = ether_type or (0x0800 if packet[0] >> 4 == 4 else 0x86DD)
        frame = bytes(12) + kind.to_bytes(2, "big") + packet
        given, out, context = ctypes.create_string_buffer(frame, len(frame)), self._out, self._context
        where = ctypes.addressof(given), ctypes.addressof(out)
        ctypes.memset(context, 0, _CONTEXT_BYTES)
        contexts = _CONTEXT_BYTES, _CONTEXT_BYTES, ctypes.addressof(context), ctypes.addressof(context)
        asked = _RUN.pack(self._descriptor, 0, len(frame), len(out), *where, 1, 0, *contexts, 0)
        answer = _RUN.unpack(system_call.command(_TEST_RUN, asked)[1])
        (priority,) = struct.unpack_from("=I", context, _PRIORITY_AT)
        return int(answer[1]), int(priority)

    def number(self, packet: bytes) -> int:
        """The class number that a packet gets; 0 for none."""
        returned, priority = self.run(packet)
        assert (returned, priority >> 16) in ((NEXT, 0), (NEXT, names.HTB_MAJOR), (REDIRECT, names.HTB_MAJOR))
        return priority & 0xFFFF
