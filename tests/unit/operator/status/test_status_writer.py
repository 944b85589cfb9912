"""The threads that write statuses, while some writes are slow and refused."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.election import fence
from bandwidth_operator.election.token_bucket import TokenBucket
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.reporting.metrics import Metrics
from bandwidth_operator.status.events import Correlator
from bandwidth_operator.status.rollup import Outcome
from bandwidth_operator.status.status_writer import StatusWriter
from bandwidth_runtime.clock import Clock
from unit.operator import examples

READY = Outcome(published=True, desired=2, programmed=2)


class Server(client.Client):
    """Takes every status but those of limits called refused-…, whose refusal it holds back until told."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._changed = threading.Condition()
        self.release = threading.Event()
        self.written: list[str] = []
        self.refused: list[str] = []

    def request(self, method: str, path: str, **options: Any) -> client.Object:
        if method == "POST":
            return {}
        name = path.split("/")[5]
        if name.startswith("refused"):
            self.release.wait(20)
            self._note(self.refused, name)
            raise client.RefusedError(403, "Forbidden", "a policy")
        self._note(self.written, name)
        document = examples.document(name)
        document["metadata"]["resourceVersion"] = "900"
        return document | {"status": options["body"]["status"]}

    def _note(self, names: list[str], name: str) -> None:
        with self._changed:
            names.append(name)
            self._changed.notify_all()

    def until(self, names: list[str], count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(names) >= count, 20), (len(names), count)


def test_slow_refusals_hold_no_other_status_back() -> None:
    """A hundred limits whose writes hang and are refused in the end: of eight threads two wait for them, once they are
    known for it, and the others write what is due."""
    cache = Cache()
    server = Server(cache)
    metrics = Metrics()
    held = fence.Fence(1, fence.boot_clock() + 600)
    now = [0.0]
    writer = Writer(server, held, TokenBucket(10_000, 10_000), metrics)
    statuses = StatusWriter(server, writer, cache, metrics, Correlator(), Clock(lambda: now[0]))
    names = [f"refused-{number}" for number in range(100)]
    for name in (*names, *(f"honest-{number}" for number in range(50))):
        cache.note(Kind.LIMIT, examples.document(name))
    statuses.start()
    try:
        server.release.set()
        for name in names:
            statuses.update(READY, _limit(cache, name))
        server.until(server.refused, 100)
        server.release.clear()
        now[0] = 6.0  # the first pause of each is over
        statuses.update(READY._replace(agents=1), _limit(cache, names[0]))
        for number in range(50):
            statuses.update(READY, _limit(cache, f"honest-{number}"))
        server.until(server.written, 50)
        assert len(server.refused) == 100
        assert statuses.crashed is None
    finally:
        server.release.set()
        held.end()
        statuses.close()
    assert metrics.text().count(b'writes_total{object="status",outcome="done"} 50.0') == 1


def _limit(cache: Cache, name: str) -> Any:
    return cache.limit(name)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, 'Internal error occurred: failed calling webhook "v.example.org": context deadline exceeded'),
        (429, 'admission webhook "v.example.org" denied the request: later'),
    ],
)
def test_a_webhook_that_asks_for_a_pause_gets_one_for_that_limit_alone(status: int, message: str) -> None:
    """Whatever status code it chooses: the API server itself has answered, and other statuses are written at once."""

    class Refusing(Server):
        def request(self, method: str, path: str, **options: Any) -> client.Object:
            if "/refused-" in path:
                self._note(self.refused, path)
                raise client.RefusedError(status, "", message, 600.0)
            return super().request(method, path, **options)

    cache = Cache()
    server, metrics = Refusing(cache), Metrics()
    held = fence.Fence(1, fence.boot_clock() + 600)
    writer = Writer(server, held, TokenBucket(10_000, 10_000), metrics)
    statuses = StatusWriter(server, writer, cache, metrics, Correlator(), Clock(lambda: 0.0))
    statuses.start()
    try:
        for name in (*(f"refused-{number}" for number in range(20)), "honest"):
            cache.note(Kind.LIMIT, examples.document(name))
            statuses.update(READY, _limit(cache, name))
        server.until(server.refused, 20)
        server.until(server.written, 1)
    finally:
        held.end()
        statuses.close()
    assert server.written == ["honest"]


def test_a_status_that_is_not_found_is_written_once_the_limit_is_found_again() -> None:
    """A server whose kinds are not there yet, or a webhook, says so of limits that are there; nothing is given up."""

    class Starting(Server):
        def request(self, method: str, path: str, **options: Any) -> client.Object:
            if not self.release.is_set():
                self._note(self.refused, path)
                raise client.RefusedError(404, "NotFound", "the server could not find the requested resource")
            return super().request(method, path, **options)

    cache = Cache()
    server, metrics = Starting(cache), Metrics()
    held = fence.Fence(1, fence.boot_clock() + 600)
    writer = Writer(server, held, TokenBucket(10_000, 10_000), metrics)
    looks = itertools.count()  # time goes on with each look at the clock
    statuses = StatusWriter(server, writer, cache, metrics, Correlator(), Clock(lambda: next(looks) * 0.05))
    statuses.start()
    try:
        cache.note(Kind.LIMIT, examples.document("honest"))
        statuses.update(READY, _limit(cache, "honest"))
        server.until(server.refused, 1)
        server.release.set()
        cache.note(Kind.LIMIT, examples.document("other"))
        statuses.update(READY, _limit(cache, "other"))
        server.until(server.written, 2)
    finally:
        held.end()
        statuses.close()
    assert sorted(server.written) == ["honest", "other"]
