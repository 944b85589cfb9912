"""A ClientBandwidthPolicy as the API server has it: what it says, and the status that stands in it. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bandwidth_api.conditions import Problem
from bandwidth_api.crds import policy as policies
from bandwidth_api.crds.policy import Policy


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """A policy as last seen. `parsed` is the same object as long as its spec stays the same."""

    name: str
    uid: str
    version: str
    generation: int
    parsed: Policy | tuple[Problem, ...]
    leaving: bool  # it is being deleted, and waits for something
    status: Mapping[str, Any] = dataclasses.field(hash=False)


def read(item: Mapping[str, Any], before: Seen | None) -> Seen:
    """Read an object that has a name; `before`: the version known until now."""
    metadata = item["metadata"]
    name, uid = str(metadata["name"]), str(metadata.get("uid") or "")
    given = metadata.get("generation")
    generation = given if type(given) is int else 0
    if before is not None and (before.uid, before.generation) == (uid, generation):
        parsed = before.parsed
    else:
        parsed = policies.parse({key: item[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in item})
    status = item.get("status")
    return Seen(
        name,
        uid,
        str(metadata.get("resourceVersion", "")),
        generation,
        parsed,
        metadata.get("deletionTimestamp") is not None,
        status if isinstance(status, dict) else {},
    )
