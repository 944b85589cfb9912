"""A ClientBandwidthPolicy as the API server has it: what it says, its status, and whether anybody acts on it. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import policy as policies
from bandwidth_api.crds.policy import Policy

ACTING_MAX = 200  # policies; a round is to take much less than the second between two


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """A policy as last seen. `parsed` is the same object as long as its spec stays the same."""

    name: str
    uid: str
    version: str
    generation: int
    parsed: Policy | tuple[Problem, ...]
    leaving: bool  # it is being deleted, and waits for something
    created: str  # as the API server writes times, which are in the order of their texts
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
        str(metadata.get("creationTimestamp") or ""),
        status if isinstance(status, dict) else {},
    )


class Acting(NamedTuple):
    """The policies that are there and are not being deleted, by name."""

    policies: Mapping[str, Policy]
    problems: Mapping[str, tuple[Problem, ...]]  # why nobody acts on the others


def acting(seen: Mapping[str, Seen]) -> Acting:
    """Return on which policies somebody acts: the oldest of those that can be read, so that none displaces another."""
    policies: dict[str, Policy] = {}
    problems: dict[str, tuple[Problem, ...]] = {}
    for each in sorted(seen.values(), key=lambda each: (each.created, each.name)):
        if each.leaving:
            continue
        if not isinstance(each.parsed, Policy):
            problems[each.name] = each.parsed
        elif len(policies) < ACTING_MAX:
            policies[each.name] = each.parsed
        else:
            text = f"the {ACTING_MAX} oldest policies act, and no more; delete some, or put several into one"
            problems[each.name] = (Problem(Reason.TOO_MANY_POLICIES, text),)
    return Acting(policies, problems)
