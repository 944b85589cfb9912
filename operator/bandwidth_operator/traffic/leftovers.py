"""Deletes the reports of nodes when nobody waits for them any more, and what an earlier term has left of them."""

from __future__ import annotations

import math

from bandwidth_api import kinds
from bandwidth_kube import client
from bandwidth_operator.election.writer import Writer

SWEEP_SECONDS = 2.0  # after the end of the last question, when agents have heard of it, its reports are deleted
SWEEP_LAST_SECONDS = 60.0  # and once more, for agents that did not hear of it


class Leftovers:
    """The reports that are left over. One thread at a time."""

    def __init__(self, api: client.Client, writer: Writer, *, of_earlier_terms: bool = True) -> None:
        """`of_earlier_terms`: what those left is due at once."""
        self._api = api
        self._writer = writer
        self._sweep_at = -math.inf if of_earlier_terms else math.inf
        self._last_sweep_at = math.inf

    def wait_for_the_end(self, now: float) -> None:
        """Note that somebody asks: nothing is left over until a while after that."""
        self._sweep_at = now + SWEEP_SECONDS
        self._last_sweep_at = now + SWEEP_LAST_SECONDS

    def sweep(self, now: float) -> float:
        """Delete what is due; return the seconds until something is due again, infinite if nothing is.

        Raises client.ApiError, LeadershipLostError.
        """
        if now >= self._sweep_at:
            self._sweep_at = math.inf if self._swept() else now + SWEEP_SECONDS
        if now >= self._last_sweep_at:
            self._last_sweep_at, self._sweep_at = math.inf, math.inf if self._swept() else now + SWEEP_SECONDS
        return min(self._sweep_at, self._last_sweep_at) - now

    def _swept(self) -> bool:
        """Delete all reports; return whether there were none."""
        try:
            page = self._api.request("GET", kinds.TRAFFIC_PATH, query={"limit": "1"})
            if not page.get("items"):
                return True
            self._writer.write("question", "DELETE", kinds.TRAFFIC_PATH, {"apiVersion": "v1", "kind": "DeleteOptions"})
        except client.RefusedError as refused:
            if refused.status in (403, 404):
                return True  # an installation without questions
            raise
        return False
