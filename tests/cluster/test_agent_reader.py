"""The agent's reader before an API server that misbehaves: what it hands out, and what it never does.

The reader itself, without an agent around it, so that every single reading can be looked at.
"""

from __future__ import annotations

import pathlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from bandwidth_api.crds import slices
from bandwidth_kube import client, collection, connection, list_watch
from bandwidth_kube.collection import Reading
from bandwidth_lab.control_plane import ControlPlane
from bandwidth_lab.fault_proxy import FaultProxy
from cluster.world import GROUP, NAMESPACE, SLICES, Object, World

SECONDS = 30.0
MANY = 12
WATCH = "bandwidthplanslices?watch=true"


def plan_slice(number: int, rate: int = 5_000_000) -> Object:
    """A slice with one limit, named after it."""
    name = slices.slice_name(number)
    entry = {"name": f"limit-{number}", "clients": [f"203.0.113.{number}"], "rate": rate, "created": 1}
    return {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": slices.KIND,
        "metadata": {"name": name},
        "spec": {"schema": 1, "term": 0, "entries": [entry]},
    }


class Heard:
    """Everything that a reader reports, in its order."""

    def __init__(self) -> None:
        self.readings: queue.Queue[Reading[slices.Decoded]] = queue.Queue()
        self.all: list[Reading[slices.Decoded]] = []
        self.troubles: list[client.ApiError] = []
        self.lists = 0
        self.crashes: list[BaseException] = []
        self.decoded = 0

    def alive(self, name: str) -> None:
        pass

    def heard(self, name: str) -> None:
        pass

    def listed(self, name: str) -> None:
        self.lists += 1

    def trouble(self, name: str, error: client.ApiError) -> None:
        self.troubles.append(error)

    def crashed(self, name: str, error: BaseException) -> None:
        self.crashes.append(error)

    def tell(self, reading: Reading[slices.Decoded]) -> None:
        self.all.append(reading)
        self.readings.put(reading)

    def decode(self, item: Object, _before: slices.Decoded | None) -> slices.Decoded:
        self.decoded += 1
        return slices.read(item)

    def until(self, rates: Mapping[int, int], seconds: float = SECONDS) -> Reading[slices.Decoded]:
        """The first reading that holds these slices and no others."""
        end = time.monotonic() + seconds
        last: Mapping[int, int] = {}
        while (left := end - time.monotonic()) > 0 and not self.crashes:
            try:
                reading = self.readings.get(timeout=left)
            except queue.Empty:
                break
            last = rates_of(reading)
            if last == rates:
                return reading
        raise AssertionError(f"not within {seconds} s: {rates}; last {last}; {self.troubles[-3:]} {self.crashes}")

    def until_trouble(self, status: int | None, seconds: float = SECONDS) -> None:
        """Wait for a failure with this status; None for one without an answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(getattr(each, "status", None) == status for each in list(self.troubles)):
                return
            time.sleep(0.02)
        raise AssertionError(f"no trouble {status} within {seconds} s; {self.troubles}")


def rates_of(reading: Reading[slices.Decoded]) -> dict[int, int]:
    """The rate of each slice's one limit, by the number of the slice."""
    return {
        slices.slice_number(name) or 0: item.entries[0].rate_bits_per_second
        for name, item in reading.items.items()
        if isinstance(item, slices.Slice)
    }


class Scene:
    """An API server behind a proxy, and a reader of its slices with the rights of an agent."""

    def __init__(self, world: World, proxy: FaultProxy) -> None:
        self.world = world
        self.proxy = proxy
        self.heard = Heard()
        self._stops: list[Callable[[], None]] = []

    def put(self, number: int, rate: int = 5_000_000) -> None:
        """Write one slice."""
        path = f"{SLICES}/{slices.slice_name(number)}"
        query = {"fieldManager": "test", "force": "true"}
        body = plan_slice(number, rate)
        self.world.api.request("PATCH", path, query=query, body=body, content_type=client.APPLY_PATCH)

    def until_watching(self, number: int = 1) -> None:
        """Wait until an edit has come through the watch, so that it is known to be open."""
        for rate in (5_500_000, 5_000_000):
            self.put(number, rate)
            self.world.wait(
                lambda rate=rate: bool(self.heard.all) and rates_of(self.heard.all[-1]).get(number) == rate,  # type: ignore[misc]
                "an edit comes through the watch",
            )

    def drop(self, number: int) -> None:
        self.world.api.request("DELETE", f"{SLICES}/{slices.slice_name(number)}")

    def start(
        self, *, not_older_than: str = "", kubeconfig: pathlib.Path | None = None, **patience: Any
    ) -> list_watch.Reader[slices.Decoded]:
        """A reader through the proxy, with the token of a node. `patience`: that of a Collection."""
        api = client.Client(connection.load(kubeconfig or self.kubeconfig()), "reader")
        what = collection.Collection(name="slices", path=SLICES, decode=self.heard.decode, **patience)
        reader = list_watch.Reader(api, what, self.heard.tell, self.heard, not_older_than=not_older_than)
        reader.start()
        self._stops += [reader.stop, api.close]
        return reader

    def kubeconfig(self) -> pathlib.Path:
        token = self.world.plane.agent_token(NAMESPACE, "client-bandwidth-agent", "node-0")
        return self.world.plane.kubeconfig("agent", token=token, server=self.proxy.server)

    def close(self) -> None:
        for stop in self._stops:
            stop()
        assert self.heard.crashes == []


