"""What the nodes are asked together: keeps it in the head of the plan, which every node reads. Written rarely.

One thread at a time; raises what a write raises. Decides nothing about single questions: that is `questions`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import structlog

from bandwidth_api.crds import asked, slices
from bandwidth_api.crds.asked import Asked
from bandwidth_api.crds.traffic_query import Query
from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.traffic import answers
from bandwidth_operator.traffic.questions import Questions

CANDIDATES_FIRST_SECONDS = 4.0  # after the first answer, at the latest
CANDIDATES_SECONDS = 20.0
RENEWALS_KEPT = 4  # whose lists of candidates reports may still answer

log = structlog.get_logger(__name__)


class Asking:
    """The question of all questions."""

    def __init__(self, writer: Writer, cache: Cache, questions: Questions) -> None:
        self._writer = writer
        self._cache = cache
        self._questions = questions
        self._candidates: tuple[str, ...] = ()
        self._candidates_at = math.inf  # when they are chosen again
        self._by_renewal: dict[int, tuple[str, ...]] = {}
        self.first_renewal = 0  # of those who ask now; reports that answer an earlier one are left of others
        self.old_plan = False  # the CRD of the head does not know the field

    def head(self) -> slices.Head | None:
        """Return the head of the plan; None if there is none."""
        found = self._cache.slice(slices.HEAD)
        return found.content if found is not None and isinstance(found.content, slices.Head) else None

    def stream(self) -> Asked:
        """Return what the nodes are asked now."""
        head = self.head()
        return head.traffic if head is not None and head.traffic is not None else Asked(0, 0)

    @property
    def candidates(self) -> Mapping[int, Sequence[str]]:
        """By renewal, the clients that the nodes were asked for by their place in a list."""
        return self._by_renewal

    def ask(
        self, living: tuple[Query, ...], agents: frozenset[str], before: Asked | None, now: float, wall: float
    ) -> None:
        """Have the head of the plan carry what is asked now. Raises client.ApiError, LeadershipLostError."""
        exact = any(query.spec.exact for query in living)
        candidates = self._candidates if exact else ()
        wanted = self._questions.to_ask(living, agents, candidates, before, now, int(wall))
        if wanted == before:
            return
        empty = dict.fromkeys(asked.LISTS)  # what a merge leaves out would stay
        wire = None if wanted is None else empty | asked.write(wanted)
        mark = self._cache.mark()
        path = f"{Kind.SLICE.path}/{slices.HEAD}"
        try:
            answer = self._writer.write("question", "PATCH", path, {"spec": {"traffic": wire}}, client.MERGE_PATCH)
        except client.RefusedError as refused:
            if refused.status == 404:
                return  # it will be written again
            raise
        self._cache.learn(Kind.SLICE, answer, mark, own=True)
        if wanted is None:
            self._by_renewal.clear()
            self._candidates, self._candidates_at = (), math.inf
            log.info("nobody asks about traffic any more")
            return
        there = slices.read(answer)
        self.old_plan = not isinstance(there, slices.Head) or there.traffic is None
        if before is None:
            self.first_renewal = wanted.renewal
        self._questions.was_asked(wanted, now)
        self._by_renewal[wanted.renewal] = wanted.candidates
        while len(self._by_renewal) > RENEWALS_KEPT:
            del self._by_renewal[min(self._by_renewal)]
        log.info("nodes are asked about traffic", questions=len(living), seconds=wanted.seconds)

    def choose_candidates(self, merged: answers.Merged, nodes: Collection[str], now: float) -> None:
        """Choose the clients that all nodes are asked for, rarely: every node reads the list."""
        if self._candidates_at == math.inf:
            self._candidates_at = now + CANDIDATES_FIRST_SECONDS
        if now >= self._candidates_at or (not self._candidates and merged.answered == nodes):
            self._candidates, self._candidates_at = answers.candidates_of(merged), now + CANDIDATES_SECONDS
