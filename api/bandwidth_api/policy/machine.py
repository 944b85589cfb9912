"""The state machine of one client under one policy. Pure: state, what was reported, time → state, decision.

| state | when | decision | then |
|---|---|---|---|
| Watched | all of `when` holds, nothing in the way | Limited | Limited, at the next step of one that is remembered |
| Watched | all of `when` holds, an obstacle | Blocked, once for each obstacle | Hot |
| Hot | the obstacle is gone and all of `when` holds | Limited | Limited |
| Hot | not all of `when` holds | – | Watched |
| Limited | its limit was there and is gone | Pardoned | Watched, left alone until the memory is over |
| Limited | an obstacle other than the bounds of the policy | Released | Watched, remembered |
| Limited | the wall clock is past the end before its time | Expired | Watched, remembered |
| Limited | the time is over in LEAD_SECONDS, it presses | Stepped | Limited, next step (the last one again) |
| Limited | the time is over, it does not press, or nothing is known | Expired | Watched, remembered |
| Limited | below the least use for `lift.forSeconds` | Lifted | Watched, remembered |
| Limited | the policy was edited | Adjusted, if its step or the ports are others | Limited, never longer than before |
| Limited | the policy was edited: it is no client any more | Released | Watched, remembered |
| Limited | its limit was never there | – | Watched |

All times here are of the monotonic clock, so a clock that is set changes nothing that lasts. A step is over by it, and
also when the wall clock says that the limit has ended, since nodes go by theirs.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping

from bandwidth_api import units
from bandwidth_api.crds.policy import Policy
from bandwidth_api.plan import Mode, Prefix
from bandwidth_api.policy import grouping, made_limit, traffic
from bandwidth_api.policy.decision import WHY_MAX, Block, Decision, Obstacle, What
from bandwidth_api.policy.made_limit import Made
from bandwidth_api.policy.reports import Now, Report
from bandwidth_api.policy.traffic import Figures, Node, Seen

CONFIRMED_SECONDS = 60.0  # within which a limit that was made has to be there
REFUSED_SECONDS = 60.0  # after which a limit that was refused is tried again
SETTLED_SECONDS = 10.0  # after which what is read of a limit is what was written last
# So long before its end a step is followed by the next: nodes end a limit by their own clocks, and there is no gap.
LEAD_SECONDS = 5.0
BOUNDS = (Obstacle.MAXIMUM, Obstacle.PER_MINUTE)  # that concern new limits only


class Phase(enum.StrEnum):
    WATCHED = "Watched"
    HOT = "Hot"
    LIMITED = "Limited"


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """One client. Times are `Now.steady`, but where they say otherwise."""

    phase: Phase = Phase.WATCHED
    seen: Mapping[str, Seen] = dataclasses.field(default_factory=dict)  # by node
    # of a limit, or of the last one while it is remembered
    step: int = 0
    remembered_until: float = 0.0
    pardoned: bool = False
    refused_until: float = 0.0
    refusal: str = ""
    # while it is limited
    rate_bits_per_second: int = 0
    until: float = 0.0
    expires_at: float = 0.0  # seconds since the epoch
    high_at: float = 0.0  # when it last used what forbids to lift the limit
    low: bool = False
    confirmed: bool = False  # the limit was read as one that is there
    written_at: float = math.inf  # when it was answered that the limit is written
    made_at: float = 0.0
    generation: int = 0
    # while it is hot
    block: Block | None = None
    text: str = ""  # the figures; of a limited client those by which it was limited

    def memory(self, now: Now) -> int:
        """Return the step of its last limit; 0 where nothing is remembered."""
        return self.step if now.steady < self.remembered_until else 0


Find = Callable[[State], Block | None]


def step(
    policy: Policy,
    client: Prefix,
    state: State,
    nodes: Mapping[str, Node],
    *,
    made: Made | None,
    hot: Figures | None,
    find: Find,
    now: Now,
) -> tuple[State, Decision | None]:
    """Return the state after `now`, and what was decided.

    `made`: its limit as it is there; None where there is none. `hot`: as `figures` says, of a client without one.
    `find` says what stands in the way of a limit.
    """
    if state.phase is Phase.LIMITED:
        return _limited(policy, client, state, nodes, made, find, now)
    return _watched(policy, client, state, hot, find, now)


def heard(policy: Policy, state: State, report: Report, number_bytes: float, over_limits: int | None) -> State:
    """Return the state after one more report of a node."""
    before = state.seen.get(report.node) or traffic.nothing(policy.spec)
    seen = traffic.received(before, report, number_bytes, over_limits)
    high_at = state.high_at
    if state.phase is Phase.LIMITED and not state.low:
        percent = policy.spec.lift.when_below_percent
        if traffic.is_high(report, number_bytes, state.rate_bits_per_second, percent):
            high_at = max(high_at, report.ended_at)
    return dataclasses.replace(state, seen={**state.seen, report.node: seen}, high_at=high_at)


# ── without a limit ────────────────────────────────────────────────────────────────────────────────────────────


def next_step(policy: Policy, state: State, now: Now) -> int:
    """Return which step a new limit would be, counted from 1."""
    return min(state.memory(now) + 1, len(policy.spec.then.steps))


def figures(policy: Policy, state: State, nodes: Mapping[str, Node], now: Now) -> Figures | None:
    """Return the figures of a client without a limit, by the next step's rate; None: it is not hot."""
    rate = policy.spec.then.steps[next_step(policy, state, now) - 1].rate
    return traffic.figures(policy.spec, state.seen, nodes, now.steady, rate)


