"""The lists that a term begins with, made again until all of them are there.

What was listed ahead of the term is good enough for the limits, of which there are many, if no slice has changed since:
the list that checks the watch follows at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import structlog

from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.cache import lists
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.election.fence import LeadershipLostError
from bandwidth_operator.election.pauses import RETRY_SECONDS
from bandwidth_operator.leader.watch_restarts import GIVE_UP_SECONDS, CannotFollowError
from bandwidth_runtime.clock import Clock

log = structlog.get_logger(__name__)


def fill(
    api: client.Client,
    cache: Cache,
    clock: Clock,
    is_wanted: Callable[[], bool],
    *,
    prepared: bool,
    then: Callable[[], object],
) -> Iterator[float]:
    """List all kinds, and do `then`; yields the seconds to pause for after each failure of these.

    `prepared`: everything is in the cache already. Raises CannotFollowError when that takes too long, and
    LeadershipLostError when it is not wanted any more.
    """
    began = clock.monotonic()
    waiting = [Kind.SLICE, Kind.NODE, Kind.STATE] if prepared else list(Kind)
    ahead = _slice_versions(cache)
    for seconds in itertools.chain(RETRY_SECONDS, itertools.repeat(RETRY_SECONDS[-1])):
        try:
            while waiting:
                lists.fill(api, cache, waiting[0], is_wanted)
                if prepared and waiting[0] is Kind.SLICE and _slice_versions(cache) != ahead:
                    waiting.append(Kind.LIMIT)
                waiting.pop(0)
            then()
            return
        except lists.NotWantedError as error:
            raise LeadershipLostError(f"it was lost before everything was listed: {error}") from error
        except lists.FAILURES as error:
            log.warning("not everything could be listed, tried again", error=str(error), after_seconds=seconds)
            if clock.monotonic() - began > GIVE_UP_SECONDS:
                raise CannotFollowError(f"not everything could be listed: {error}") from error
        yield seconds


def _slice_versions(cache: Cache) -> dict[str, int]:
    return {name: each.version for name, each in cache.snapshot().slices.items()}
