"""The real kernel: one network namespace's devices, traffic control, sets and chains behind `interface.Kernel`.

Composes the subsystems; decides nothing.

Everything belongs to the network namespace of the thread that uses the object, which must be the thread that made it:
the request socket keeps its namespace, the commands that the other parts run inherit the thread's.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from bandwidth_agent.kernel import change, ipset, iptables, model, tc


class RealKernel:
    """The kernel of the calling thread's network namespace."""

    def __init__(self, iptables_backend: iptables.Backend = "auto") -> None:
        self._tc = tc.TrafficControl()
        self._sets = ipset.IpSets()
        self._tables = iptables.IpTables(iptables_backend)

    @property
    def port_ids(self) -> tuple[int, ...]:
        """The netlink ports that our own changes of devices and traffic control come from, for `events.Events`."""
        return self._tc.port_ids

    def close(self) -> None:
        self._tc.close()

    def facts(self) -> model.Facts:
        around = self._tc.surroundings()
        ifb, clsact, fq_codel = self._tc.features()
        ipset = self._sets.supported() and self._tables.supported()
        return model.Facts(
            interfaces=around.interfaces,
            addresses=around.addresses,
            gateways=around.gateways,
            features=model.Features(ifb=ifb, clsact=clsact, fq_codel=fq_codel, ipset=ipset),
            mark_uses=self._tables.mark_uses(),
            taken_ifb_names=around.taken_ifb_names,
            iptables_backend=self._tables.backend,
        )

    def observe(self) -> model.State:
        observed = self._tc.observe()
        return model.State(
            ifbs=observed.ifbs,
            trees=observed.trees,
            hooks=observed.hooks,
            sets=self._sets.observe(),
            chains=self._tables.observe(),
        )

    def counters(self) -> model.Counters:
        by_device, direct_packets = self._tc.counters()
        return model.Counters(
            at=time.monotonic(),
            classes=by_device,
            direct_packets=direct_packets,
            rules=self._tables.counters(),
        )

    def passage(self, interfaces: Collection[str]) -> model.Passage:
        # The rules first: what is counted there before this moment must have come to the hook by the next.
        matched = sum(self._tables.counters().values())
        return model.Passage(matched_packets=matched, hooks=self._tc.passage(interfaces))

    def entry_counts(self) -> Mapping[str, int]:
        return self._sets.entry_counts()

    def apply_one(self, step: change.Change) -> change.Outcome:
        match step:
            case change.PutSet():
                return self._sets.put_set(step)
            case change.PutEntries():
                return self._sets.put_entries(step)
            case change.DeleteEntries():
                return self._sets.delete_entries(step)
            case change.DeleteSet():
                return self._sets.delete_set(step)
            case change.PutChain():
                return self._tables.put_chain(step)
            case change.DeleteChain():
                return self._tables.delete_chain(step)
            case _:
                return self._tc.apply_one(step)