def _watched(
    policy: Policy, client: Prefix, state: State, found: Figures | None, find: Find, now: Now
) -> tuple[State, Decision | None]:
    if found is None:
        return dataclasses.replace(state, phase=Phase.WATCHED, block=None, text=""), None
    block = _remembered_block(state, now) or find(state)
    if block is not None:
        hot = dataclasses.replace(state, phase=Phase.HOT, block=block, text=found.text)
        same = state.block is not None and state.block.obstacle is block.obstacle
        return hot, None if same else _decision(policy, client, hot, What.BLOCKED, found.text, now)
    number = next_step(policy, state, now)
    chosen = policy.spec.then.steps[number - 1]
    limited = State(
        phase=Phase.LIMITED,
        seen=state.seen,
        step=number,
        rate_bits_per_second=chosen.rate,
        until=now.steady + chosen.ttl_seconds,
        expires_at=now.wall + chosen.ttl_seconds,
        high_at=now.steady,
        made_at=now.steady,
        generation=policy.metadata.generation,
        text=found.text,
    )
    return limited, _decision(policy, client, limited, What.LIMITED, found.text, now)


def _remembered_block(state: State, now: Now) -> Block | None:
    if state.pardoned and now.steady < state.remembered_until:
        left = round(state.remembered_until - now.steady)
        return Block(Obstacle.PARDONED, f"a person deleted its limit; it is left alone for another {left} s")
    if now.steady < state.refused_until:
        return Block(Obstacle.REFUSED, state.refusal)
    return None


# ── with one ───────────────────────────────────────────────────────────────────────────────────────────────────


def _limited(
    policy: Policy, client: Prefix, state: State, nodes: Mapping[str, Node], made: Made | None, find: Find, now: Now
) -> tuple[State, Decision | None]:
    left = state.until - now.steady
    if policy.spec.then.mode is Mode.ENFORCE:
        if made is not None:
            state = _confirmed(state, made, policy, now)
        elif is_gone(state, now):  # before its end or after: what a policy deletes itself is not Limited any more
            return _ended(policy, client, state, What.PARDONED, "a person deleted the limit", now)
        elif now.steady - state.made_at > CONFIRMED_SECONDS:
            return State(seen=state.seen), None
    block = find(state)
    if block is not None and block.obstacle not in BOUNDS:
        return _ended(policy, client, dataclasses.replace(state, block=block), What.RELEASED, block.message, now)
    if left > LEAD_SECONDS and now.wall >= state.expires_at:
        return _ended(policy, client, state, What.EXPIRED, "its end has come by the clock, which was set forward", now)
    if left <= LEAD_SECONDS:
        return _over(policy, client, state, nodes, now)
    state, lifted = _use(policy, state, nodes, now)
    if lifted:
        lift, rate = policy.spec.lift, units.show_rate(state.rate_bits_per_second)
        why = f"below {lift.when_below_percent} % of {rate} for {lift.for_seconds} s"
        return _ended(policy, client, state, What.LIFTED, why, now)
    return _edited(policy, client, state, made, now)


def is_gone(state: State, now: Now) -> bool:
    """Return whether a limit that is not there was there. One that was written may be late to be read."""
    return state.confirmed or now.steady - state.written_at > SETTLED_SECONDS


def pardoned(policy: Policy, step: int, until: float, now: Now) -> State:
    """Return the state of a client whose limit a person deleted; `until`: when that would have ended, `Now.steady`."""
    memory = now.steady + policy.spec.then.memory_seconds
    return State(step=step, remembered_until=max(memory, until), pardoned=True)


def _confirmed(state: State, made: Made, policy: Policy, now: Now) -> State:
    """Take over that the limit is there, and the rate that somebody wrote into it since."""
    settled = now.steady - state.made_at > SETTLED_SECONDS and state.generation == policy.metadata.generation
    rate = made.rate_bits_per_second if settled else state.rate_bits_per_second
    return dataclasses.replace(state, confirmed=True, rate_bits_per_second=rate)


