"""All of ours that is eBPF in one network namespace: tables, programs, and whether they can be had at all.

Composes; decides nothing. What is made here keeps working when no agent runs, because it has a name in a bpf file
system, whose directory the one who starts the agent names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import netlink, objects
from bandwidth_agent.kernel.linux.bpf import pins, probe, programs, tables
from bandwidth_agent.kernel.linux.rtnl import pairs

_ASK_AGAIN_SECONDS = 60.0


class Answer(NamedTuple):
    """Whether our programs can be loaded and kept here."""

    lack: probe.Lack | None  # why not
    tcx: bool = False


class Driver:
    """Tables and programs of the network namespace in which it is made. `directory`: "" for none. Not thread-safe.

    `tcx`: whether to attach programs there; None: where the kernel has it. `loads`: whether it is to put programs; one
    that only looks, or takes away, loads none to find out whether it could.
    """

    def __init__(
        self,
        directory: str,
        *,
        tcx: bool | None = None,
        loads: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory, self._loads = directory, loads
        self._monotonic = monotonic
        self._channel = netlink.Socket()
        self._has_tcx = probe.has_tcx() if tcx is None else tcx
        kept = self._pins = pins.Pins(directory)
        self._mounts = pins.mounted()
        self._tables = tables.Tables(kept)
        self._programs = programs.Programs(self._channel, kept, tcx=self._has_tcx)
        self._answer: tuple[Answer, float, int] | None = None  # and when, and in which file system

    @property
    def port_id(self) -> int:
        """The netlink port that our changes of filters come from."""
        return self._channel.port_id

    @property
    def way_back(self) -> pairs.WayBack:
        """The program for the other end of pairs."""
        return programs.way_back()

    def close(self) -> None:
        self._channel.close()

    def probe(self) -> Answer:
        """Find out whether programs can be loaded; where they cannot, again after a while. Raises OSError: not now.

        Again at once where another file system is mounted, or none any more.
        """
        now, device = self._monotonic(), _device(self._directory)
        known = self._answer
        if known is None or known[2] != device or (known[0].lack and now - known[1] >= _ASK_AGAIN_SECONDS):
            known = Answer(probe.lack(self._directory, tries=self._loads), self._has_tcx), now, device
            self._answer = known
        return known[0]

    def observe(self) -> tuple[Mapping[str, objects.LookupTable], Mapping[str, objects.Program]]:
        """Return tables by name, and programs by interface, without permission filters alone. Raises OSError."""
        if not self._directory:
            return {}, self._programs.observe_filters()
        try:
            found, attached = self._tables.observe(), self._programs.observe()
        except PermissionError:  # names are there, but of what has them nothing may be asked any more
            return {}, self._programs.observe_filters()
        if tables.UNNAMED in found:  # they will be made anew, and programs are to look into those
            attached = {name: program._replace(sound=False) for name, program in attached.items()}
        return found, attached

    def elsewhere(self) -> tuple[str, ...]:
        """Return the folders with names of programs of ours that this process sees, but was not given."""
        return self._pins.elsewhere(self._mounts)

    def program_ids(self) -> frozenset[int]:
        """Return the numbers that the kernel has for our programs. Raises OSError."""
        return self._programs.ids() if self._directory else frozenset()

    def put_table(self, step: objects.PutTable) -> objects.Outcome:
        return self._tables.put_table(step)

    def put_entries(self, step: objects.PutTableEntries) -> objects.Outcome:
        return self._tables.put_entries(step)

    def delete_entries(self, step: objects.DeleteTableEntries) -> objects.Outcome:
        return self._tables.delete_entries(step)

    def delete_table(self, step: objects.DeleteTable) -> objects.Outcome:
        return self._tables.delete_table(step)

    def put_program(self, step: objects.PutProgram) -> objects.Outcome:
        return self._programs.put(step)

    def delete_program(self, step: objects.DeleteProgram) -> objects.Outcome:
        return self._programs.delete(step)

    def before(self, interface: str) -> tuple[str, ...]:
        """Return what sees packets on an interface's way out before our program, as text. Raises OSError."""
        return self._programs.before(interface)


def _device(directory: str) -> int:
    """The number of the file system that a directory is in; 0 where there is none."""
    try:
        return os.stat(directory).st_dev
    except OSError:
        return 0
