"""The manifest of a limit that `slow` makes, from words that were checked. Pure.

The rules of a limit are the API server's.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from bandwidth_api import addresses, names, units
from bandwidth_api.plan import Distribution, Mode, PlanEntry, PortRange, Prefix, Sharing
from bandwidth_cli.objects.limits import AUTHOR, MADE_BY
from bandwidth_sight import draft

Json = dict[str, Any]

PROGRAM = "kubectl-cbl"
AUTHOR_MAX = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """A limit that is asked for; every value was checked."""

    clients: tuple[Prefix, ...]
    rate_bits_per_second: int
    lasts_seconds: int | None  # None: until it is lifted
    reason: str
    mode: Mode = Mode.ENFORCE
    ports: tuple[PortRange, ...] = ()
    priority: int = 0
    split: bool = False  # over the nodes
    name: str = ""  # "": made from the first client


def named(wanted: Wanted) -> str:
    """Return the name of the limit."""
    return wanted.name or draft.name(wanted.clients[0], observe=wanted.mode is Mode.OBSERVE)


def write(wanted: Wanted, author: str, *, until: float | None = None) -> Json:
    """Return the object. `until`: an end as a point in time, seconds since the epoch, instead of a length."""
    egress: Json = {"rate": units.write_rate(wanted.rate_bits_per_second)}
    if wanted.split:
        egress["distribution"] = Distribution.SPLIT_EVENLY.value
    if wanted.ports:
        egress["ports"] = [_port(each) for each in wanted.ports]
    spec: Json = {"clients": [addresses.write(client) for client in wanted.clients], "egress": egress}
    if wanted.mode is not Mode.ENFORCE:
        spec["mode"] = wanted.mode.value
    if wanted.priority:
        spec["priority"] = wanted.priority
    if until is not None:
        spec["expiresAt"] = datetime.datetime.fromtimestamp(until, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    elif wanted.lasts_seconds is not None:
        spec["ttlSeconds"] = wanted.lasts_seconds
    spec["reason"] = wanted.reason
    metadata: Json = {"name": named(wanted), "labels": {MADE_BY: PROGRAM}}
    if author:
        metadata["annotations"] = {AUTHOR: author[:AUTHOR_MAX]}
    return {"apiVersion": names.API_VERSION, "kind": names.LIMIT_KIND, "metadata": metadata, "spec": spec}


def entry(wanted: Wanted, now: float) -> PlanEntry:
    """Return the limit in the units of the plan, as the youngest of all."""
    return PlanEntry(
        limit=named(wanted),
        uid="",
        generation=0,
        clients=wanted.clients,
        excepted=(),
        ports=wanted.ports,
        rate_bits_per_second=wanted.rate_bits_per_second,
        burst_bytes=None,
        mode=wanted.mode,
        sharing=Sharing.SHARED,
        priority=wanted.priority,
        created_at=now,
        expires_at=None,
        node_selector=(),
    )


def _port(each: PortRange) -> Json:
    wire: Json = {"protocol": each.protocol, "port": each.first}
    return wire if each.first == each.last else wire | {"endPort": each.last}
