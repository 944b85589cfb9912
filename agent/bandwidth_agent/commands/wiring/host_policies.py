"""Wires the policies of one host: with what they see, and where the limits that they make are kept."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from bandwidth_agent import reconcile
from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import watching
from bandwidth_agent.kernel import contract
from bandwidth_agent.policies import decider, made_files, sampled
from bandwidth_agent.policies import source as sources
from bandwidth_agent.sight.sight import Sight
from bandwidth_api.plan import Prefix
from bandwidth_api.policy.limitable import Limitable
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
    protected = watching.protected(lambda: of, reconciler, options)
    deciding = decider.Decider(node, options.node_labels, traffic, kept, protected, SYSTEM)
    return sources.WithPolicies(manifests, deciding, options.node_labels)


class _Nothing:
    """No traffic: for a program that looks only once."""

    trouble = ""

    def want(self, wanted: bool) -> None:
        pass

    def take(self, _sampling: Sampling, _named: Collection[Prefix], _limitable: Limitable) -> tuple[Report, ...]:
        return ()

    def close(self) -> None:
        pass