def _use(policy: Policy, state: State, nodes: Mapping[str, Node], now: Now) -> tuple[State, bool]:
    """Return the state, and whether the client has used little of its limit for long enough.

    While the mean of the last seconds is low, a single report above it counts for nothing. `high_at` is set by what
    nodes report (`heard`); of a time of which nothing is known it is not said that it was low.
    """
    lift = policy.spec.lift
    used = traffic.use(state.seen, nodes, now.steady, state.rate_bits_per_second)
    if used is None:
        return dataclasses.replace(state, low=False, high_at=now.steady), False
    if used >= lift.when_below_percent / 100:
        return dataclasses.replace(state, low=False, high_at=now.steady if state.low else state.high_at), False
    return dataclasses.replace(state, low=True), now.steady - state.high_at >= lift.for_seconds


def _over(
    policy: Policy, client: Prefix, state: State, nodes: Mapping[str, Node], now: Now
) -> tuple[State, Decision | None]:
    steps = policy.spec.then.steps
    if not traffic.presses(policy.spec, state.seen, nodes, now.steady, state.rate_bits_per_second):
        if now.steady < state.until:
            return state, None
        return _ended(policy, client, state, What.EXPIRED, "its time is over, and it does not press", now)
    number = min(state.step + 1, len(steps))
    chosen = steps[number - 1]
    why = f"its time is over, and it still presses against {units.show_rate(state.rate_bits_per_second)}"
    changed = dataclasses.replace(
        state,
        step=number,
        rate_bits_per_second=chosen.rate,
        until=now.steady + chosen.ttl_seconds,
        expires_at=now.wall + chosen.ttl_seconds,
        high_at=now.steady,
        low=False,
        made_at=now.steady,
        generation=policy.metadata.generation,
    )
    return changed, _decision(policy, client, changed, What.STEPPED, why, now)


def _edited(policy: Policy, client: Prefix, state: State, made: Made | None, now: Now) -> tuple[State, Decision | None]:
    """Take over an edit of the policy: the rate of its step, its ports, and an end that is not later than it was.

    What is no client of the policy any more is let go, or it would be limited beside the group that it belongs to now.
    """
    if state.generation == policy.metadata.generation:
        return state, None
    if grouping.client_of(policy.spec, client) != client:
        return _ended(policy, client, state, What.RELEASED, "the policy was edited: this is no client of it now", now)
    number = min(state.step, len(policy.spec.then.steps))
    chosen = policy.spec.then.steps[number - 1]
    until = min(state.until, now.steady + chosen.ttl_seconds)
    changed = dataclasses.replace(
        state,
        step=number,
        rate_bits_per_second=chosen.rate,
        until=until,
        expires_at=min(state.expires_at, now.wall + chosen.ttl_seconds),
        generation=policy.metadata.generation,
    )
    same_ports = made is None or made.ports == frozenset(policy.spec.watch.ports)
    if same_ports and (changed.rate_bits_per_second, changed.until, changed.step) == (
        state.rate_bits_per_second,
        state.until,
        state.step,
    ):
        return changed, None
    return changed, _decision(policy, client, changed, What.ADJUSTED, "the policy was edited", now)


def _ended(
    policy: Policy, client: Prefix, state: State, what: What, why: str, now: Now
) -> tuple[State, Decision | None]:
    """End a limit: the client is watched again, from nothing but its volume, and remembered with its step."""
    nothing = traffic.nothing(policy.spec)
    seen = {node: dataclasses.replace(nothing, volume=each.volume) for node, each in state.seen.items()}
    if what is What.PARDONED:
        after = dataclasses.replace(pardoned(policy, state.step, state.until, now), seen=seen)
    else:
        after = State(seen=seen, step=state.step, remembered_until=now.steady + policy.spec.then.memory_seconds)
    return after, _decision(policy, client, state, what, why, now)


def _decision(policy: Policy, client: Prefix, state: State, what: What, why: str, now: Now) -> Decision:
    limited = state.phase is Phase.LIMITED
    return Decision(
        at=now.wall,
        policy=policy.name,
        client=client,
        what=what,
        why=why[:WHY_MAX],
        enforced=policy.spec.then.mode is Mode.ENFORCE,
        limit=made_limit.name(policy.name, client) if limited else "",
        step=state.step if limited else 0,
        rate_bits_per_second=state.rate_bits_per_second,
        expires_at=state.expires_at,
        block=state.block,
        first=state.text if what in (What.STEPPED, What.ADJUSTED) else "",
    )