@pytest.fixture
def scene(world: World, plane: ControlPlane) -> Iterator[Scene]:
    """Nothing is written yet, and no reader runs."""
    world.nodes("node-0")
    proxy = FaultProxy(plane.server, plane.directory / "certificates")
    made = Scene(world, proxy)
    try:
        yield made
    finally:
        made.close()
        proxy.close()


def of_slices(method: str, path: str) -> bool:
    return path.startswith(f"{GROUP}/bandwidthplanslices")


def lists(method: str, path: str) -> bool:
    return of_slices(method, path) and "watch=true" not in path


def watches(method: str, path: str) -> bool:
    return of_slices(method, path) and "watch=true" in path


# ── in good order ──────────────────────────────────────────────────────────────────────────────────────────────


def test_changes_arrive_and_only_what_changed_is_decoded(scene: Scene) -> None:
    """One list from the watch cache, then events; an object that did not change is decoded once."""
    for number in range(1, MANY + 1):
        scene.put(number)
    scene.start()
    whole = dict.fromkeys(range(1, MANY + 1), 5_000_000)
    scene.heard.until(whole)
    assert scene.heard.decoded == MANY
    scene.put(3, 6_000_000)
    scene.heard.until(whole | {3: 6_000_000})
    scene.drop(4)
    scene.heard.until({n: r for n, r in (whole | {3: 6_000_000}).items() if n != 4})
    assert scene.heard.decoded == MANY + 1
    assert scene.proxy.count("GET", "resourceVersion=0") == 1
    assert scene.heard.lists == 1


def test_a_watch_that_the_server_ends_goes_on_where_it_stood(scene: Scene) -> None:
    """In good order: no new list, and nothing is lost."""
    scene.put(1)
    scene.start(watch_seconds=3)
    scene.heard.until({1: 5_000_000})
    seen = scene.proxy.count("GET", WATCH)
    scene.world.wait(lambda: scene.proxy.count("GET", WATCH) >= seen + 2, "the watch is begun again", SECONDS)
    scene.put(1, 6_000_000)
    scene.heard.until({1: 6_000_000})
    assert scene.heard.lists == 1


# ── watches that break ─────────────────────────────────────────────────────────────────────────────────────────


def test_half_a_line_is_nothing(scene: Scene) -> None:
    """A watch cut again and again in the middle of a line: every edit arrives, whole, in order, without a new list."""
    scene.put(1)
    scene.start()
    scene.until_watching()
    scene.heard.all.clear()
    for rate in range(6_000_000, 16_000_000, 1_000_000):
        scene.proxy.cut()
        scene.put(1, rate)
        scene.heard.until({1: rate})
    assert scene.heard.lists == 1
    rates = [rates_of(each)[1] for each in scene.heard.all]
    assert rates == sorted(rates)


def test_after_410_a_new_list_shows_what_was_deleted(scene: Scene) -> None:
    """The list is no older than what was seen; what did not change is not decoded again."""
    scene.put(1)
    scene.put(2)
    scene.start()
    scene.heard.until({1: 5_000_000, 2: 5_000_000})
    scene.until_watching()
    decoded = scene.heard.decoded
    scene.proxy.end()
    scene.drop(2)
    scene.heard.until({1: 5_000_000})
    assert scene.heard.lists == 2
    assert scene.heard.decoded == decoded
    assert scene.proxy.count("GET", "NotOlderThan") == 1


def test_410_to_a_new_watch_is_the_same(scene: Scene) -> None:
    """The server may say so before a stream begins, too."""
    scene.put(1)
    scene.proxy.refuse(410, "Expired", watches)
    scene.start()
    scene.heard.until({1: 5_000_000})
    scene.heard.until({1: 5_000_000})
    assert scene.heard.lists == 2


def test_an_error_event_of_another_kind_leads_to_a_new_list(scene: Scene) -> None:
    """It is not known where a watch that ended by an error stood."""
    scene.put(1)
    scene.start()
    scene.until_watching()
    scene.proxy.end(500, "InternalError")
    scene.put(1, 6_000_000)
    scene.heard.until({1: 6_000_000})
    assert scene.heard.lists == 2


