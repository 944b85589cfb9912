"""A kernel in memory: the same contract as the real one, for tests that need no root, and for what no test can provoke.

Each step is applied to a copy that then takes the old one's place, so a state handed out never changes. Refuses what
the real kernel refuses, with the same errno. Owns no decision: it knows what a kernel accepts, not what we want.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import os
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from bandwidth_agent import placement
from bandwidth_agent.kernel import change, model, tracer
from bandwidth_api import names
from bandwidth_api.plan import Prefix

_K = TypeVar("_K")
_V = TypeVar("_V")

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


class FakeKernel:
    """One network namespace in memory. `state` may be set to anything, to play a stranger or a half-done pass."""

    def __init__(self, node: model.Facts | None = None, state: model.State = model.EMPTY) -> None:
        self.node = facts() if node is None else node
        self.state = state
        self.at = 0.0  # what the counters say of the time
        self.applied: list[change.Change] = []
        self.read_error: int | None = None  # errno of every reading until it is None again
        self.bypassed: set[str] = set()  # interfaces where somebody's program ends the walk before our hook
        self._astray_redirects: set[tuple[str, int]] = set()  # interface, shard: its ifb was deleted under it
        self._failing_classes: dict[tuple[str, int], int] = {}
        self._failing_entries: dict[tuple[str, Prefix], int] = {}
        self._failing_steps: dict[int, int] = {}
        self._failing_types: dict[type, int] = {}
        self._class_counters: dict[tracer.ClassAddress, model.ClassCounters] = {}
        self._direct_packets: collections.Counter[str] = collections.Counter()
        self._rule_packets: collections.Counter[int] = collections.Counter()
        self._passed: dict[str, model.HookPassage] = {}

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
            return change.Outcome(step, _failure(code))
        try:
            return self._apply(step)
        except OSError as error:
            return change.Outcome(step, _failure(error.errno or 0))

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

    def delete_root(self, device: str) -> None:
        self.state = dataclasses.replace(self.state, trees=_without(self.state.trees, device))

    def replace_root(self, name: str, root: model.RootQdisc) -> None:
        """Give an interface a root of somebody else's."""
        self.delete_root(name)
        self._interface(self.node.interfaces[name]._replace(root=root))

    def delete_class(self, device: str, minor: int) -> None:
        tree = self.state.trees[device]
        self._tree(device, dataclasses.replace(tree, classes=_without(tree.classes, minor)))

    def put_class(self, device: str, minor: int, htb_class: model.HtbClass) -> None:
        tree = self.state.trees[device]
        self._tree(device, dataclasses.replace(tree, classes={**tree.classes, minor: htb_class}))

    def set_ifb_down(self, shard: int) -> None:
        self.state = dataclasses.replace(self.state, ifbs={**self.state.ifbs, shard: model.Ifb(False)})

    def delete_ifb(self, shard: int) -> None:
        """The filters that redirect to it lose their target with it."""
        self._astray_redirects |= {(name, shard) for name, hook in self.state.hooks.items() if shard in hook.shards}
        trees = _without(self.state.trees, names.ifb(shard))
        self.state = dataclasses.replace(self.state, ifbs=_without(self.state.ifbs, shard), trees=trees)

    def delete_hook(self, name: str) -> None:
        self._passed.pop(name, None)
        self._astray_redirects = {(other, shard) for other, shard in self._astray_redirects if other != name}
        self.state = dataclasses.replace(self.state, hooks=_without(self.state.hooks, name))

    def delete_chain(self, family: int) -> None:
        self.state = dataclasses.replace(self.state, chains=_without(self.state.chains, family))

    def rule_above_ours(self, family: int) -> None:
        chains = {**self.state.chains, family: self.state.chains[family]._replace(jump_first=False)}
        self.state = dataclasses.replace(self.state, chains=chains)

    def remove_interface(self, name: str) -> None:
        """A link goes away, and what stood on it with it."""
        self.delete_root(name)
        self.delete_hook(name)
        self.node = dataclasses.replace(self.node, interfaces=_without(self.node.interfaces, name))

    def add_interface(self, added: model.Interface) -> None:
        self._interface(added)

    # ── one step ───────────────────────────────────────────────────────────────────────────────────────────────

    def _apply(self, step: change.Change) -> change.Outcome:
        state = self.state
        match step:
            case change.PutIfb(shard=shard):
                _refuse(names.ifb(shard) in self.node.taken_ifb_names, errno.EEXIST)
                _refuse(not self.node.features.ifb, errno.EOPNOTSUPP)
                self.state = dataclasses.replace(state, ifbs={**state.ifbs, shard: model.Ifb(True)})
            case change.PutRoot(device=device, default_minor=default):
                self._put_root(device, default)
            case change.PutClasses():
                return self._put_classes(step)
            case change.PutFilter(device=device, filter=mark_filter):
                _refuse(device not in state.trees, errno.ENOENT)
                self._tree(device, dataclasses.replace(state.trees[device], filter=mark_filter))
            case change.PutHook(interface=name, hook=hook):
                self._put_hook(name, hook)
            case change.PutSet(name=name, set=ipset):
                _refuse(not self.node.features.ipset, errno.EOPNOTSUPP)
                entries, failed = self._sound(name, ipset.entries)
                self._set(name, dataclasses.replace(ipset, entries=entries))
                return change.Outcome(step, failed_entries=failed)
            case change.PutEntries(name=name, entries=wanted):
                _refuse(name not in state.sets, errno.ENOENT)
                entries, failed = self._sound(name, wanted)
                self._set(name, dataclasses.replace(state.sets[name], entries={**state.sets[name].entries, **entries}))
                return change.Outcome(step, failed_entries=failed)
            case change.PutChain(family=family, chain=chain):
                _refuse(any(rule.set_name not in state.sets for rule in chain.rules), errno.ENOENT)
                self.state = dataclasses.replace(state, chains={**state.chains, family: chain})
            case change.DeleteChain(family=family):
                self.delete_chain(family)
            case change.DeleteEntries(name=name, prefixes=prefixes):
                return self._delete_entries(step, name, prefixes)
            case change.DeleteSet(name=name):
                _refuse(any(r.set_name == name for c in state.chains.values() for r in c.rules), errno.EBUSY)
                self.state = dataclasses.replace(state, sets=_without(state.sets, name))
            case change.TrimHook(interface=name, shards=shards) if name in state.hooks:
                hook = state.hooks[name]
                hooks = {**state.hooks, name: hook._replace(shards=hook.shards - shards)}
                self.state = dataclasses.replace(state, hooks=hooks)
                self._astray_redirects -= {(name, shard) for shard in shards}
            case change.DeleteHook(interface=name):
                self.delete_hook(name)
            case change.DeleteFilter(device=device) if device in state.trees:
                self._tree(device, dataclasses.replace(state.trees[device], filter=None))
            case change.DeleteClasses():
                return self._delete_classes(step)
            case change.DeleteRoot(device=device):
                self.delete_root(device)
            case change.DeleteIfb(shard=shard):
                self.delete_ifb(shard)
        return change.Outcome(step)

    def _put_root(self, device: str, default_minor: int) -> None:
        standing = self.state.trees.get(device)
        if standing is not None:
            # HTB cannot be changed in place.
            _refuse(standing.default_minor != default_minor, errno.EINVAL)
            return
        if device in self.node.interfaces:
            root = self.node.interfaces[device].root
            _refuse(root.handle != 0 or root.kind not in placement.REPLACEABLE_ROOTS, errno.EEXIST)
        else:
            _refuse(device not in map(names.ifb, self.state.ifbs), errno.ENODEV)
        self._tree(device, model.Tree(default_minor, {}, None))

    def _put_classes(self, step: change.PutClasses) -> change.Outcome:
        _refuse(step.device not in self.state.trees, errno.ENOENT)
        tree = self.state.trees[step.device]
        classes = dict(tree.classes)
        failed: dict[int, change.Failure] = {}
        for minor, wanted in sorted(step.classes.items(), key=lambda item: (item[1].parent != 0, item[0])):
            code = self._failing_classes.get((step.device, minor))
            if code is None and not (wanted.rate and wanted.ceil):
                code = errno.EINVAL
            if code is None and wanted.parent and wanted.parent not in classes:
                code = errno.ENOENT
            if code is not None:
                failed[minor] = _failure(code)
                continue
            # HTB passes over another parent for a class that is there.
            parent = wanted.parent
            known = step.observed.get(minor)
            if minor in classes and (known is None or known.parent == wanted.parent):
                parent = classes[minor].parent
            classes[minor] = wanted._replace(parent=parent)
            if parent:
                classes[parent] = classes[parent]._replace(leaf=None)
        self._tree(step.device, dataclasses.replace(tree, classes=classes))
        return change.Outcome(step, failed_classes=failed)

    def _delete_classes(self, step: change.DeleteClasses) -> change.Outcome:
        if step.device not in self.state.trees:
            return change.Outcome(step)
        tree = self.state.trees[step.device]
        classes = dict(tree.classes)
        left = set(step.minors) & classes.keys()
        failed = {n: _failure(c) for n in left if (c := self._failing_classes.get((step.device, n))) is not None}
        left -= failed.keys()
        while leaves := left - {htb_class.parent for htb_class in classes.values()}:
            left -= leaves
            for minor in leaves:
                del classes[minor]
        failed.update((minor, _failure(errno.EBUSY)) for minor in left)
        self._tree(step.device, dataclasses.replace(tree, classes=classes))
        return change.Outcome(step, failed_classes=failed)

    def _put_hook(self, name: str, hook: model.Hook) -> None:
        _refuse(name not in self.node.interfaces, errno.ENODEV)
        _refuse(not self.node.features.clsact, errno.EOPNOTSUPP)
        standing = self.state.hooks.get(name)
        kept: frozenset[int] = frozenset() if standing is None else standing.shards
        _refuse(not hook.shards <= self.state.ifbs.keys(), errno.ENODEV)
        hooks = {**self.state.hooks, name: hook._replace(shards=hook.shards | kept)}
        self._astray_redirects -= {(name, shard) for shard in hook.shards}
        self.state = dataclasses.replace(self.state, hooks=hooks)

    def _delete_entries(self, step: change.Change, name: str, prefixes: Iterable[Prefix]) -> change.Outcome:
        if name not in self.state.sets:
            return change.Outcome(step)
        ipset = self.state.sets[name]
        failed = {p: _failure(c) for p in prefixes if (c := self._failing_entries.get((name, p))) is not None}
        gone = set(prefixes) - failed.keys()
        self._set(name, dataclasses.replace(ipset, entries={p: e for p, e in ipset.entries.items() if p not in gone}))
        return change.Outcome(step, failed_entries=failed)

    def _sound(
        self, name: str, entries: Mapping[Prefix, model.SetEntry]
    ) -> tuple[dict[Prefix, model.SetEntry], dict[Prefix, change.Failure]]:
        """The entries that the kernel takes, and why it does not take the others."""
        failed: dict[Prefix, change.Failure] = {}
        for prefix, entry in entries.items():
            code = self._failing_entries.get((name, prefix))
            if code is None and (prefix.length == 0 or len(entry.comment) > names.COMMENT_MAX):
                code = errno.EINVAL
            if code is not None:
                failed[prefix] = _failure(code)
        return {p: e for p, e in entries.items() if p not in failed}, failed

    def _tree(self, device: str, tree: model.Tree) -> None:
        self.state = dataclasses.replace(self.state, trees={**self.state.trees, device: tree})

    def _set(self, name: str, ipset: model.IpSet) -> None:
        self.state = dataclasses.replace(self.state, sets={**self.state.sets, name: ipset})

    def _interface(self, changed: model.Interface) -> None:
        interfaces = {**self.node.interfaces, changed.name: changed}
        self.node = dataclasses.replace(self.node, interfaces=interfaces)

    def _astray(self, name: str, hook: model.Hook) -> bool:
        return any(shard not in self.state.ifbs or (name, shard) in self._astray_redirects for shard in hook.shards)

    def _read(self) -> None:
        if self.read_error is not None:
            raise OSError(self.read_error, os.strerror(self.read_error))


def _refuse(condition: bool, code: int) -> None:
    if condition:
        raise OSError(code, os.strerror(code))


def _failure(code: int) -> change.Failure:
    return change.Failure(code, os.strerror(code))


def _without(mapping: Mapping[_K, _V], key: _K) -> dict[_K, _V]:
    return {k: v for k, v in mapping.items() if k != key}
