"""A kernel in memory: the same contract as the real one, for tests that need no root, and for what no test can provoke.

`rules` decides what it accepts. Owns the readings, the packets and their counters, and what goes wrong; no
decision: it knows what a kernel does, not what we want.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import os
from collections.abc import Collection, Mapping

from bandwidth_agent.kernel import contract, model, objects, traffic
from bandwidth_agent.kernel.fake import rules, tracer, window
from bandwidth_api import addresses, names
from bandwidth_api.plan import Prefix

_NO_QUEUE = model.RootQdisc("noqueue", 0, False)
_PROTOCOLS = {"TCP": traffic.TCP, "UDP": traffic.UDP}
_NO_CLASS_COUNTERS = model.ClassCounters(0, 0, 0, 0, 0, 0, 0)


def interface(name: str = "eth0", root: model.RootQdisc = _NO_QUEUE, **changes: object) -> model.Interface:
    """Return an uplink with the default route, with the fields that are given changed."""
    plain = model.Interface(name, 2, 1500, True, True, root, False, ())
    return plain._replace(**changes)  # type: ignore[arg-type]


def facts(
    *interfaces: model.Interface,
    leaf_kinds: frozenset[str] = frozenset(),
    ebpf: str = "the agent was given no place for them",
) -> model.Facts:
    """Return the facts of a node with these interfaces (by default one uplink), where no other rule uses marks.

    `ebpf`: as in `model.Features`; "": programs can be loaded.
    """
    return model.Facts(
        interfaces={i.name: i for i in interfaces or (interface(),)},
        addresses=frozenset(),
        gateways=frozenset(),
        features=model.Features(ifb=True, clsact=True, ipset=True, leaf_kinds=leaf_kinds, ebpf=ebpf),
        mark_uses=(),
        taken_ifb_names=frozenset(),
        iptables_backend="nft",
    )


class FakeKernel(rules.Acceptance):
    """One network namespace in memory."""

    def __init__(self, node: model.Facts | None = None, state: model.State = model.EMPTY) -> None:
        super().__init__(facts() if node is None else node, state)
        self.at = 0.0  # the time of the counters
        self.applied: list[objects.Change] = []
        self.read_error: int | None = None  # errno of every reading until it is None again
        self.routes: dict[Prefix, frozenset[str]] = {}  # networks that the default route does not lead to
        self.relayed: dict[Prefix, Prefix] = {}  # networks that another host is the next hop of, and that host
        self._asked: dict[Prefix, frozenset[str]] = {}
        self.unanswered = False  # whether a question about routes fails
        self.bypassed: set[str] = set()  # interfaces where another program accepts packets before our hook
        self.uplinks: dict[str, model.UplinkCounters] = {}  # what interfaces have sent, and what waits before them
        self.speeds: dict[str, int] = {}  # bits per second, of interfaces whose devices say it
        self.windows: list[window.Window] = []  # samplers and captures that are open
        self.window_error: int | None = None  # errno of every opening of one until it is None again
        self._failing_steps: dict[int, int] = {}
        self._failing_types: dict[type, int] = {}
        self._class_counters: dict[tracer.ClassAddress, model.ClassCounters] = {}
        self._direct_packets: collections.Counter[str] = collections.Counter()
        self._rule_packets: collections.Counter[int] = collections.Counter()

    # ── contract.Kernel ────────────────────────────────────────────────────────────────────────────────────────

    def facts(self) -> model.Facts:
        self._read()
        ours = model.RootQdisc("htb", names.HTB_MAJOR, True)
        interfaces = {
            name: i._replace(
                root=ours if name in self.state.trees else i.root, clsact=i.clsact or name in self.state.hooks
            )
            for name, i in self.node.interfaces.items()
        }
        return dataclasses.replace(self.node, interfaces=interfaces)

    def observe(self, *, rules: bool = True) -> model.State:
        self._read()
        hooks = {
            name: objects.Hook(-1, None, hook.shards) if self._astray(name, hook) else hook
            for name, hook in self.state.hooks.items()
        }
        return dataclasses.replace(self.state, hooks=hooks, chains=self.state.chains if rules else {})

    def ways(self, networks: Collection[Prefix]) -> model.Ways:
        if self.unanswered:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        self._asked = dict(self.routes)
        usual = frozenset(i.name for i in self.node.interfaces.values() if i.default_route)
        ways = {each: (model.Way(each, self.routes.get(each, usual)),) for each in networks}
        return model.Ways({each: found for each, found in ways.items() if found[0].interfaces}, {})

    def peers(self) -> Mapping[Prefix, str]:
        self._read()
        return {gateway: f"next hop of {addresses.write(network)}" for network, gateway in self.relayed.items()}

    def routes_changed(self) -> bool:
        return self._asked != self.routes

    def apply_one(self, step: objects.Change) -> objects.Outcome:
        number = len(self.applied)
        self.applied.append(step)
        code = self._failing_steps.get(number) or self._failing_types.get(type(step))
        if code is not None:
            return objects.Outcome(step, rules.failure(code))
        return self.apply(step)

    def counters(self, *, rules: bool = True) -> model.Counters:
        self._read()
        return model.Counters(
            at=self.at,
            classes={
                device: {
                    minor: self._class_counters.get(tracer.ClassAddress(device, minor), _NO_CLASS_COUNTERS)
                    for minor in tree.classes
                }
                for device, tree in self.state.trees.items()
            },
            direct_packets={device: self._direct_packets[device] for device in self.state.trees},
            rules={family: self._rule_packets[family] for family in self.state.chains if rules},
        )

    def hook_counters(self, interfaces: Collection[str]) -> model.HookReading:
        self._read()
        return model.HookReading(
            matched_packets=sum(self._rule_packets[family] for family in self.state.chains),
            hooks={
                name: self._passed.get(name, model.HookCounters(self.node.interfaces[name].index, 0, 0, 0, 0))
                for name in interfaces
                if name in self.state.hooks
            },
        )

    def queues(self, devices: Collection[str], interfaces: Collection[str]) -> model.QueueReading:
        classes = self.counters().classes
        return model.QueueReading(
            at=self.at,
            classes={name: classes[name] for name in devices if name in classes},
            uplinks={
                name: self.uplinks.get(name, model.UplinkCounters(0, 0))
                for name in interfaces
                if name in self.node.interfaces
            },
        )

    def uplink_counters(self, interfaces: Collection[str]) -> Mapping[str, model.Uplink]:
        self._read()
        sent = self.queues((), interfaces).uplinks
        return {name: model.Uplink(each.sent_bytes, self.speeds.get(name)) for name, each in sent.items()}

    def sampler(self, interfaces: Collection[str]) -> contract.Sampler:
        self._may_look()
        return window.Sampler(self, interfaces)

    def capture(self, interfaces: Collection[str], most: int) -> contract.Capture:
        self._may_look()
        return window.Capture(self, interfaces, most)

    def entry_counts(self) -> Mapping[str, int]:
        self._read()
        return {name: len(ipset.entries) for name, ipset in self.state.sets.items()}

    def close(self) -> None:
        """Do nothing: there are no sockets."""

    # ── packets ────────────────────────────────────────────────────────────────────────────────────────────────

    def trace(self, family: int, address: int, protocol: str, port: int, interface: str) -> tracer.Verdict:
        """Return where a packet to `address` is queued: a class, "unshaped", or "dropped"."""
        return self._way().trace(family, address, protocol, port, interface)

    def transmit(
        self,
        family: int,
        address: int,
        protocol: str,
        port: int,
        interface: str,
        *,
        packets: int = 1,
        size: int = 1514,
        destination_port: int = -1,
        past_rules: bool = False,
    ) -> tracer.Verdict:
        """Send packets of `size` bytes with their link header, and count them where the kernel would.

        `past_rules`: as those that an eBPF program hands from one device to another, which no rule of netfilter sees.
        """
        way = self._way(past_rules=past_rules)
        verdict = way.trace(family, address, protocol, port, interface)
        if any(way.classify(family, address, protocol, port)):  # rules see it, whatever programs do then
            self._rule_packets[family] += packets
        self._pass(interface, verdict, packets, packets * size)
        if isinstance(verdict, tracer.ClassAddress):
            had = self._class_counters.get(verdict, _NO_CLASS_COUNTERS)
            self._class_counters[verdict] = had._replace(
                bytes=had.bytes + packets * size, packets=had.packets + packets, lended=had.lended + packets
            )
        elif verdict == "unshaped" and interface in self.state.trees:
            self._direct_packets[interface] += packets
        if verdict != "dropped":
            number, length = _PROTOCOLS.get(protocol, 0), size - window.LINK_BYTES
            packet = traffic.Packet(interface, family, address, number, port, length, destination_port)
            devices = [interface]
            if isinstance(verdict, tracer.ClassAddress) and verdict.device != interface:
                devices.insert(0, verdict.device)  # it comes out of our own device first
            for each in self.windows:
                for device in devices:
                    each.see(packet._replace(interface=device), packets)
        return verdict

    def hold_back(self, device: str, minor: int, backlog_bytes: int) -> None:
        """Let so much wait in a class."""
        where = tracer.ClassAddress(device, minor)
        had = self._class_counters.get(where, _NO_CLASS_COUNTERS)
        self._class_counters[where] = had._replace(backlog_bytes=backlog_bytes)

    def _way(self, *, past_rules: bool = False) -> tracer.Tracer:
        """What packets see of the state: no hook where another program comes first."""
        hooks = {name: hook for name, hook in self.state.hooks.items() if name not in self.bypassed}
        chains = {} if past_rules else self.state.chains
        return tracer.Tracer(dataclasses.replace(self.state, hooks=hooks, chains=chains), self._astray_redirects)

    def _may_look(self) -> None:
        if self.window_error is not None:
            raise OSError(self.window_error, os.strerror(self.window_error))

    def _pass(self, interface: str, verdict: tracer.Verdict, packets: int, size: int) -> None:
        """Count at the hook of an interface and behind it."""
        if interface not in self.state.hooks:
            return
        had = self._passed.get(interface, model.HookCounters(self.node.interfaces[interface].index, 0, 0, 0, 0))
        redirected = verdict == "dropped" or (isinstance(verdict, tracer.ClassAddress) and verdict.device != interface)
        reached = 0 if interface in self.bypassed else 2 * size if redirected else size
        self._passed[interface] = had._replace(
            left_bytes=had.left_bytes + size,
            reached_bytes=had.reached_bytes + reached,
            redirected_bytes=had.redirected_bytes + size * redirected,
            redirected_packets=had.redirected_packets + packets * redirected,
        )

    # ── what goes wrong ────────────────────────────────────────────────────────────────────────────────────────

    def fail_class(self, device: str, minor: int, code: int = errno.ENOMEM) -> None:
        """Refuse to put or delete this class, until `heal`."""
        self._failing_classes[device, minor] = code

    def fail_entry(self, name: str, prefix: Prefix, code: int = errno.ENOMEM) -> None:
        """Refuse to put or delete this set entry, until `heal`."""
        self._failing_entries[name, prefix] = code

    def fail_step(self, number: int, code: int = errno.EBUSY) -> None:
        """Refuse the change that follows after `number` other ones."""
        self._failing_steps[len(self.applied) + number] = code

    def fail_type(self, kind: type, code: int = errno.EBUSY) -> None:
        """Refuse every change of this type, until `heal`."""
        self._failing_types[kind] = code

    def heal(self) -> None:
        """Refuse no further change."""
        self._failing_classes.clear()
        self._failing_entries.clear()
        self._failing_steps.clear()
        self._failing_types.clear()
        self.read_error = None

    # ── what other programs do ─────────────────────────────────────────────────────────────────────────────────────

    def flush_set(self, name: str) -> None:
        self._set(name, dataclasses.replace(self.state.sets[name], entries={}))

    def replace_root(self, name: str, root: model.RootQdisc) -> None:
        """Give an interface a root qdisc of another program."""
        self.delete_root(name)
        self._interface(self.node.interfaces[name]._replace(root=root))

    def delete_class(self, device: str, minor: int) -> None:
        tree = self.state.trees[device]
        self._tree(device, dataclasses.replace(tree, classes=rules.without(tree.classes, minor)))

    def set_ifb_down(self, shard: int) -> None:
        self.state = dataclasses.replace(self.state, ifbs={**self.state.ifbs, shard: objects.Ifb(False)})

    def set_pair_down(self, shard: int) -> None:
        self.state = dataclasses.replace(self.state, pairs={**self.state.pairs, shard: objects.Pair(False)})

    def program_before_ours(self, name: str) -> None:
        """Put a program of another program's before ours."""
        behind = self.state.programs[name]._replace(first=False)
        self.state = dataclasses.replace(self.state, programs={**self.state.programs, name: behind})

    def rule_above_ours(self, family: int) -> None:
        chains = {**self.state.chains, family: self.state.chains[family]._replace(jump_first=False)}
        self.state = dataclasses.replace(self.state, chains=chains)

    def remove_interface(self, name: str) -> None:
        """Remove an interface with everything on it."""
        self.delete_root(name)
        self.delete_hook(name)
        self.delete_program(name)
        self.node = dataclasses.replace(self.node, interfaces=rules.without(self.node.interfaces, name))

    def add_interface(self, added: model.Interface) -> None:
        self._interface(added)

    def _astray(self, name: str, hook: objects.Hook) -> bool:
        return any(shard not in self.state.ifbs or (name, shard) in self._astray_redirects for shard in hook.shards)

    def _read(self) -> None:
        if self.read_error is not None:
            raise OSError(self.read_error, os.strerror(self.read_error))
