"""A namespace with our eBPF in it: drivers that insist, and packets run through the programs without being sent."""

from __future__ import annotations

import pathlib
import struct
from collections.abc import Mapping

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.bpf import driver
from bandwidth_agent.kernel.linux.rtnl import tc
from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from bandwidth_lab.namespaces import Namespace

_TEST_RUN = 10
_CONTEXT_BYTES = 192  # struct __sk_buff
_PRIORITY, _INGRESS, _CB = 32, 36, 48  # where they are in it
_RUN = struct.Struct("=IIIIQQIIIIQQIIII")


def prefix(text: str) -> Prefix:
    return addresses.parse(text)


class Node:
    """Drivers in a namespace."""

    def __init__(self, namespace: Namespace, directory: pathlib.Path, *, tcx: bool) -> None:
        self.namespace, self.directory, self.tcx = namespace, directory, tcx
        self.driver = namespace.call(lambda: driver.Driver(str(directory), tcx=tcx))
        self.control = namespace.call(lambda: tc.TrafficControl(self.driver.way_back))

    def close(self) -> None:
        self.driver.close()
        self.control.close()

    def apply(self, *steps: objects.Change) -> None:
        """Make changes and insist that they succeed, twice: putting what is there is no failure."""
        for step in steps * 2:
            outcome = self.attempt(step)
            assert outcome == objects.Outcome(step), outcome

    def attempt(self, step: objects.Change) -> objects.Outcome:
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

    @property
    def tables(self) -> Mapping[str, objects.LookupTable]:
        return self.driver.observe()[0]

    @property
    def programs(self) -> Mapping[str, objects.Program]:
        return self.driver.observe()[1]

    @property
    def pairs(self) -> Mapping[int, objects.Pair]:
        return self.control.observe().pairs
