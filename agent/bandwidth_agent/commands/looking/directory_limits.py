"""The limits of the manifest directory alone, for a process that may not read the kernel's sets."""

from __future__ import annotations

import time

from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import parts
from bandwidth_agent.limits.directory import last_good_state, manifest_source
from bandwidth_agent.sight import limits_in_force


def read(options: Options) -> limits_in_force.LimitsInForce | None:
    """Return what should be in force by the files of the directory; None if there is no such directory."""
    if options.manifests is None or not options.manifests.is_dir():
        return None
    store = last_good_state.Store(options.state_dir, options.manifests.absolute(), parts.version(), writes=False)
    source = manifest_source.ManifestSource(options.manifests, store, options.node_labels, in_force=frozenset)
    try:
        return limits_in_force.of_entries(source.wanted(time.time()).entries)
    finally:
        source.close()
