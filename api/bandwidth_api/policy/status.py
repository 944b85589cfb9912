"""The status of a policy: counts, the last decisions, conditions. Pure: book, decisions, time → JSON.

Owns the form that the CRD describes. Says nothing that the book does not hold.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bandwidth_api import addresses, conditions, units
from bandwidth_api.compiler import selector
from bandwidth_api.conditions import Condition, ConditionType, Problem, Reason, Status
from bandwidth_api.crds.policy import Policy
from bandwidth_api.plan import Mode
from bandwidth_api.policy.books import Book
from bandwidth_api.policy.decision import Decision, Obstacle, What
from bandwidth_api.policy.machine import Phase
from bandwidth_api.policy.reports import Now

DECISIONS_MAX = 10
NAMES_MAX = 5
OBSTACLE_MESSAGE_MAX = 256
# Conditions that are there only while they are so.
PASSING = (ConditionType.AT_MAXIMUM, ConditionType.CAPACITY_UNKNOWN, ConditionType.NOT_MEASURING)
_NEVER_FALSE = {kind.value for kind in (*PASSING, ConditionType.STALLED)}
Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """What a policy sees and does at one moment."""

    watched: int = 0  # clients
    hot: int = 0  # that are not limited
    limited: int = 0
    at_maximum: int = 0  # of the hot, those that only the maximum keeps from a limit
    selected: int = 0  # nodes
    silent: tuple[str, ...] = ()  # of these, by name, those that have not reported for two windows
    capacity_unknown: tuple[str, ...] = ()  # nodes whose capacity the policy needs, and that do not know it


def counts(book: Book, policy: Policy, nodes: Mapping[str, selector.Labels], now: Now) -> Counts:
    """Return what a policy sees, of these nodes."""
    selected = sorted(
        name for name, labels in nodes.items() if selector.selects(policy.spec.watch.node_selector, labels)
    )
    entry = book.entries.get(policy.name)
    if entry is None or policy.spec.then.mode is Mode.DISABLED:
        return Counts(selected=len(selected))
    states = list(entry.clients.values())
    hot = [state for state in states if state.phase is Phase.HOT]
    silence = silent_seconds(policy)
    heard = {name: node.ended_at for name, node in entry.nodes.items()}
    needs = policy.spec.when.share is not None or policy.spec.when.uplink is not None
    return Counts(
        watched=sum(bool(state.seen) or state.phase is not Phase.WATCHED for state in states),
        hot=len(hot),
        limited=sum(state.phase is Phase.LIMITED for state in states),
        at_maximum=sum(state.block is not None and state.block.obstacle is Obstacle.MAXIMUM for state in hot),
        selected=len(selected),
        silent=tuple(name for name in selected if now.steady - heard.get(name, entry.since) > silence),
        capacity_unknown=tuple(
            name
            for name in selected
            if needs and name in entry.nodes and entry.nodes[name].capacity_bits_per_second is None
        ),
    )


def silent_seconds(policy: Policy) -> float:
    """Return how long a node may be silent: two of its longest windows but for a volume, at least a minute."""
    when = policy.spec.when
    return 2.0 * max([30, *(each.for_seconds for each in (when.rate, when.share, when.uplink) if each is not None)])


def found(policy: Policy, seen: Counts) -> list[Condition]:
    """Return the conditions of an accepted policy; those of PASSING only where they are so."""
    accepted = Condition(ConditionType.ACCEPTED, Status.TRUE, Reason.ACCEPTED)
    mode, safety = policy.spec.then.mode, policy.spec.safety
    if mode is Mode.DISABLED:
        off = "the policy is switched off; set Observe or Enforce to use it"
        return [accepted, Condition(ConditionType.READY, Status.FALSE, Reason.DISABLED, off)]
    passing = []
    if seen.at_maximum:
        text = (
            f"{seen.at_maximum} more would be limited, but {seen.limited} are, of spec.safety.maxLimits"
            f" {safety.max_limits}: look at them, then raise it or the threshold"
        )
        passing.append(Condition(ConditionType.AT_MAXIMUM, Status.TRUE, Reason.AT_MAXIMUM, text))
    if seen.capacity_unknown:
        text = f"{_names(seen.capacity_unknown)}: the speed of the link is not known; set spec.when.uplink.capacity"
        passing.append(Condition(ConditionType.CAPACITY_UNKNOWN, Status.TRUE, Reason.CAPACITY_UNKNOWN, text))
    if seen.silent:
        text = (
            f"{_names(seen.silent)}: nothing was reported for {silent_seconds(policy):.0f} s; look at the agents there"
        )
        passing.append(Condition(ConditionType.NOT_MEASURING, Status.TRUE, Reason.NOT_MEASURING, text))
    return [accepted, _ready(policy, seen, passing), *passing]


def _ready(policy: Policy, seen: Counts, passing: Sequence[Condition]) -> Condition:
    if not seen.selected:
        text = "no node is selected; look at spec.watch.nodeSelector"
        return Condition(ConditionType.READY, Status.FALSE, Reason.NO_NODE_SELECTED, text)
    for reason, names in ((Reason.NOT_MEASURING, seen.silent), (Reason.CAPACITY_UNKNOWN, seen.capacity_unknown)):
        if len(names) == seen.selected:
            (message,) = [each.message for each in passing if each.reason is reason]
            return Condition(ConditionType.READY, Status.FALSE, reason, message)
    if policy.spec.then.mode is Mode.OBSERVE:
        text = "nobody is slowed down; status.decisions says who would have been"
        return Condition(ConditionType.READY, Status.TRUE, Reason.OBSERVING, text)
    return Condition(ConditionType.READY, Status.TRUE, Reason.READY)


def _names(names: Sequence[str]) -> str:
    more = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")


def refused(problems: Sequence[Problem]) -> list[Condition]:
    """Return the conditions of a policy that got past admission and that nobody can act on."""
    text = "; ".join(map(str, problems))
    return [
        Condition(ConditionType.ACCEPTED, Status.FALSE, problems[0].reason, text),
        Condition(ConditionType.READY, Status.FALSE, problems[0].reason, text),
        Condition(ConditionType.STALLED, Status.TRUE, problems[0].reason, text),
    ]


def write(
    written: Mapping[str, Any],
    stated: Sequence[Condition],
    generation: int,
    now: Now,
    *,
    seen: Counts | None = None,
    decisions: Iterable[Decision] = (),
    remembered: Sequence[str] | None = None,
) -> Json:
    """Return the whole status of one policy after the one that is written.

    `decisions`: those since then, the oldest first; `remembered`: None for what is written. With nothing new the result
    equals what is written.
    """
    told_true = {each.type.value for each in stated}
    kept = [
        each
        for each in _items(written.get("conditions"))
        if isinstance(each, Mapping) and (each.get("type") not in _NEVER_FALSE or each.get("type") in told_true)
    ]
    moment = datetime.datetime.fromtimestamp(now.wall, datetime.UTC)
    told = [decision_json(each) for each in decisions]
    status: Json = {
        "observedGeneration": generation,
        "conditions": conditions.merge(kept, stated, observed_generation=generation, now=moment),
        "decisions": [*reversed(told), *_items(written.get("decisions"))][:DECISIONS_MAX],
        "remembered": _items(written.get("remembered")) if remembered is None else list(remembered),
    }
    last = told[-1]["time"] if told else written.get("lastDecisionTime")
    if last:
        status["lastDecisionTime"] = last
    if seen is not None:
        status["clients"] = {"watched": seen.watched, "hot": seen.hot, "limited": seen.limited}
        status["nodes"] = {
            "selected": seen.selected,
            "measuring": seen.selected - len(seen.silent),
            "silent": list(seen.silent[:NAMES_MAX]),
        }
    return status


def decision_json(decision: Decision) -> Json:
    """Return one decision as it stands in the status."""
    made: Json = {
        "time": _time(decision.at),
        "client": addresses.write(decision.client),
        "decision": decision.what.value,
        "why": decision.why,
    }
    if not decision.enforced:
        made["observed"] = True
    if decision.limit:
        made["limit"] = decision.limit
        made["step"] = decision.step
        made["rate"] = units.write_rate(decision.rate_bits_per_second)
    if decision.what in (What.LIMITED, What.STEPPED, What.ADJUSTED):
        made["until"] = _time(decision.expires_at)
    if decision.block is not None:
        made["obstacle"] = decision.block.obstacle.value
        made["message"] = decision.block.message[:OBSTACLE_MESSAGE_MAX]
    return made


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
