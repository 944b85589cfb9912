"""The real kernel: one network namespace's devices, traffic control, sets and chains behind `contract.Kernel`.

Composes the subsystems; decides nothing.

Everything belongs to the network namespace of the thread that uses the object, which must be the thread that made it:
the request socket keeps its namespace, the commands that the other parts run inherit the thread's. Samplers and
captures keep the namespace of the thread that opened them, and any thread may use them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Mapping

from bandwidth_agent.kernel import contract, model, objects
from bandwidth_agent.kernel.linux.bpf import driver
from bandwidth_agent.kernel.linux.netfilter import ipset, iptables, mark_uses
from bandwidth_agent.kernel.linux.packet import capture, sampler
from bandwidth_agent.kernel.linux.rtnl import features, tc
from bandwidth_agent.kernel.linux.rtnl.routing import route_lookup
from bandwidth_api.plan import Prefix


class RealKernel:
    """The kernel of the calling thread's network namespace."""

    def __init__(
        self, iptables_backend: iptables.Backend = "auto", bpf_directory: str = "", *, puts_programs: bool = True
    ) -> None:
        """`bpf_directory`: where in a bpf file system our eBPF objects have their names; "": there are none.

        `puts_programs`: whether to find out if they can be loaded, by loading them.
        """
        self._ebpf = driver.Driver(bpf_directory, loads=puts_programs)
        self._tc = tc.TrafficControl(self._ebpf.way_back)
        self._sets = ipset.IpSets()
        self._tables = iptables.IpTables(iptables_backend)
        self._mark_uses = mark_uses.MarkUses()
        self._ways = route_lookup.Ways()

    @property
    def port_ids(self) -> tuple[int, ...]:
        """The netlink ports that our own changes of devices and traffic control come from, for `events.Events`."""
        return *self._tc.port_ids, self._ebpf.port_id

    def close(self) -> None:
        self._ebpf.close()
        self._tc.close()
        self._ways.close()

    def facts(self) -> model.Facts:
        around = self._tc.surroundings(self._ebpf.program_ids())
        ebpf = self._ebpf.probe()
        answers = self._tc.features()
        there = frozenset(name for name, answer in answers.items() if answer is features.Answer.THERE)
        denied = {name for name, answer in answers.items() if answer is features.Answer.DENIED}
        if ebpf.lack is not None and not ebpf.lack.permitted:
            denied.add("ebpf")
        ipset = self._sets.supported() and self._tables.supported()
        return model.Facts(
            interfaces=around.interfaces,
            addresses=around.addresses,
            gateways=around.gateways,
            features=model.Features(
                ifb="ifb" in there,
                clsact="clsact" in there,
                ipset=ipset,
                skbedit="skbedit" in there,
                leaf_kinds=there & objects.LEAF_KINDS,
                denied=frozenset(denied),
                ebpf="" if ebpf.lack is None else ebpf.lack.why,
                programs_elsewhere=self._ebpf.elsewhere(),
                tcx=ebpf.tcx,
            ),
            mark_uses=self._mark_uses.read(),
            taken_ifb_names=around.taken_ifb_names,
            iptables_backend=self._tables.backend,
            idle=self._tables.idle() if ipset else {},
            unclear_routes=around.unclear_routes,
        )

    def observe(self, *, rules: bool = True) -> model.State:
        chains = self._tables.observe if rules else dict
        tables, programs = self._ebpf.observe()
        return dataclasses.replace(
            self._tc.observe(), sets=self._sets.observe(), chains=chains(), tables=tables, programs=programs
        )

    def counters(self, *, rules: bool = True) -> model.Counters:
        by_device, direct_packets = self._tc.counters()
        return model.Counters(
            at=time.monotonic(),
            classes=by_device,
            direct_packets=direct_packets,
            rules=self._tables.counters() if rules else {},
        )

    def hook_counters(self, interfaces: Collection[str]) -> model.HookReading:
        # The rules first: what is counted there before this moment must have come to the hook by the next.
        matched = sum(self._tables.counters().values())
        return model.HookReading(matched_packets=matched, hooks=self._tc.hook_counters(interfaces))

    def queues(self, devices: Collection[str], interfaces: Collection[str]) -> model.QueueReading:
        return self._tc.queues(devices, interfaces)

    def uplink_counters(self, interfaces: Collection[str]) -> Mapping[str, model.Uplink]:
        return self._tc.uplink_counters(interfaces)

    def ways(self, networks: Collection[Prefix]) -> model.Ways:
        return self._ways.ask(networks)

    def peers(self) -> Mapping[Prefix, str]:
        return self._tc.peers()

    def routes_changed(self) -> bool:
        return self._ways.changed()

    def sampler(self, interfaces: Collection[str]) -> contract.Sampler:
        return sampler.Sampler(interfaces)

    def capture(self, interfaces: Collection[str], most: int) -> contract.Capture:
        return capture.Capture(interfaces, most)

    def entry_counts(self) -> Mapping[str, int]:
        return self._sets.entry_counts()

    def apply_one(self, step: objects.Change) -> objects.Outcome:
        match step:
            case objects.PutSet():
                return self._sets.put_set(step)
            case objects.PutEntries():
                return self._sets.put_entries(step)
            case objects.DeleteEntries():
                return self._sets.delete_entries(step)
            case objects.DeleteSet():
                return self._sets.delete_set(step)
            case objects.PutChain():
                return self._tables.put_chain(step)
            case objects.DeleteChain():
                return self._tables.delete_chain(step)
            case objects.PutTable():
                return self._ebpf.put_table(step)
            case objects.PutTableEntries():
                return self._ebpf.put_entries(step)
            case objects.DeleteTableEntries():
                return self._ebpf.delete_entries(step)
            case objects.DeleteTable():
                return self._ebpf.delete_table(step)
            case objects.PutProgram():
                return self._ebpf.put_program(step)
            case objects.DeleteProgram():
                return self._ebpf.delete_program(step)
            case _:
                return self._tc.apply_one(step)  # whose own dispatch has no other case left
