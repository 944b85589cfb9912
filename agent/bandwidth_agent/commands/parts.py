"""The parts that programs are wired from, made from the options."""

from __future__ import annotations

import functools
import importlib.metadata
import os
from typing import TYPE_CHECKING

from bandwidth_agent import reconcile
from bandwidth_agent.commands.options import Options
from bandwidth_agent.kernel import interface, real
from bandwidth_api import names

if TYPE_CHECKING:
    from bandwidth_agent.source import directory


class ManifestsError(Exception):
    """The manifest directory cannot be used; the message says why and what to do."""


@functools.cache
def version() -> str:
    """The version of this program."""
    return importlib.metadata.version("client-bandwidth-operator")


def kernel(options: Options) -> real.RealKernel:
    """The kernel of this network namespace, for the calling thread."""
    return real.RealKernel(options.iptables_backend)


def source(
    options: Options, of: interface.Kernel, reconciler: reconcile.Reconciler, *, writes: bool
) -> directory.Directory:
    """The manifest directory as a source; raises ManifestsError. `writes`: remember in the state directory."""
    from bandwidth_agent.source import accepted, directory, guard  # YAML and inotify, which no cluster needs

    path = options.manifests
    if path is None:
        raise ManifestsError("--manifests DIR is required")
    try:
        os.scandir(path).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ManifestsError(f"--manifests {path}: {reason}; it must be a directory that can be read") from None
    absolute = path if path.is_absolute() else path.absolute()
    store = accepted.Store(options.state_dir, absolute, version(), writes=writes)
    first = functools.cache(of.facts)
    refuse = guard.Guard(lambda: reconciler.facts or first(), options.settings, options.node_labels)
    return directory.Directory(path, store, in_force=functools.cache(lambda: limits_in(of)), refuse=refuse)


def limits_in(of: interface.Kernel) -> frozenset[str]:
    """The cut names of the limits whose entries are in the kernel."""
    comments = (entry.comment for ipset in of.observe().sets.values() for entry in ipset.entries.values())
    return frozenset(names.parse_comment(comment).key.limit for comment in comments)
