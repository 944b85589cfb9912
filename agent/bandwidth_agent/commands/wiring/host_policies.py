"""Wires the policies of one host: with what they see, and where the limits that they make are kept."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from bandwidth_agent import reconcile
from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import watching
from bandwidth_agent.kernel import contract, model
from bandwidth_agent.planner.admission import protected_addresses
from bandwidth_agent.policies import decider, made_files, sampled
from bandwidth_agent.policies import source as sources
from bandwidth_agent.sight.sight import Sight
from bandwidth_api.compiler.protected_addresses import Index, index
from bandwidth_api.plan import Prefix
from bandwidth_api.policy.reports import Report, Sampling
from bandwidth_runtime.clock import SYSTEM

if TYPE_CHECKING:
    from bandwidth_agent.limits.directory import manifest_source


def source(
    manifests: manifest_source.ManifestSource,
    options: Options,
    of: contract.Kernel,
    reconciler: reconcile.Reconciler,
    seen: Sight | None,
) -> sources.WithPolicies:
    """Return the manifests together with the limits that their policies made.

    `seen`: what is sampled by; None: nothing is sampled, nothing new is decided and nothing is written.
    """
    node = options.node_name or os.uname().nodename
    kept = made_files.MadeFiles(options.state_dir, writes=seen is not None)
    traffic: decider.Traffic = _Nothing()
    if seen is not None:
        moved = watching.classes_of(lambda: of, reconciler).read
        traffic = sampled.Sampled(node, seen.lease, watching.capacity(lambda: of, reconciler, options), moved)
    protected = _protected(of, reconciler, options)
    deciding = decider.Decider(node, options.node_labels, traffic, kept, protected, SYSTEM)
    return sources.WithPolicies(manifests, deciding, options.node_labels)


class _Nothing:
    """No traffic: for a program that looks only once."""

    trouble = ""

    def want(self, wanted: bool) -> None:
        pass

    def take(self, _sampling: Sampling, _named: Collection[Prefix]) -> tuple[Report, ...]:
        return ()

    def close(self) -> None:
        pass


def _protected(of: contract.Kernel, reconciler: reconcile.Reconciler, options: Options) -> Callable[[], Index]:
    """Return what finds the addresses that no limit may touch here, worked out again when the node's facts change."""
    known: tuple[model.Facts, Index] | None = None

    def protected() -> Index:
        nonlocal known
        facts = reconciler.facts or (known[0] if known is not None else None)
        if facts is None:
            facts = dataclasses.replace(of.facts(), spared=reconciler.spared())
        if known is None or known[0] is not facts:
            known = facts, index(protected_addresses.prefixes(facts, options.settings))
        return known[1]

    return protected
