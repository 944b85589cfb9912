"""Reads which limits are in force, again and again while somebody looks, and seldom enough to cost nothing.

Reads sets and classes by netlink, and rules or programs only where a limit has ports; changes nothing. Sets take
CAP_NET_ADMIN: without it the limits are those of the manifest directory, or not known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from bandwidth_agent.kernel import model, refusals
from bandwidth_agent.kernel.linux.bpf import driver
from bandwidth_agent.kernel.linux.netfilter import ipset, iptables
from bandwidth_agent.kernel.linux.rtnl import tc
from bandwidth_agent.policies.makers import Maker
from bandwidth_agent.sight import limits_in_force
from bandwidth_agent.sight.limits_in_force import Classes, LimitsInForce, Reading
from bandwidth_api.plan import Prefix
from bandwidth_sight.rows import MadeBy

STATE_SECONDS = 5.0  # so often sets and classes are read at most
COUNTERS_SECONDS = 1.9
COST = 200.0  # and so many times what a reading takes lies between two: half a per cent of a core


@dataclasses.dataclass(frozen=True, slots=True)
class Kernel:
    """The two readings that are needed."""

    state: Callable[[], model.State]  # without hooks; with chains or tables where limits have ports
    classes: Callable[[], Classes]


def of_this_host(backend: iptables.Backend = "auto", bpf_directory: str = "") -> tuple[Kernel, Callable[[], None]]:
    """Return the readings of this network namespace, and what closes them."""
    control, sets, tables = tc.TrafficControl(), ipset.IpSets(), iptables.IpTables(backend)
    ebpf = driver.Driver(bpf_directory, loads=False)

    def state() -> model.State:
        read = dataclasses.replace(control.observe(), sets=sets.observe())
        if not limits_in_force.has_ports(read):
            return read
        try:
            looked_up, programs = ebpf.observe()
            if programs:
                return dataclasses.replace(read, tables=looked_up, programs=programs)
            return dataclasses.replace(read, chains=tables.observe())
        except OSError:
            return read  # for which ports a limit holds is not known then, and is said so

    def close() -> None:
        control.close()
        ebpf.close()

    return (
        Kernel(
            state,
            lambda: control.counters()[0],
        ),
        close,
    )


class LimitReader:
    """Knows the limits that are in force, as of a few seconds ago."""

    def __init__(
        self,
        kernel: Kernel,
        instead: Callable[[], LimitsInForce | None],
        clock: Callable[[], float],
        makers: Callable[[], Mapping[str, Maker]] = dict,
    ) -> None:
        """`instead`: what should be in force, where the kernel does not say; None: that is not known either.

        `makers`: by limit the policy that made it.
        """
        self._makers = makers
        self._kernel, self._instead, self._clock = kernel, instead, clock
        self._limits: LimitsInForce | None = None
        self._before: Reading | None = None
        self._state_due = self._counters_due = float("-inf")
        self.networks: tuple[Prefix, ...] = ()
        self.trouble = ""  # why something is not known, and what helps; "" if all is

    def read(self) -> LimitsInForce | None:
        """Return what is known, read again if it is time."""
        now = self._clock()
        if now >= self._state_due:
            self._read_state()
            ended = self._clock()
            self._state_due = ended + max(STATE_SECONDS, COST * (ended - now))
        if self._limits is not None and not self.trouble and now >= self._counters_due and not self._limits.empty:
            began = self._clock()
            self._read_counters(self._limits)
            ended = self._clock()
            self._counters_due = ended + max(COUNTERS_SECONDS, COST * (ended - began))
        return self._limits

    def _read_state(self) -> None:
        try:
            state = self._kernel.state()
        except OSError as error:
            self._limits = self._instead()
            why = "reading sets takes CAP_NET_ADMIN" if error.errno in refusals.NOT_ALLOWED else refusals.words(error)
            known = "those of the manifests, and at limit is not known" if self._limits is not None else "not known"
            self.trouble = f"limits are {known}: {why}"
            return
        self.trouble = ""
        self.networks = limits_in_force.networks(state)
        at_limit = self._limits.at_limit if self._limits is not None else frozenset[int]()
        made_by = {
            name: MadeBy(each.policy, each.step, None if each.terms is None else len(each.terms.steps))
            for name, each in self._makers().items()
        }
        self._limits = limits_in_force.of_kernel(state, at_limit, made_by)

    def _read_counters(self, limits: LimitsInForce) -> None:
        try:
            after = Reading(self._clock(), self._kernel.classes())
        except OSError:
            return
        if self._before is not None:
            limits.heed(self._before, after)
        self._before = after
