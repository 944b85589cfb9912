"""Writes what policies decided about their limits: applies and deletes them, and tries again what may pass.

Touches no limit that it did not find to be made by that policy: a change and a deletion name the object that was read,
and a limit of the same name that a person wrote is a refusal. Decides nothing. Bounded in time: what is left waits for
the next turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import structlog

from bandwidth_api.crds.policy import Policy
from bandwidth_api.kinds import Kind
from bandwidth_api.policy import made_limit
from bandwidth_api.policy.decision import Decision, What, Write
from bandwidth_kube import client
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.policies import neighbours
from bandwidth_runtime.clock import Clock

TURN_SECONDS = 1.0  # of writing in one turn
LATE_SECONDS = 30.0  # a limit that could not be made for so long is not made any more: its client has to be hot again
GONE = (404, 409, 410)  # of a limit that was read before: it is not there any more, or it is another one
TAKEN = "a person's limit has this name; delete it or give it another name"

log = structlog.get_logger(__name__)


class Order(NamedTuple):
    """A write that is due."""

    decision: Decision
    policy: Policy | None  # None: it is gone, and its limit with it
    since: float  # monotonic


class Done(NamedTuple):
    """What became of the writes of one turn."""

    written: tuple[tuple[Decision, objects.Limit | None], ...]  # and the limit as it is then; None: deleted
    refused: tuple[tuple[Decision, str], ...]  # for good, and why
    answered: tuple[Decision, ...]  # whose limit was there when the API server answered, whatever the cache knows


class LimitWriter:
    """The writes that are due, one for each limit. One thread."""

    def __init__(self, api: client.Client, writer: Writer, cache: Cache, clock: Clock) -> None:
        self._api = api
        self._writer = writer
        self._cache = cache
        self._clock = clock
        self._orders: dict[str, Order] = {}  # by limit

    def __len__(self) -> int:
        return len(self._orders)

    def order(self, decisions: Iterable[Decision], policies: Mapping[str, Policy]) -> None:
        """Have these carried out, each in place of what was due for its limit. Of a limit that a person deleted nothing
        is due any more."""
        now = self._clock.monotonic()
        for each in decisions:
            if each.write is not None or each.what is What.PARDONED:
                self._orders.pop(each.limit, None)
            if each.write is not None:
                self._orders[each.limit] = Order(each, policies.get(each.policy), now)

    def turn(self, recorded: Callable[[Decision], bool]) -> Done:
        """Carry out what is due, deletions first. Raises LeadershipLostError; what fails otherwise stays due.

        `recorded`: whether the status of its policy tells of a limit; one that it does not tell of has to wait.
        """
        written: list[tuple[Decision, objects.Limit | None]] = []
        refused: list[tuple[Decision, str]] = []
        answered: list[Decision] = []
        until = self._clock.monotonic() + TURN_SECONDS
        due = sorted(self._orders, key=lambda name: self._orders[name].decision.write is not Write.DELETE)
        for name in due:
            order = self._orders[name]
            try:
                if self._is_late(order):
                    log.warning("a limit of a policy could not be made in time", limit=name)
                elif order.decision.write is Write.DELETE:
                    self._delete(name, order.decision)
                    written.append((order.decision, None))
                elif not recorded(order.decision):
                    continue
                elif self._apply(order):
                    answered.append(order.decision)
                    written.append((order.decision, self._cache.limit(name)))
            except client.RefusedError as error:
                if error.temporary or error.status == 401:
                    log.warning("a limit of a policy must wait", limit=name, error=str(error))
                    break
                refused.append((order.decision, error.message or str(error)))
            except client.ApiError as error:
                log.warning("a limit of a policy must wait", limit=name, error=str(error))
                break
            del self._orders[name]
            if self._clock.monotonic() >= until:
                break
        return Done(tuple(written), tuple(refused), tuple(answered))

    def _is_late(self, order: Order) -> bool:
        decision = order.decision
        if decision.write is Write.DELETE:
            return False
        over = decision.expires_at <= self._clock.wall()
        return over or (decision.write is Write.MAKE and self._clock.monotonic() - order.since > LATE_SECONDS)

    def _apply(self, order: Order) -> bool:
        """Apply a limit; return whether it is there: one that was to be changed may be gone. Raises client.ApiError."""
        decision = order.decision
        if order.policy is None:
            return False
        known = self._cache.limit(decision.limit)
        if known is not None and neighbours.is_persons(known):
            raise client.RefusedError(409, "AlreadyExists", TAKEN)
        body = made_limit.document(order.policy, decision)
        if known is not None:  # no other object, and none that was deleted meanwhile
            body["metadata"]["uid"] = known.uid
        elif decision.write is Write.CHANGE:
            return False
        mark = self._cache.mark()
        path = f"{Kind.LIMIT.path}/{decision.limit}"
        try:
            answer = self._writer.write("made limit", "PATCH", path, body, client.APPLY_PATCH)
        except client.RefusedError as refused:
            if refused.status not in GONE:
                raise
            if decision.write is Write.CHANGE or known is None:
                return False
            del body["metadata"]["uid"]  # an earlier limit of this client, which is gone
            answer = self._writer.write("made limit", "PATCH", path, body, client.APPLY_PATCH)
        self._cache.learn(Kind.LIMIT, answer, mark)
        return True

    def _delete(self, name: str, decision: Decision) -> None:
        """Delete a limit that its policy made; that there is none is no error. Raises client.ApiError."""
        path = f"{Kind.LIMIT.path}/{name}"
        known = self._cache.limit(name)
        try:
            if known is None:  # perhaps it was made, and the answer was lost
                answer = self._api.request("GET", path)
                found = objects.read(Kind.LIMIT, answer, None)
                known = found if isinstance(found, objects.Limit) else None
            if known is None or neighbours.is_persons(known):
                return
            body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": known.uid}}
            self._writer.write("made limit", "DELETE", path, body)
        except client.RefusedError as refused:
            if refused.status not in GONE:
                raise
        log.info("a limit of a policy was deleted", limit=name, policy=decision.policy, why=decision.what.value)
