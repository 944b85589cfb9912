"""Applies changes to a kernel state in memory, or refuses them as the real kernel would.

Each change is applied to a copy that then replaces the state, so a state that was handed out never changes. Owns the
state and the errnos; `fake_kernel` owns the readings, the counters and the failures.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterable, Mapping
from typing import TypeVar, assert_never

from bandwidth_agent.kernel import model, objects
from bandwidth_api import names
from bandwidth_api.plan import Prefix

_K = TypeVar("_K")
_V = TypeVar("_V")


class Acceptance:
    """The state of one network namespace; tests may set `state`, to play another program or an unfinished pass."""

    def __init__(self, node: model.Facts, state: model.State) -> None:
        self.node = node
        self.state = state
        self._astray_redirects: set[tuple[str, int]] = set()  # interface, shard: its ifb was deleted under it
        self._failing_classes: dict[tuple[str, int], int] = {}
        self._failing_entries: dict[tuple[str, Prefix], int] = {}
        self._passed: dict[str, model.HookCounters] = {}

    def apply(self, step: objects.Change) -> objects.Outcome:
        """Apply one change; refusals are in the outcome."""
        try:
            return self._apply(step)
        except OSError as error:
            return objects.Outcome(step, failure(error.errno or 0))

    def _apply(self, step: objects.Change) -> objects.Outcome:
        state = self.state
        match step:
            case objects.PutIfb(shard=shard):
                _refuse(names.ifb(shard) in self.node.taken_ifb_names, errno.EEXIST)
                _refuse(not self.node.features.ifb, errno.EOPNOTSUPP)
                self.state = dataclasses.replace(state, ifbs={**state.ifbs, shard: objects.Ifb(True)})
            case objects.PutPair(shard=shard):
                _refuse(self.node.features.ebpf != "", errno.EPERM)
                self.state = dataclasses.replace(state, pairs={**state.pairs, shard: objects.Pair(True)})
            case objects.PutTable() | objects.PutTableEntries() | objects.DeleteTableEntries() | objects.DeleteTable():
                return self._change_table(step)
            case objects.PutProgram(interface=name, program=program):
                _refuse(name not in self.node.interfaces, errno.ENODEV)
                _refuse(self.node.features.ebpf != "", errno.EPERM)
                self.state = dataclasses.replace(state, programs={**state.programs, name: program})
            case objects.DeleteProgram(interface=name):
                self.delete_program(name)
            case objects.PutRoot(device=device, default_minor=default):
                self._put_root(device, default)
            case objects.PutClasses():
                return self._put_classes(step)
            case objects.PutFilter(device=device, filter=mark_filter):
                _refuse(device not in state.trees, errno.ENOENT)
                self._tree(device, dataclasses.replace(state.trees[device], filter=mark_filter))
            case objects.PutHook(interface=name, hook=hook):
                self._put_hook(name, hook)
            case objects.PutSet(name=name, set=ipset):
                _refuse(not self.node.features.ipset, errno.EOPNOTSUPP)
                entries, failed = self._sound(name, ipset.entries)
                self._set(name, dataclasses.replace(ipset, entries=entries))
                return objects.Outcome(step, failed_entries=failed)
            case objects.PutEntries(name=name, entries=wanted):
                _refuse(name not in state.sets, errno.ENOENT)
                entries, failed = self._sound(name, wanted)
                self._set(name, dataclasses.replace(state.sets[name], entries={**state.sets[name].entries, **entries}))
                return objects.Outcome(step, failed_entries=failed)
            case objects.PutChain(family=family, chain=chain):
                _refuse(any(rule.set_name not in state.sets for rule in chain.rules), errno.ENOENT)
                _refuse(chain.guard != "" and chain.guard not in state.sets, errno.ENOENT)
                self.state = dataclasses.replace(state, chains={**state.chains, family: chain})
            case objects.DeleteChain(family=family):
                self.delete_chain(family)
            case objects.DeleteEntries(name=name, prefixes=prefixes):
                return self._delete_entries(step, name, prefixes)
            case objects.DeleteSet(name=name):
                _refuse(any(c.guard == name for c in state.chains.values()), errno.EBUSY)
                _refuse(any(r.set_name == name for c in state.chains.values() for r in c.rules), errno.EBUSY)
                self.state = dataclasses.replace(state, sets=without(state.sets, name))
            case objects.TrimHook(interface=name, shards=shards):
                self._trim_hook(name, shards)
            case objects.DeleteHook(interface=name):
                self.delete_hook(name)
            case objects.DeleteFilter(device=device):
                if device in state.trees:
                    self._tree(device, dataclasses.replace(state.trees[device], filter=None))
            case objects.DeleteClasses():
                return self._delete_classes(step)
            case objects.DeleteRoot(device=device):
                self.delete_root(device)
            case objects.DeleteIfb(shard=shard):
                self.delete_ifb(shard)
            case objects.DeletePair(shard=shard):
                self.delete_pair(shard)
            case _:
                assert_never(step)
        return objects.Outcome(step)

    def _put_root(self, device: str, default_minor: int) -> None:
        standing = self.state.trees.get(device)
        if standing is not None:
            # HTB cannot be changed in place.
            _refuse(standing.default_minor != default_minor, errno.EINVAL)
            return
        if device in self.node.interfaces:
            root = self.node.interfaces[device].root
            _refuse(root.handle != 0, errno.EEXIST)
        else:
            made = {*map(names.ifb, self.state.ifbs), *map(names.pair, self.state.pairs)}
            _refuse(device not in made, errno.ENODEV)
        self._tree(device, objects.Tree(default_minor, {}, None))

    def _put_classes(self, step: objects.PutClasses) -> objects.Outcome:
        _refuse(step.device not in self.state.trees, errno.ENOENT)
        tree = self.state.trees[step.device]
        classes = dict(tree.classes)
        failed: dict[int, objects.Failure] = {}
        for minor, wanted in sorted(step.classes.items(), key=lambda item: (item[1].parent != 0, item[0])):
            code = self._failing_classes.get((step.device, minor))
            if code is None and not (wanted.rate and wanted.ceil):
                code = errno.EINVAL
            if code is None and wanted.parent and wanted.parent not in classes:
                code = errno.ENOENT
            if code is not None:
                failed[minor] = failure(code)
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
        return objects.Outcome(step, failed_classes=failed)

    def _delete_classes(self, step: objects.DeleteClasses) -> objects.Outcome:
        if step.device not in self.state.trees:
            return objects.Outcome(step)
        tree = self.state.trees[step.device]
        classes = dict(tree.classes)
        left = set(step.minors) & classes.keys()
        failed = {n: failure(c) for n in left if (c := self._failing_classes.get((step.device, n))) is not None}
        left -= failed.keys()
        while leaves := left - {htb_class.parent for htb_class in classes.values()}:
            left -= leaves
            for minor in leaves:
                del classes[minor]
        failed.update((minor, failure(errno.EBUSY)) for minor in left)
        self._tree(step.device, dataclasses.replace(tree, classes=classes))
        return objects.Outcome(step, failed_classes=failed)

    def _put_hook(self, name: str, hook: objects.Hook) -> None:
        _refuse(name not in self.node.interfaces, errno.ENODEV)
        _refuse(not self.node.features.clsact, errno.EOPNOTSUPP)
        standing = self.state.hooks.get(name)
        kept: frozenset[int] = frozenset() if standing is None else standing.shards
        _refuse(not hook.shards <= self.state.ifbs.keys(), errno.ENODEV)
        hooks = {**self.state.hooks, name: hook._replace(shards=hook.shards | kept)}
        self._astray_redirects -= {(name, shard) for shard in hook.shards}
        self.state = dataclasses.replace(self.state, hooks=hooks)

    def _trim_hook(self, name: str, shards: frozenset[int]) -> None:
        if name in self.state.hooks:
            hook = self.state.hooks[name]
            hooks = {**self.state.hooks, name: hook._replace(shards=hook.shards - shards)}
            self.state = dataclasses.replace(self.state, hooks=hooks)
            self._astray_redirects -= {(name, shard) for shard in shards}

    def _change_table(
        self,
        step: objects.PutTable | objects.PutTableEntries | objects.DeleteTableEntries | objects.DeleteTable,
    ) -> objects.Outcome:
        name, tables = step.name, self.state.tables
        failing = {prefix: failure(code) for (table, prefix), code in self._failing_entries.items() if table == name}
        failed: Mapping[Prefix, objects.Failure] = {}
        match step:
            case objects.PutTable(table=table):
                _refuse(self.node.features.ebpf != "", errno.EPERM)
                failed = {p: why for p, why in failing.items() if p in table.entries}
                kept = {p: minor for p, minor in table.entries.items() if p not in failed}
                # The last one: of two tables with the same port, the one that was put last has it.
                tables = {**without(tables, name), name: dataclasses.replace(table, entries=kept)}
            case objects.PutTableEntries(entries=wanted):
                _refuse(name not in tables, errno.ENOENT)
                failed = {p: why for p, why in failing.items() if p in wanted}
                put = {p: minor for p, minor in wanted.items() if p not in failed}
                tables = _with_entries(tables, name, {**tables[name].entries, **put})
            case objects.DeleteTableEntries(prefixes=prefixes) if name in tables:
                failed = {p: why for p, why in failing.items() if p in prefixes}
                left = {p: minor for p, minor in tables[name].entries.items() if p not in prefixes or p in failed}
                tables = _with_entries(tables, name, left)
            case objects.DeleteTable():
                tables = without(tables, name)
        self.state = dataclasses.replace(self.state, tables=tables)
        return objects.Outcome(step, failed_entries=failed)

    def _delete_entries(self, step: objects.Change, name: str, prefixes: Iterable[Prefix]) -> objects.Outcome:
        if name not in self.state.sets:
            return objects.Outcome(step)
        ipset = self.state.sets[name]
        failed = {p: failure(c) for p in prefixes if (c := self._failing_entries.get((name, p))) is not None}
        gone = set(prefixes) - failed.keys()
        self._set(name, dataclasses.replace(ipset, entries={p: e for p, e in ipset.entries.items() if p not in gone}))
        return objects.Outcome(step, failed_entries=failed)

    def _sound(
        self, name: str, entries: Mapping[Prefix, objects.SetEntry]
    ) -> tuple[dict[Prefix, objects.SetEntry], dict[Prefix, objects.Failure]]:
        """The entries that the kernel takes, and why it does not take the others."""
        failed: dict[Prefix, objects.Failure] = {}
        for prefix, entry in entries.items():
            code = self._failing_entries.get((name, prefix))
            if code is None and (prefix.length == 0 or len(entry.comment) > names.COMMENT_MAX):
                code = errno.EINVAL
            if code is not None:
                failed[prefix] = failure(code)
        return {p: e for p, e in entries.items() if p not in failed}, failed

    def _tree(self, device: str, tree: objects.Tree) -> None:
        self.state = dataclasses.replace(self.state, trees={**self.state.trees, device: tree})

    def _set(self, name: str, ipset: objects.IpSet) -> None:
        self.state = dataclasses.replace(self.state, sets={**self.state.sets, name: ipset})

    def _interface(self, changed: model.Interface) -> None:
        interfaces = {**self.node.interfaces, changed.name: changed}
        self.node = dataclasses.replace(self.node, interfaces=interfaces)

    # ── what is gone, whoever took it away ─────────────────────────────────────────────────────────────────────────

    def delete_root(self, device: str) -> None:
        self.state = dataclasses.replace(self.state, trees=without(self.state.trees, device))

    def delete_ifb(self, shard: int) -> None:
        """The filters that redirect to it lose their target with it."""
        self._astray_redirects |= {(name, shard) for name, hook in self.state.hooks.items() if shard in hook.shards}
        trees = without(self.state.trees, names.ifb(shard))
        self.state = dataclasses.replace(self.state, ifbs=without(self.state.ifbs, shard), trees=trees)

    def delete_pair(self, shard: int) -> None:
        trees = without(self.state.trees, names.pair(shard))
        self.state = dataclasses.replace(self.state, pairs=without(self.state.pairs, shard), trees=trees)

    def delete_program(self, name: str) -> None:
        self.state = dataclasses.replace(self.state, programs=without(self.state.programs, name))

    def delete_hook(self, name: str) -> None:
        self._passed.pop(name, None)
        self._astray_redirects = {(other, shard) for other, shard in self._astray_redirects if other != name}
        self.state = dataclasses.replace(self.state, hooks=without(self.state.hooks, name))

    def delete_chain(self, family: int) -> None:
        self.state = dataclasses.replace(self.state, chains=without(self.state.chains, family))


def _refuse(condition: bool, code: int) -> None:
    if condition:
        raise OSError(code, os.strerror(code))


def _with_entries(
    tables: Mapping[str, objects.LookupTable], name: str, entries: Mapping[Prefix, int]
) -> dict[str, objects.LookupTable]:
    return {**tables, name: dataclasses.replace(tables[name], entries=entries)}


def failure(code: int) -> objects.Failure:
    return objects.Failure(code, os.strerror(code))


def without(mapping: Mapping[_K, _V], key: _K) -> dict[_K, _V]:
    return {k: v for k, v in mapping.items() if k != key}
