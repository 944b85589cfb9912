"""Corrects the statuses of all limits at the end of an installation, so that none still reports to be in force.

Writes statuses, while the lease is held, and nothing else. Nothing depends on it: statuses that could not be written
are counted.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.election import lease
from bandwidth_operator.election.fence import Fence, LeadershipLostError
from bandwidth_operator.election.token_bucket import TokenBucket
from bandwidth_operator.election.writer import WRITE_SECONDS, Writer
from bandwidth_operator.reporting.metrics import Metrics
from bandwidth_operator.status import limit_status

AT_ONCE = 8
AGAIN_SECONDS = 1.0  # after trouble that may pass
FIRST_LINE_SECONDS = 1.0  # what takes longer reports how far it is
LINE_SECONDS = 5.0  # and reports it again


class Left(NamedTuple):
    """The number of limits whose statuses still report that they are in force, and why."""

    limits: int | None  # None: not known
    why: str


class _Claim(NamedTuple):
    """A limit whose status reports that it is in force."""

    name: str
    uid: str
    version: str
    status: client.Object


class RetiredStatuses:
    """One attempt to correct all statuses, while the fence of the lease is open."""

    def __init__(
        self,
        api: client.Client,
        held: lease.Lease,
        fence: Fence,
        writes_per_second: float,
        log: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._lease = held
        self._fence = fence
        self._writer = Writer(api, fence, TokenBucket(writes_per_second, AT_ONCE), Metrics())
        self._log = log
        self._clock = clock
        self._renewed_at = clock() - lease.RENEW_SECONDS
        self._line_at = clock() + FIRST_LINE_SECONDS
        self._refused: set[str] = set()  # by name: not tried again
        self._trouble = ""  # the last

    def carry_out(self, missing: int, until: float) -> Left:
        """Write all statuses that are no longer true, at most until `until` (monotonic seconds).

        `missing`: how many nodes may still have the limits.
        Raises LeadershipLostError, and nothing else.
        """
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE, thread_name_prefix="status") as pool:
            while True:
                left, again = self._round(pool, missing, until)
                self._fence.check()
                if not again or self._clock() + AGAIN_SECONDS >= until:
                    return left
                self._fence.wait_ended(AGAIN_SECONDS)

    def _round(self, pool: concurrent.futures.Executor, missing: int, until: float) -> tuple[Left, bool]:
        """Write each limit once; return what is left, and whether another round may help."""
        self._keep_lease()
        try:
            claims = self._claims(missing)
        except client.ApiError as error:
            return Left(None, str(error)), True
        waiting = [claim for claim in claims if claim.name not in self._refused]
        written, again = 0, False
        for first in range(0, len(waiting), AT_ONCE):
            if self._clock() >= until:
                self._trouble = self._trouble or "there was no time left"
                return Left(len(claims) - written, self._trouble), False
            self._keep_lease()
            batch = waiting[first : first + AT_ONCE]
            answers = list(pool.map(lambda claim: self._write(claim, missing), batch))
            for claim, failure in zip(batch, answers, strict=True):
                if failure is None:
                    written += 1
                    continue
                self._trouble = str(failure)
                if isinstance(failure, client.RefusedError) and not failure.temporary:
                    self._refused.add(claim.name)
                else:
                    again = True
            self._log_progress(written, len(claims))
        left = len(claims) - written
        return Left(left, self._trouble if left else ""), again

    def _keep_lease(self) -> None:
        now = self._clock()
        if now - self._renewed_at >= lease.RENEW_SECONDS:
            with contextlib.suppress(client.ApiError):  # the fence knows how long that may go on
                self._lease.turn()
                self._renewed_at = now
        if self._lease.fence is not self._fence:
            raise LeadershipLostError("the lease is lost")
        self._fence.check()

    def _claims(self, missing: int) -> list[_Claim]:
        found: list[_Claim] = []
        for page in self._api.pages(Kind.LIMIT.path):
            self._keep_lease()
            found += [c for c in map(_claim, page.items) if limit_status.retired(c.status, missing, 0) is not None]
        return found

    def _write(self, claim: _Claim, missing: int) -> client.ApiError | None:
        """Write one status, in a thread of the pool; an error is returned. Raises LeadershipLostError."""
        path = f"{Kind.LIMIT.path}/{claim.name}"
        try:
            try:
                self._patch(path, claim, missing)
            except client.RefusedError as refused:
                if refused.status != 409:
                    raise
                # Another program changed the limit since it was listed.
                self._patch(path, _claim(self._api.request("GET", path, timeout_seconds=WRITE_SECONDS)), missing)
        except client.ApiError as error:
            return None if isinstance(error, client.RefusedError) and error.status == 404 else error
        return None

    def _patch(self, path: str, claim: _Claim, missing: int) -> None:
        status = limit_status.retired(claim.status, missing, time.time())
        if status is not None:
            patch = {"metadata": {"uid": claim.uid, "resourceVersion": claim.version}, "status": status}
            self._writer.write("status", "PATCH", f"{path}/status", patch, client.MERGE_PATCH)

    def _log_progress(self, written: int, of: int) -> None:
        if self._clock() >= self._line_at:
            self._line_at = self._clock() + LINE_SECONDS
            self._log(f"{written} of {of} limits say that they are not in force any more")


def _claim(item: client.Object) -> _Claim:
    metadata = item["metadata"]
    return _Claim(metadata["name"], metadata["uid"], str(metadata["resourceVersion"]), item.get("status") or {})
