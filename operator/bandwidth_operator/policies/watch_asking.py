"""Has the head of the plan carry what policies ask of the nodes all the time: rarely, because every node reads it."""

from __future__ import annotations

import math

import structlog

from bandwidth_api.crds import slices, watching
from bandwidth_api.crds.watching import Watching
from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.election.writer import Writer

SPACING_SECONDS = 2.0  # between two writes

log = structlog.get_logger(__name__)


class WatchAsking:
    """What is asked in one term. One thread."""

    def __init__(self, writer: Writer, cache: Cache) -> None:
        self._writer = writer
        self._cache = cache
        self._asked_at = -math.inf

    def head(self) -> slices.Head | None:
        """Return the head of the plan; None if there is none."""
        found = self._cache.slice(slices.HEAD)
        return found.content if found is not None and isinstance(found.content, slices.Head) else None

    def ask(self, wanted: Watching | None, now: float) -> None:
        """Have it carry this; None: nothing. Raises client.ApiError, LeadershipLostError."""
        head = self.head()
        if head is None or head.watching == wanted or (wanted is not None and now - self._asked_at < SPACING_SECONDS):
            return
        self._asked_at = now
        wire = None if wanted is None else watching.write(wanted)
        mark = self._cache.mark()
        path = f"{Kind.SLICE.path}/{slices.HEAD}"
        try:
            answer = self._writer.write("policy", "PATCH", path, {"spec": {"watching": wire}}, client.MERGE_PATCH)
        except client.RefusedError as refused:
            if refused.status == 404:
                return  # it will be written again
            raise
        self._cache.learn(Kind.SLICE, answer, mark, own=True)
        there = slices.read(answer)
        if wanted is not None and (not isinstance(there, slices.Head) or there.watching is None):
            log.warning("the CRD of BandwidthPlanSlice has no spec.watching, so no node looks; apply deploy/crds")
        elif head.watching is None or wanted is None:
            log.info("nodes look for policies" if wanted is not None else "no policy looks any more")
