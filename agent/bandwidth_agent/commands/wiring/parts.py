"""Makes the parts that sub-commands are wired from, after the options: the kernel, the source of limits."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from bandwidth_agent import reconcile
from bandwidth_agent.commands.options import Options
from bandwidth_agent.kernel import contract
from bandwidth_agent.kernel.linux import real
from bandwidth_agent.limits import failsafe
from bandwidth_agent.planner.placement import decision
from bandwidth_agent.sight.sight import Sight
from bandwidth_agent.sight.truth import stored_findings
from bandwidth_api import names, plan

if TYPE_CHECKING:
    from bandwidth_agent.limits.directory import manifest_source


class ManifestsError(Exception):
    """The manifest directory cannot be used; the message says why and what to do."""


@functools.cache
def version() -> str:
    """Return the version of this program."""
    return importlib.metadata.version("client-bandwidth-operator")


def kernel(options: Options) -> real.RealKernel:
    """Return the kernel of this network namespace, for use by the calling thread alone."""
    directory = "" if options.bpf_directory is None else str(options.bpf_directory)
    puts = options.command in ("run", "plan")
    return real.RealKernel(options.iptables_backend, directory, puts_programs=puts)


def spared(options: Options) -> Callable[[], Mapping[plan.Prefix, str]]:
    """Return the function that finds the addresses this host depends on: its resolvers, its API server."""
    if not options.settings.failsafe:
        return failsafe.nothing
    if options.manifests is not None:
        return failsafe.Failsafe()
    from bandwidth_kube.transport import peers

    return failsafe.Failsafe(peers.latest)


def source(
    options: Options, of: contract.Kernel, reconciler: reconcile.Reconciler, *, writes: bool
) -> manifest_source.ManifestSource:
    """Return the manifest directory as a source of limits. Raises ManifestsError.

    `writes`: the accepted limits are saved in the state directory.
    """
    from bandwidth_agent.limits.directory import (  # YAML and inotify, which no cluster needs
        last_good_state,
        manifest_source,
        protected_addresses,
    )

    path = options.manifests
    if path is None:
        raise ManifestsError("--manifests DIR is required")
    try:
        os.scandir(path).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ManifestsError(f"--manifests {path}: {reason}; it must be a directory that can be read") from None
    absolute = path if path.is_absolute() else path.absolute()
    store = last_good_state.Store(options.state_dir, absolute, version(), writes=writes)
    first = functools.cache(lambda: dataclasses.replace(of.facts(), spared=reconciler.spared()))
    refuse = protected_addresses.Guard(lambda: reconciler.facts or first(), options.settings, options.node_labels)
    return manifest_source.ManifestSource(
        path, store, options.node_labels, in_force=functools.cache(lambda: limits_in(of)), refuse=refuse
    )


def findings(options: Options) -> stored_findings.Store:
    """Return where it is kept over a restart which limits are bypassed; nothing is read or written yet."""
    of = options.node_name if options.manifests is None else f"{os.uname().nodename} {options.manifests.absolute()}"
    return stored_findings.Store(options.state_dir, of)


def sight(of: contract.Kernel, reconciler: reconcile.Reconciler, options: Options) -> Sight:
    """Return the one sight of an agent, on the interfaces that it shapes; nothing is open before somebody asks."""

    def interfaces() -> tuple[str, ...]:
        facts = reconciler.facts
        return () if facts is None else tuple(i.name for i in decision.egress(facts, options.settings.interfaces))

    # Opening a sampler uses nothing of the kernel that the loop's thread uses.
    return Sight(of.sampler, interfaces)


def limits_in(of: contract.Kernel) -> frozenset[str]:
    """Return the names, perhaps shortened, of the limits whose set entries are in the kernel."""
    comments = (entry.comment for ipset in of.observe().sets.values() for entry in ipset.entries.values())
    return frozenset(names.parse_comment(comment).key.limit for comment in comments)
