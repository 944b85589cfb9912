"""Reads which limits of this host a policy made, from what the running agent keeps in the state directory."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping

from bandwidth_agent.policies import makers
from bandwidth_agent.policies.makers import Maker


def read(state_dir: pathlib.Path) -> Mapping[str, Maker]:
    """Return by name the limits that policies made; none where they may not be read."""
    try:
        if not os.listdir(state_dir / makers.DIRECTORY):
            return {}
    except OSError:
        return {}
    from bandwidth_agent.policies import made_files  # and with it what reads limits, which most hosts need not load
    from bandwidth_api.policy import made_limit

    kept = made_files.MadeFiles(state_dir, writes=False)
    limits, statuses = kept.load(), kept.statuses()
    kept.close()
    found = {}
    for name, limit in limits.items():
        made = made_limit.read(limit, limit.created_at or 0.0)
        if made is not None:
            found[name] = Maker(
                policy=made.policy,
                client=made.client,
                step=made.step,
                rate_bits_per_second=made.rate_bits_per_second,
                expires_at=made.expires_at,
                why=limit.spec.reason or "",
                file=str(kept.file_of(name)),
                terms=makers.read_terms(statuses.get(made.policy, {}).get(makers.TERMS)),
            )
    return found