def test_a_frozen_watch_is_given_up(scene: Scene) -> None:
    """A stream that stays open and brings nothing, not even a bookmark, is not believed for longer than the reader's
    patience, which in an agent is less than a minute."""
    usual = collection.Collection(name="slices", path=SLICES, decode=scene.heard.decode)
    assert usual.watch_seconds < usual.silence_seconds < 60
    scene.put(1)
    scene.start(watch_seconds=10, silence_seconds=17.0)
    scene.until_watching()
    scene.proxy.freeze()
    scene.put(1, 6_000_000)
    scene.heard.until_trouble(None, 17.0 + SECONDS)
    scene.proxy.thaw()
    scene.heard.until({1: 6_000_000})
    assert scene.heard.lists == 1


# ── lists that break ───────────────────────────────────────────────────────────────────────────────────────────


def test_half_a_list_is_never_handed_out(scene: Scene) -> None:
    """Pages that break off, expire, or are refused: every reading is a whole one."""
    for number in range(1, MANY + 1):
        scene.put(number)
    whole = dict.fromkeys(range(1, MANY + 1), 5_000_000)
    scene.proxy.split(5)
    for status, reason in ((410, "Expired"), (500, "InternalError"), (429, "TooManyRequests")):
        scene.proxy.refuse(status, reason, lambda method, path: "continue=" in path)
    scene.start()
    scene.heard.until(whole)
    scene.until_watching(2)
    scene.proxy.refuse(410, "Expired", lambda method, path: "continue=" in path, times=2)
    scene.proxy.end()
    scene.drop(1)
    scene.heard.until({n: r for n, r in whole.items() if n != 1}, 60.0)
    assert {len(each.items) for each in scene.heard.all} == {MANY, MANY - 1}
    assert [getattr(each, "status", None) for each in scene.heard.troubles][:3] == [410, 500, 429]


# ── refusals ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(scene: Scene) -> None:
    """429 with Retry-After, to the list and to the watch: two requests for two refusals, not a storm of them."""
    scene.put(1)
    scene.proxy.refuse(429, "TooManyRequests", lists, times=1, retry_after_seconds=2)
    began = time.monotonic()
    scene.start()
    scene.heard.until({1: 5_000_000})
    assert time.monotonic() - began >= 2.0
    scene.until_watching()
    scene.proxy.refuse(429, "TooManyRequests", watches, times=1, retry_after_seconds=2)
    requests, began = len(scene.proxy.requests), time.monotonic()
    scene.proxy.cut()
    scene.put(1, 6_000_000)
    scene.heard.until({1: 6_000_000})
    assert time.monotonic() - began >= 2.0
    assert len(scene.proxy.requests) - requests <= 3
    assert scene.heard.lists == 1


def test_a_token_that_is_refused_is_read_again(scene: Scene) -> None:
    """After 401 the kubeconfig is read again, and the watch goes on from where it stood."""
    scene.put(1)
    path = scene.kubeconfig()
    good = path.read_text()
    path.write_text(good.replace('"token": "', '"token": "worth-nothing-'))
    scene.start(kubeconfig=path)
    scene.heard.until_trouble(401)
    path.write_text(good)
    scene.heard.until({1: 5_000_000})


def test_a_missing_kind_is_waited_for(scene: Scene) -> None:
    """404 for the whole collection, as before the CRDs are installed, is no end."""
    scene.put(1)
    scene.proxy.refuse(404, "NotFound", of_slices, times=3)
    scene.start()
    scene.heard.until({1: 5_000_000})
    assert [getattr(each, "status", None) for each in scene.heard.troubles] == [404, 404, 404]


# ── going back in time ─────────────────────────────────────────────────────────────────────────────────────────


def test_what_an_earlier_process_saw_is_not_gone_back_behind(scene: Scene) -> None:
    """The first list of a new process is no older than the plan on its disk."""
    scene.put(1)
    version = scene.world.get(f"{SLICES}/{slices.slice_name(1)}")["metadata"]["resourceVersion"]
    scene.start(not_older_than=version)
    scene.heard.until({1: 5_000_000})
    assert scene.proxy.count("GET", f"resourceVersion={version}&resourceVersionMatch=NotOlderThan") == 1


def test_a_history_that_does_not_reach_so_far_is_believed_in_the_end(scene: Scene) -> None:
    """Another cluster, or one restored from a backup: its plan counts, and the disk's version is forgotten."""
    scene.put(1)
    scene.start(not_older_than="9000000000")
    scene.heard.until({1: 5_000_000}, 60.0)
    scene.put(1, 6_000_000)
    scene.heard.until({1: 6_000_000})


def test_a_reader_that_is_told_to_stop_reads_no_more(scene: Scene) -> None:
    """After its stream ended; nothing waits for it."""
    scene.put(1)
    reader = scene.start()
    scene.heard.until({1: 5_000_000})
    reader.stop()
    scene.proxy.cut()
    scene.put(1, 6_000_000)
    scene.world.wait(lambda: not _alive("read slices"), "the thread ends", SECONDS)


def _alive(name: str) -> bool:
    return any(thread.name == name for thread in threading.enumerate())
