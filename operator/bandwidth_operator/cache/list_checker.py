"""The thread that lists each kind after kopf has, and regularly afterwards, to check what the watches have brought.

kopf reports neither when its list is complete nor what was deleted while a watch was interrupted. So each list of
kopf's, which brings only a version, is followed by one of our own. More lists follow, as often as they are cheap, and
between two of them a first page, which shows the number of objects. While a watch is silent (`watch_health`) lists
replace it. Fills the cache and nothing else; `list_schedule` decides what is due.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.cache import lists
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.cache.list_schedule import Schedule
from bandwidth_operator.cache.watch import Streams
from bandwidth_operator.protection.cluster_addresses import ClusterAddresses
from bandwidth_operator.reporting.health import Health
from bandwidth_operator.reporting.metrics import Metrics

LOOK_SECONDS = 0.25

log = structlog.get_logger(__name__)


class ListChecker:
    """Started once and stopped once. `crashed`: the error that ended the thread; the leader ends the process by it."""

    def __init__(
        self,
        api: client.Client,
        cache: Cache,
        streams: Streams,
        addresses: ClusterAddresses,
        metrics: Metrics,
        health: Health,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._cache = cache
        self._streams = streams
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lists", daemon=True)
        self._addresses = addresses
        self._addresses_at: float | None = None  # when they were read last
        self._silent: frozenset[Kind] = frozenset()
        self._all_wanted = threading.Event()
        self.crashed: BaseException | None = None
        self.went_back = threading.Event()  # a list is of a lower version than one before it

    def start(self) -> None:
        self._health.turned("lists")
        self._thread.start()

    def read_addresses(self) -> None:
        """Read the addresses that the cluster needs beside its nodes; a few cheap requests, from time to time."""
        self._addresses_at = self._clock()
        self._cache.put_cluster_addresses(self._addresses.read())

    def list_all(self) -> None:
        """Make everything due to be listed at once."""
        self._all_wanted.set()

    def stop(self) -> None:
        """Stop the thread, and wait for a list that is being read."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._health.ended("lists")

    def _run(self) -> None:
        try:
            schedule = Schedule(self._clock())
            while not self._stopping.wait(LOOK_SECONDS):
                self.turn(schedule)
        except BaseException as error:
            self.crashed = error

    def turn(self, schedule: Schedule) -> None:
        """Make each list, and read each first page, that is due now."""
        self._health.turned("lists")
        now = self._clock()
        if self._addresses_at is None or now - self._addresses_at >= self._addresses.again_seconds:
            self.read_addresses()
            now = self._clock()
        wanted = frozenset(Kind) if self._all_wanted.is_set() else self._streams.take_relisted()
        self._all_wanted.clear()
        for kind in wanted:
            schedule.want(kind, now)
        silent = self._cache.watch_health.silent()
        self._log_silent(silent)
        for kind, whole in schedule.due(now, silent).items():
            if self._stopping.is_set():
                return
            try:
                self._check(schedule, kind, whole=whole)
            except lists.NotWantedError:
                return
            except lists.FAILURES as error:
                seconds = schedule.failed(kind, self._clock())
                log.warning(
                    "a list to check the watch failed and is made again",
                    kind=kind.value,
                    error=str(error),
                    after_seconds=seconds,
                )
            self._health.turned("lists")

    def _check(self, schedule: Schedule, kind: Kind, *, whole: bool) -> None:
        began = self._clock()
        if whole:
            self._list(kind)
            schedule.listed(kind, began, self._clock())
        elif lists.look(self._api, self._cache, kind):
            schedule.agreed(kind, self._clock())
        else:
            schedule.disagreed(kind, self._clock())

    def _list(self, kind: Kind) -> None:
        merged = lists.fill(self._api, self._cache, kind, self._still_wanted)
        if merged.corrected:
            self._metrics.corrected.labels(kind.value).inc(merged.corrected)
            log.info("a list corrected what the watch had brought", kind=kind.value, objects=merged.corrected)
        if merged.went_back:
            log.warning("the API server's versions went back: it was restored from a backup", kind=kind.value)
            self.went_back.set()
            self._cache.woken.set()

    def _still_wanted(self) -> bool:
        self._health.turned("lists")
        return not self._stopping.is_set()

    def _log_silent(self, silent: Mapping[Kind, float]) -> None:
        for kind in silent.keys() - self._silent:
            log.warning(
                "a watch does not bring what is known to have happened; lists take its place",
                kind=kind.value,
                silent_seconds=round(silent[kind]),
            )
        for kind in self._silent - silent.keys():
            log.info("a watch brings again what happens", kind=kind.value)
        self._silent = frozenset(silent)
