"""Reads whole lists of one kind into the cache, and first pages to compare. An invalid list changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import structlog

from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.cache.cache import Cache, Merged

NAMED_MAX = 3

log = structlog.get_logger(__name__)


class MissingKindError(Exception):
    """A CRD is not installed; the message names it."""


class NotWantedError(Exception):
    """A list was stopped in the middle, because it is not wanted any more."""


class OddListError(Exception):
    """The answer is no valid list, so nothing can be concluded from it."""


# What a list may fail by, with no other consequence than that it is made again.
FAILURES = (client.ApiError, MissingKindError, OddListError)


def fill(api: client.Client, cache: Cache, kind: Kind, still_wanted: Callable[[], bool] = lambda: True) -> Merged:
    """Read one list and merge it into the cache.

    Raises client.ApiError, MissingKindError, OddListError, NotWantedError.
    """

    def pages() -> Iterator[tuple[list[client.Object], int]]:
        for page in api.pages(kind.path):
            if not still_wanted():
                raise NotWantedError(f"the list of {kind.value}s")
            yield page.items, _version(page, kind)

    with _explained(kind):
        merged = cache.merge(kind, pages())
    for each in merged.unreadable[:NAMED_MAX]:
        log.warning("an object cannot be read and stays as it was known", kind=kind.value, name=each.name, why=each[1])
    return merged


def look(api: client.Client, cache: Cache, kind: Kind) -> bool:
    """Return whether a first page agrees with what the cache has of a kind. Raises like `fill`."""
    with _explained(kind):
        page = next(api.pages(kind.path, limit=1, timeout_seconds=client.TIMEOUT_SECONDS))
    count = None if page.remaining is None else len(page.items) + page.remaining
    return cache.looked(kind, _version(page, kind), count)


def prepared(
    api: client.Client, still_wanted: Callable[[], bool], server_time: Callable[[], float | None]
) -> Cache | None:
    """List everything for a replica that may lead soon; return None if that failed or is not wanted any more.

    Slices before limits: if no slice has changed when the term begins, no later version of a limit was published than
    those listed here, so the new plan cannot replace a newer one.
    """
    cache = Cache(server_time=server_time)
    try:
        for kind in (Kind.SLICE, Kind.LIMIT, Kind.NODE, Kind.STATE):
            fill(api, cache, kind, still_wanted)
    except (*FAILURES, NotWantedError) as error:
        log.debug("a list made ahead was given up", error=str(error))
        return None
    return cache


@contextlib.contextmanager
def _explained(kind: Kind) -> Iterator[None]:
    """Turn the errors of a list request into ones whose message names what to do."""
    try:
        yield
    except client.RefusedError as refused:
        if refused.status != 404:
            raise
        raise MissingKindError(f"the API server does not know {kind.path}; apply deploy/crds") from refused
    except RecursionError as error:
        raise OddListError(f"{kind.path}: the answer is nested deeper than can be read") from error


def _version(page: client.Page, kind: Kind) -> int:
    version = page.resource_version
    if not (version.isascii() and version.isdigit()) or len(version) > 20:
        raise OddListError(f"{kind.path}: the answer is a list of the version {version[:40]!r}")
    return int(version)
