"""The guard rails that the operator itself applies, also to limits that no admission policy has checked. Pure."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from bandwidth_api import addresses, units
from bandwidth_api.compiler.compile import NODE_RATE_MIN
from bandwidth_api.compiler.width import Widest
from bandwidth_api.plan import Prefix

SERVICES = "a network of services (guardRails.serviceNetworks)"
CLUSTER = "guardRails.protectCluster"
PODS = f"a network of pods ({CLUSTER})"


class GuardRails(NamedTuple):
    least_rate_bits_per_second: int = NODE_RATE_MIN  # on each node
    widest: Widest = Widest()
    service_networks: frozenset[Prefix] = frozenset()
    protect_cluster: bool = True  # pods, services, the API server, the resolver
    guarded: frozenset[Prefix] = frozenset()  # what the API server lets no limit touch


def read(text: str) -> GuardRails:
    """Parse the guard rails of the chart's values, in JSON. Raises ValueError."""
    values = json.loads(text or "{}")
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    least = values.get("leastRate") or ""
    networks = values.get("serviceNetworks") or []
    if not isinstance(networks, list):
        raise ValueError("serviceNetworks is no list of CIDRs")
    return GuardRails(
        units.parse_rate(least) if least else NODE_RATE_MIN,
        _widest(values.get("widest") or {}),
        frozenset(addresses.network(str(network)) for network in networks),
        values.get("protectCluster") is not False,
        frozenset(_networks(values.get("protected"))),
    )


def _networks(given: Any) -> Iterator[Prefix]:
    """Yield the networks that can be read; others protect nothing in the API server either."""
    for text in given if isinstance(given, list) else ():
        with contextlib.suppress(ValueError):
            yield addresses.network(str(text))


def _widest(values: Any) -> Widest:
    if not isinstance(values, dict):
        raise ValueError("widest is no object with ipv4 and ipv6")
    lengths = {}
    for name, bits in (("ipv4", 32), ("ipv6", 128)):
        length = values.get(name, getattr(Widest(), name))
        if type(length) is not int or not 0 <= length <= bits:
            raise ValueError(f"widest.{name} is no length of a network between 0 and {bits}")
        lengths[name] = length
    return Widest(**lengths)
