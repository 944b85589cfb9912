"""What an administrator may set for the operator, already parsed and checked."""

from __future__ import annotations

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    kubeconfig: pathlib.Path | None = None
    namespace: str = "client-bandwidth"  # of the Lease
    pod_name: str = "bandwidth-operator"
    address: tuple[str, int] | None = None  # of /metrics, /healthz, /readyz
    writes_per_second: float = 200.0
    log_format: str = "auto"
    log_level: str = "info"


DEFAULTS = Settings()

RETIRE_SECONDS = 240.0  # for all nodes to retire
RETIRED_SECONDS = 60  # operators stand by so long afterwards, until they are gone themselves
WRITE_BURST = 200.0
QUIET_SECONDS = 0.05  # without a change, before a plan is made
LONGEST_WAIT_SECONDS = 1.0  # a plan is made at least so often while changes go on
ROLLUP_SECONDS = 0.2  # between two looks at all node states, at least
RELIST_SECONDS = 1800.0  # between two whole lists that check what the watches brought
TURN_SECONDS = 1.0  # the acting thread turns at least so often
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)  # after failed writes; the last one again and again
SETTLE_SECONDS = 10.0  # at the beginning of a term, until nodes that are elsewhere report; and their spread on top
