"""Writes the answers into the questions, each as often as it asks for, and deletes questions. Decides no answer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection

import structlog

from bandwidth_api import kinds
from bandwidth_api.crds import traffic_answer
from bandwidth_api.crds.traffic_answer import Answer
from bandwidth_api.crds.traffic_query import Query
from bandwidth_kube import client
from bandwidth_operator.election.writer import Writer
from bandwidth_runtime.clock import Clock

EARLY_SECONDS = 0.5  # between two answers while nodes are still missing in them
PART_OF_TIME = 5.0  # an answer that takes a second to make is made every five at most

log = structlog.get_logger(__name__)


@dataclasses.dataclass(slots=True)
class _Written:
    """The last status of a question that was written, and when."""

    uid: str
    at: float = -math.inf
    answer: Answer | None = None
    took: float = 0.0  # seconds to make it


class AnswerWriter:
    """The answers of one term. One thread at a time."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._written: dict[str, _Written] = {}

    def keep(self, names: Collection[str]) -> None:
        """Forget all questions but these."""
        self._written = {name: each for name, each in self._written.items() if name in names}

    def last(self, query: Query) -> Answer | None:
        """Return the answer that was written last in this term."""
        return self._known(query).answer

    def due_at(self, query: Query) -> float:
        """Return when the next answer is due, monotonic."""
        known = self._known(query)
        waiting = known.answer is None or known.answer.answered < known.answer.asked
        interval = float(query.spec.interval_seconds)
        return known.at + max(min(EARLY_SECONDS, interval) if waiting else interval, PART_OF_TIME * known.took)

    def took(self, query: Query, seconds: float) -> None:
        """Note how long an answer took: it costs a part of the time at most."""
        self._known(query).took = seconds

    def write(self, query: Query, answer: Answer, now: float) -> None:
        """Write the status of a question if it says something else than before. Raises client.ApiError."""
        known = self._known(query)
        before, known.at = known.answer, now
        if before is not None:
            same = (before.status, before.reason) == (answer.status, answer.reason)
            answer = dataclasses.replace(answer, observed_at=before.observed_at, since=before.since if same else "")
            if answer == before:
                return
        wall = self._clock.wall()
        answer = dataclasses.replace(answer, observed_at=wall, since=answer.since or traffic_answer.rfc3339(wall))
        path = f"{kinds.QUERIES_PATH}/{query.name}/status"
        body = {"status": traffic_answer.write_answer(answer)}
        try:
            self._writer.write("question", "PATCH", path, body, client.MERGE_PATCH)
        except client.RefusedError as refused:
            if refused.status != 404 and refused.temporary:
                raise
            if refused.status != 404:
                log.warning("the API server refuses an answer", question=query.name, error=str(refused))
        known.answer = answer

    def delete(self, query: Query, *, even_if_renewed: bool = False) -> None:
        """Delete a question; by default only if nobody has renewed it meanwhile. Raises client.ApiError."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": query.uid} | ({} if even_if_renewed else {"resourceVersion": query.version}),
        }
        try:
            self._writer.write("question", "DELETE", f"{kinds.QUERIES_PATH}/{query.name}", body)
        except client.RefusedError as refused:
            if refused.status not in (404, 409):
                raise

    def _known(self, query: Query) -> _Written:
        known = self._written.get(query.name)
        if known is None or known.uid != query.uid:
            known = self._written[query.name] = _Written(query.uid)
        return known
