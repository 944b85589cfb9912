"""Writes the statuses of policies: only what differs, and each at most every few seconds. Decides nothing.

What was decided waits here until it is written. Whom a policy limits is written at once, since no limit is made before
the status tells of it; that more or fewer clients are looked at is told rarely.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import structlog

from bandwidth_api import addresses, kinds
from bandwidth_api.conditions import Condition
from bandwidth_api.policy import memory, status
from bandwidth_api.policy.decision import Decision
from bandwidth_api.policy.reports import Now
from bandwidth_api.policy.status import Counts
from bandwidth_kube import client
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.policies.policy_objects import Seen

EVERY_SECONDS = 3.0  # between two writes for one policy, at least …
FIGURES_SECONDS = 30.0  # … and where only figures differ
RETRY_SECONDS = 5.0
LIMITS_RETRY_SECONDS = 1.0  # where a limit waits for it
SAME_SECONDS = 2  # by which the end of what is remembered may differ: clocks run apart
Json = dict[str, Any]

log = structlog.get_logger(__name__)


@dataclasses.dataclass(slots=True)
class _Known:
    """The status of one policy as it stands in the API server, and when it was written last."""

    uid: str
    version: int
    status: Mapping[str, Any]
    limited: Mapping[str, float]  # `memory.limited` of what the API server has
    not_before: float = -math.inf  # monotonic
    at: float = -math.inf
    decisions: list[Decision] = dataclasses.field(default_factory=list)  # that are not written yet, the oldest first


class PolicyStatuses:
    """The statuses of one term. One thread."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._known: dict[str, _Known] = {}

    def keep(self, policies: Collection[str]) -> None:
        """Forget all policies but these."""
        self._known = {name: each for name, each in self._known.items() if name in policies}

    def update(
        self,
        seen: Seen,
        stated: Sequence[Condition],
        now: Now,
        *,
        counts: Counts | None = None,
        decided: Iterable[Decision] = (),
        remembered: Sequence[str] | None = None,
    ) -> float:
        """Write the status of a policy where it says something else and that is due; return when it is, monotonic.

        `remembered`: None for what is written. Infinite: nothing is to be written. What may pass is tried again then.
        Raises LeadershipLostError.
        """
        known = self._of(seen)
        known.decisions = [*known.decisions, *decided][-status.DECISIONS_MAX :]
        wanted = status.write(
            known.status,
            stated,
            seen.generation,
            now,
            seen=counts,
            decisions=known.decisions,
            remembered=None if remembered is None else _settled(known.status.get("remembered"), remembered),
        )
        if wanted == {key: known.status[key] for key in wanted if key in known.status}:
            return math.inf
        if _differ_in_limits(known.limited, memory.limited(wanted["remembered"])):
            pause = 0.0
        else:
            pause = EVERY_SECONDS if _says_more(known.status, wanted) else FIGURES_SECONDS
        due_at = max(known.at + pause, known.not_before)
        if now.steady < due_at:
            return due_at
        try:
            self._write(seen.name, known, wanted, now)
        except client.ApiError as error:
            known.not_before = now.steady + (RETRY_SECONDS if pause else LIMITS_RETRY_SECONDS)
            log.warning("the status of a policy must wait", policy=seen.name, error=str(error))
            return known.not_before
        return math.inf

    def tells_of(self, decision: Decision) -> bool:
        """Return whether the API server has a status that tells of a limit, for as long as this decision says."""
        known = self._known.get(decision.policy)
        until = None if known is None else known.limited.get(addresses.write(decision.client))
        return until is not None and decision.expires_at - until <= SAME_SECONDS

    def _of(self, seen: Seen) -> _Known:
        known, version = self._known.get(seen.name), int(seen.version) if seen.version.isdecimal() else 0
        if known is None or known.uid != seen.uid:
            known = self._known[seen.name] = _Known(seen.uid, version, seen.status, _limited(seen.status))
        elif version > known.version:
            known.version, known.status, known.limited = version, seen.status, _limited(seen.status)
        return known

    def _write(self, name: str, known: _Known, wanted: Json, now: Now) -> None:
        path = f"{kinds.POLICIES_PATH}/{name}/status"
        try:
            answer = self._writer.write("policy", "PATCH", path, {"status": wanted}, client.MERGE_PATCH)
        except client.RefusedError as refused:
            if refused.status != 404 and refused.temporary:
                raise
            if refused.status != 404:
                log.warning("the API server refuses the status of a policy", policy=name, error=str(refused))
            known.status = {**known.status, **wanted}
        else:
            version = str((answer.get("metadata") or {}).get("resourceVersion", ""))
            known.version = int(version) if version.isdecimal() else known.version
            known.status = answer.get("status") or wanted
            known.limited = _limited(known.status)
        known.at, known.decisions = now.steady, []


def _limited(of: Mapping[str, Any]) -> dict[str, float]:
    return memory.limited(of.get("remembered"))


def _differ_in_limits(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Return whether two statuses tell of other limits, or of other ends."""
    return one.keys() != other.keys() or any(abs(one[name] - other[name]) > SAME_SECONDS for name in one)


def _says_more(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether a status says more than other figures."""
    return _words(before) != _words(after)


def _words(of: Mapping[str, Any]) -> tuple[object, ...]:
    conditions = of.get("conditions") or ()
    return (
        of.get("observedGeneration"),
        of.get("decisions") or [],
        (of.get("clients") or {}).get("limited"),
        (of.get("nodes") or {}).get("selected"),
        [(each.get("type"), each.get("status"), each.get("reason")) for each in conditions if isinstance(each, dict)],
    )


def _settled(written: object, remembered: Sequence[str]) -> list[str]:
    """Return what is remembered, in the words that are written where only its end differs by a moment."""
    kept: dict[tuple[str, ...], str] = {}
    for text in written if isinstance(written, list) else ():
        if isinstance(text, str):
            kept[tuple(text.split()[:-1])] = text
    found = []
    for text in remembered:
        before = kept.get(tuple(text.split()[:-1]), "")
        found.append(before if before and _differ(before, text) <= SAME_SECONDS else text)
    return found


def _differ(one: str, other: str) -> int:
    ends = [text.rpartition(" ")[2] for text in (one, other)]
    return abs(int(ends[0][:12]) - int(ends[1][:12])) if all(end.isdecimal() for end in ends) else 1 << 31
