"""The options of the sub-commands as checked values, and their defaults."""

from __future__ import annotations

import dataclasses
import pathlib

from bandwidth_runtime.web.address import Address

RETIRE_SECONDS = 240.0  # for all nodes to retire
RETIRED_SECONDS = 60  # operators stand by so long afterwards, until they are gone themselves
CHECK_SECONDS = 60.0  # for an installation to work


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """The options of all sub-commands and the environment; those that a sub-command lacks keep their defaults."""

    kubeconfig: pathlib.Path | None = None
    namespace: str = "client-bandwidth"  # of the Lease
    pod_name: str = "bandwidth-operator"
    guard_rails: str = ""  # of the chart's values, in JSON: what the policy should refuse
    metrics_address: Address | None = None  # of /metrics, /healthz, /readyz
    writes_per_second: float = 200.0
    traffic: bool = True  # answer questions about traffic
    policies: bool = False  # act as ClientBandwidthPolicies say
    log_format: str = "auto"
    log_level: str = "info"
    timeout_seconds: float = CHECK_SECONDS
    stand_by_seconds: int = RETIRED_SECONDS
    accept_missing: bool = False
    hook_of: str | None = None  # a tool that runs hooks
    node: str = ""
    daemonset: str | None = None  # of the agents; None: it is not known how many nodes should report


DEFAULTS = Options()
