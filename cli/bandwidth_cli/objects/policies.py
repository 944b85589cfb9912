"""A ClientBandwidthPolicy as the plugin shows it, and what it has to do with one client. Pure.

Read from what the API server holds, as limits are (`objects.limits`): it has checked the spec, and the operator wrote
the status. Decides nothing again: what a policy decided, and what stood in the way, is in its status.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from bandwidth_api import address_text, addresses, names
from bandwidth_api.conditions import ConditionType, Reason
from bandwidth_api.plan import Mode, Prefix
from bandwidth_api.policy import made_name
from bandwidth_api.policy.decision import Obstacle
from bandwidth_cli.objects.limits import Limit
from bandwidth_cli.text import ages

Json = dict[str, Any]

KIND = names.POLICY_KIND
RESOURCE = "clientbandwidthpolicies"
DISABLED, OBSERVE = "Disabled", "Observe"
ENDED, PARDONED = "Ended", "Pardoned"  # in `status.remembered`, beside those that are limited
MEMORY_SECONDS = 86400  # where the policy cannot be read


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    rate: str
    ttl_seconds: int


@dataclasses.dataclass(frozen=True, slots=True)
class Decided:
    """One of the last decisions, as the status has it."""

    at: float | None  # seconds since the epoch
    client: Prefix
    decision: str
    why: str
    observed: bool
    limit: str
    step: int
    rate: str
    obstacle: str
    message: str
    raw: Json


@dataclasses.dataclass(frozen=True, slots=True)
class Remembered:
    """A client whose limit ended."""

    client: Prefix
    step: int
    pardoned: bool
    until: float  # seconds since the epoch


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    name: str
    mode: str
    priority: int
    watched: tuple[Prefix, ...]
    group: Mapping[int, int]  # by family: how many leading bits are one client
    exempt: tuple[Prefix, ...]
    steps: tuple[Step, ...]
    memory_seconds: int
    lift_percent: int
    lift_seconds: int
    ready: tuple[str, str, str]  # status, reason, message of the condition Ready
    warnings: tuple[str, ...]  # of conditions that are there only while something is wrong
    counts: Mapping[str, int]  # watched, hot, limited
    decisions: tuple[Decided, ...]  # the newest first
    remembered: tuple[Remembered, ...]

    def client(self, address: Prefix) -> Prefix:
        """Return the client that an address belongs to: the group, or a wider network as it is."""
        length = min(address.length, self.group[address.family])
        shift = address_text.BITS[address.family] - length
        return Prefix(address.family, address.network >> shift << shift, length)


@dataclasses.dataclass(frozen=True, slots=True)
class Stands:
    """What a policy has to do with a client now: a word of the state, perhaps an obstacle, and a sentence."""

    state: str  # Limited, Blocked, Watched, NotWatched, Off
    obstacle: str
    text: str
    until: float | None = None  # seconds since the epoch


def read(item: Json) -> Policy:
    """Read one object."""
    spec, status = _object(item.get("spec")), _object(item.get("status"))
    watch, then, lift = (_object(spec.get(name)) for name in ("watch", "then", "lift"))
    group = _object(watch.get("groupBy"))
    stated = {str(each.get("type")): each for each in _objects(status.get("conditions"))}
    ready = stated.get(ConditionType.READY.value, {})
    counted = _object(status.get("clients"))
    return Policy(
        name=str(_object(item.get("metadata")).get("name", "")),
        mode=str(then.get("mode") or OBSERVE),
        priority=_whole(spec.get("priority"), 0),
        watched=_prefixes(watch.get("clients") or ["0.0.0.0/0", "::/0"]),
        group={4: _whole(group.get("ipv4"), 32), 6: _whole(group.get("ipv6"), 64)},
        exempt=_prefixes(_object(spec.get("safety")).get("exempt")),
        steps=tuple(
            Step(str(each.get("rate", "")), _whole(each.get("ttlSeconds"), 0)) for each in _objects(then.get("steps"))
        ),
        memory_seconds=_whole(then.get("memorySeconds"), MEMORY_SECONDS),
        lift_percent=_whole(lift.get("whenBelowPercent"), 50),
        lift_seconds=_whole(lift.get("forSeconds"), 300),
        ready=(str(ready.get("status") or "Unknown"), str(ready.get("reason") or ""), str(ready.get("message") or "")),
        warnings=tuple(
            f"{each.value}: {stated[each.value].get('message') or ''}"
            for each in (ConditionType.AT_MAXIMUM, ConditionType.CAPACITY_UNKNOWN, ConditionType.NOT_MEASURING)
            if stated.get(each.value, {}).get("status") == "True"
        ),
        counts={name: _whole(counted.get(name), 0) for name in ("watched", "hot", "limited")},
        decisions=tuple(d for each in _objects(status.get("decisions")) if (d := _decided(each)) is not None),
        remembered=tuple(r for text in _items(status.get("remembered")) if (r := _remembered(text)) is not None),
    )


def in_order(items: Iterable[Json]) -> list[Policy]:
    """Read objects, in the order in which policies decide: the highest priority first, then by name."""
    return sorted(map(read, items), key=lambda policy: (-policy.priority, policy.name))


def maker(limit: Limit) -> str:
    """Return the policy that made a limit; "" for one that a person wrote, a copy under another name too."""
    policy = limit.labels.get(names.POLICY, "")
    if not policy or len(limit.clients) != 1 or limit.mode is not Mode.ENFORCE or limit.expires_at is None:
        return ""
    if limit.name != made_name.write(policy, limit.clients[0]):
        return ""
    return policy


def naming(limits: Iterable[Limit], client: Prefix) -> list[Limit]:
    """Return the limits that name a client, in force or not; for policies what a limit excepts is named by it too."""
    return [limit for limit in limits if any(meets(each, client) for each in limit.clients)]


def step_of(limit: Limit) -> int:
    """Return which step of its policy a limit is in, counted from 1; 0 where nothing says so."""
    text = limit.annotations.get(names.POLICY_STEP, "")
    return int(text) if text.isdecimal() and len(text) < 4 else 0


def pardon_seconds(limit: Limit, policy: Policy | None, now: float) -> int:
    """Return for how long a client is left alone when its limit is deleted now."""
    memory = MEMORY_SECONDS if policy is None else policy.memory_seconds
    return max(memory, round((limit.expires_at or now) - now))


def concerning(policy: Policy, address: Prefix) -> tuple[Decided, ...]:
    """Return the decisions about a client, the newest first."""
    return tuple(each for each in policy.decisions if meets(each.client, address))


def stands(policy: Policy, address: Prefix, touching: Iterable[Limit], now: float) -> Stands:
    """Return what a policy has to do with a client; `touching`: all limits that name it (`naming`)."""
    if policy.mode == DISABLED:
        return Stands("Off", "", "switched off by spec.then.mode")
    if policy.ready[0] == "False" and policy.ready[1] == Reason.DISABLED.value:
        return Stands("Off", "", policy.ready[2] or "switched off in this installation")
    limits = list(touching)
    mine = next((each for each in limits if maker(each) == policy.name and each.in_force(now)), None)
    if mine is not None:
        return Stands("Limited", "", _limited(mine, policy), mine.expires_at)
    client = policy.client(address)
    if not any(meets(each, client) for each in policy.watched):
        return Stands("NotWatched", "", "not in spec.watch.clients")
    return _blocked(policy, client, limits, now) or _watched(policy, address, now)


def _limited(limit: Limit, policy: Policy) -> str:
    step = step_of(limit)
    return f"{limit.rate} by {limit.name}" + (f", step {step} of {len(policy.steps)}" if step else "")


def _blocked(policy: Policy, client: Prefix, limits: Iterable[Limit], now: float) -> Stands | None:
    exempt = next((each for each in policy.exempt if meets(each, client)), None)
    if exempt is not None:
        text = f"{addresses.write(exempt)} is exempt by spec.safety.exempt"
        return Stands("Blocked", Obstacle.EXEMPT.value, text)
    person = next((each for each in limits if not maker(each) and not each.is_over(now)), None)
    if person is not None:
        text = f"the limit {person.name}, which a person wrote, names it: nothing is done beside it"
        return Stands("Blocked", Obstacle.PERSON.value, text)
    other = next((each for each in limits if each.in_force(now)), None)
    if other is not None:
        return Stands("Blocked", Obstacle.OTHER_POLICY.value, f"the policy {maker(other)} limits it", other.expires_at)
    pardon = next((r for r in policy.remembered if r.pardoned and meets(r.client, client) and r.until > now), None)
    if pardon is not None:
        text = f"a person deleted its limit: left alone for another {ages.short(pardon.until - now)}"
        return Stands("Blocked", Obstacle.PARDONED.value, text, pardon.until)
    return None


def _watched(policy: Policy, address: Prefix, now: float) -> Stands:
    if policy.mode == OBSERVE:  # which remembers nobody
        return Stands("Watched", "", "watched; it slows nobody, and its decisions say who would have been")
    ended = next((r for r in policy.remembered if meets(r.client, address) and r.until > now), None)
    if ended is None or not policy.steps:
        return Stands("Watched", "", "watched, and nothing stands in the way of a limit")
    number = min(ended.step + 1, len(policy.steps))
    text = (
        f"watched; a limit ended at step {ended.step}, so that the next one within"
        f" {ages.short(ended.until - now)} is step {number}, {policy.steps[number - 1].rate}"
    )
    return Stands("Watched", "", text, ended.until)


def meets(one: Prefix, other: Prefix) -> bool:
    """Return whether two networks share an address."""
    return addresses.covers(one, other) or addresses.covers(other, one)


def _decided(wire: Json) -> Decided | None:
    client = _prefix(wire.get("client"))
    if client is None:
        return None
    text = {name: str(wire.get(name) or "") for name in ("decision", "why", "limit", "rate", "obstacle", "message")}
    return Decided(
        at=ages.seconds(wire.get("time")),
        client=client,
        observed=wire.get("observed") is True,
        step=_whole(wire.get("step"), 0),
        raw=wire,
        **text,
    )


def _remembered(text: object) -> Remembered | None:
    words = str(text).split()
    client = _prefix(words[0]) if len(words) == 4 and words[2] in (ENDED, PARDONED) else None
    if client is None or not (words[1].isdecimal() and words[3].isdecimal()) or len(words[1] + words[3]) > 20:
        return None
    return Remembered(client, int(words[1]), words[2] == PARDONED, float(words[3]))


def _prefix(text: object) -> Prefix | None:
    try:
        return addresses.network(str(text))
    except ValueError:
        return None


def _prefixes(value: object) -> tuple[Prefix, ...]:
    return tuple(found for text in _items(value) if (found := _prefix(text)) is not None)


def _whole(value: object, otherwise: int) -> int:
    return value if type(value) is int else otherwise


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: object) -> list[Json]:
    return [item for item in _items(value) if isinstance(item, dict)]
