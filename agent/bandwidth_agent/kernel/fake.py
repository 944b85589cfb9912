"""A kernel in memory: the same contract as the real one, for tests that need no root, and for what no test can provoke.

What it accepts is `fake_rules`' to say. Owns the readings, the packets and their counters, and what goes wrong; no
decision: it knows what a kernel does, not what we want.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import os
from collections.abc import Collection, Mapping

from bandwidth_agent.kernel import change, fake_rules, model, tracer
from bandwidth_api import names
from bandwidth_api.plan import Prefix

_NO_QUEUE = model.RootQdisc("noqueue", 0, False)
_NO_CLASS_COUNTERS = model.ClassCounters(0, 0, 0, 0, 0, 0, 0)


def interface(name: str = "eth0", root: model.RootQdisc = _NO_QUEUE, **changes: object) -> model.Interface:
    """An uplink with the default route, and what else of it is to be different."""
    plain = model.Interface(name, 2, 1500, True, True, root, False, ())
    return plain._replace(**changes)  # type: ignore[arg-type]


def facts(*interfaces: model.Interface, fq_codel: bool = False) -> model.Facts:
    """The facts of a node with these interfaces (one uplink, if none is named), where nobody else uses marks."""
    return model.Facts(
        interfaces={i.name: i for i in interfaces or (interface(),)},
        addresses=frozenset(),
        gateways=frozenset(),
        features=model.Features(ifb=True, clsact=True, fq_codel=fq_codel, ipset=True),
        mark_uses=(),
        taken_ifb_names=frozenset(),
        iptables_backend="nft",
    )


class FakeKernel(fake_rules.Acceptance):
    """One network namespace in memory."""

    def __init__(self, node: model.Facts | None = None, state: model.State = model.EMPTY) -> None:
        super().__init__(facts() if node is None else node, state)
        self.at = 0.0  # what the counters say of the time
        self.applied: list[change.Change] = []
        self.read_error: int | None = None  # errno of every reading until it is None again
        self.bypassed: set[str] = set()  # interfaces where somebody's program ends the walk before our hook
        self._failing_steps: dict[int, int] = {}
        self._failing_types: dict[type, int] = {}
        self._class_counters: dict[tracer.ClassAddress, model.ClassCounters] = {}
        self._direct_packets: collections.Counter[str] = collections.Counter()
        self._rule_packets: collections.Counter[int] = collections.Counter()

    # ── interface.Kernel ───────────────────────────────────────────────────────────────────────────────────────

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

    def observe(self) -> model.State:
        self._read()
        hooks = {
            name: model.Hook(-1, None, hook.shards) if self._astray(name, hook) else hook
            for name, hook in self.state.hooks.items()
        }
        return dataclasses.replace(self.state, hooks=hooks)

    def apply_one(self, step: change.Change) -> change.Outcome:
        number = len(self.applied)
        self.applied.append(step)
        code = self._failing_steps.get(number) or self._failing_types.get(type(step))
        if code is not None:
            return change.Outcome(step, fake_rules.failure(code))
        return self.apply(step)

    def counters(self) -> model.Counters:
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
            rules={family: self._rule_packets[family] for family in self.state.chains},
        )

    def passage(self, interfaces: Collection[str]) -> model.Passage:
        self._read()
        return model.Passage(
            matched_packets=sum(self._rule_packets[family] for family in self.state.chains),
            hooks={
                name: self._passed.get(name, model.HookPassage(self.node.interfaces[name].index, 0, 0, 0, 0))
                for name in interfaces
                if name in self.state.hooks
            },
        )

    def entry_counts(self) -> Mapping[str, int]:
        self._read()
        return {name: len(ipset.entries) for name, ipset in self.state.sets.items()}

    def close(self) -> None:
        """Nothing to give back."""

    # ── packets ────────────────────────────────────────────────────────────────────────────────────────────────

    def trace(self, family: int, address: int, protocol: str, port: int, interface: str) -> tracer.Verdict:
        """Where a packet to `address` is queued: a class, nowhere ("unshaped"), or "dropped"."""
        return self._way().trace(family, address, protocol, port, interface)

    def transmit(
        self, family: int, address: int, protocol: str, port: int, interface: str, *, packets: int = 1, size: int = 1514
    ) -> tracer.Verdict:
        """Send packets and count them where the kernel would."""
        way = self._way()
        verdict = way.trace(family, address, protocol, port, interface)
        if any(way.classify(family, address, protocol, port)):
            self._rule_packets[family] += packets
        self._pass(interface, verdict, packets, packets * size)
        if isinstance(verdict, tracer.ClassAddress):
            had = self._class_counters.get(verdict, _NO_CLASS_COUNTERS)
            self._class_counters[verdict] = had._replace(
                bytes=had.bytes + packets * size, packets=had.packets + packets, lended=had.lended + packets
            )
        elif verdict == "unshaped" and interface in self.state.trees:
            self._direct_packets[interface] += packets
        return verdict

    def _way(self) -> tracer.Tracer:
        """What packets see of the state: no hook where somebody's program comes first."""
        hooks = {name: hook for name, hook in self.state.hooks.items() if name not in self.bypassed}
        return tracer.Tracer(dataclasses.replace(self.state, hooks=hooks), self._astray_redirects)

    def _pass(self, interface: str, verdict: tracer.Verdict, packets: int, size: int) -> None:
        """Count at the hook of an interface and behind it."""
        if interface not in self.state.hooks:
            return
        had = self._passed.get(interface, model.HookPassage(self.node.interfaces[interface].index, 0, 0, 0, 0))
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
        """Refuse the change that comes after `number` others from now on."""
        self._failing_steps[len(self.applied) + number] = code

    def fail_type(self, kind: type, code: int = errno.EBUSY) -> None:
        """Refuse every change of this type, until `heal`."""
        self._failing_types[kind] = code

    def heal(self) -> None:
        """Refuse nothing any more."""
        self._failing_classes.clear()
        self._failing_entries.clear()
        self._failing_steps.clear()
        self._failing_types.clear()
        self.read_error = None

    # ── what strangers do ──────────────────────────────────────────────────────────────────────────────────────

    def flush_set(self, name: str) -> None:
        self._set(name, dataclasses.replace(self.state.sets[name], entries={}))

    def replace_root(self, name: str, root: model.RootQdisc) -> None:
        """Give an interface a root of somebody else's."""
        self.delete_root(name)
        self._interface(self.node.interfaces[name]._replace(root=root))

    def delete_class(self, device: str, minor: int) -> None:
        tree = self.state.trees[device]
        self._tree(device, dataclasses.replace(tree, classes=fake_rules.without(tree.classes, minor)))

    def put_class(self, device: str, minor: int, htb_class: model.HtbClass) -> None:
        tree = self.state.trees[device]
        self._tree(device, dataclasses.replace(tree, classes={**tree.classes, minor: htb_class}))

    def set_ifb_down(self, shard: int) -> None:
        self.state = dataclasses.replace(self.state, ifbs={**self.state.ifbs, shard: model.Ifb(False)})

    def rule_above_ours(self, family: int) -> None:
        chains = {**self.state.chains, family: self.state.chains[family]._replace(jump_first=False)}
        self.state = dataclasses.replace(self.state, chains=chains)

    def remove_interface(self, name: str) -> None:
        """A link goes away, and what stood on it with it."""
        self.delete_root(name)
        self.delete_hook(name)
        self.node = dataclasses.replace(self.node, interfaces=fake_rules.without(self.node.interfaces, name))

    def add_interface(self, added: model.Interface) -> None:
        self._interface(added)

    def _astray(self, name: str, hook: model.Hook) -> bool:
        return any(shard not in self.state.ifbs or (name, shard) in self._astray_redirects for shard in hook.shards)

    def _read(self) -> None:
        if self.read_error is not None:
            raise OSError(self.read_error, os.strerror(self.read_error))
