"""The reader of a collection before servers that no real API server is, and what it makes of a slice that changed."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from bandwidth_agent.source import cluster, cluster_reader
from bandwidth_agent.source.cluster_reader import Reading
from bandwidth_api import slices
from bandwidth_kube import client
from unit.agent.apis import Answer, Api, Request, refusal, serving

PATH = "/things"
Object = dict[str, Any]


def thing(name: str, version: int, value: int = 0) -> Object:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "value": value}


def listed(version: int, *items: Object, after: str = "") -> Answer:
    return Answer(body={"metadata": {"resourceVersion": str(version), "continue": after}, "items": list(items)})


def line(kind: str, item: object) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    return line("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


def stream(*lines: bytes) -> Answer:
    """A watch that brings these lines and ends in good order."""
    return Answer(lines=lines)


class Server:
    """Answers lists and watches one after the other; the last of each again and again. Watches hang at their end."""

    def __init__(self, lists: Iterable[Answer], watches: Iterable[Answer] = ()) -> None:
        self.lists = list(lists)
        self.watches = list(watches)
        self.closed = threading.Event()

    def __call__(self, request: Request) -> Answer:
        if "watch" not in request.query:
            return self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if self.watches:
            return self.watches.pop(0)
        return Answer(lines=self._hanging())

    def _hanging(self) -> Iterator[bytes]:
        self.closed.wait(60)
        yield from ()


class Heard:
    """What a reader told."""

    def __init__(self) -> None:
        self.readings: queue.Queue[dict[str, int]] = queue.Queue()
        self.troubles: list[client.ApiError] = []
        self.crashes: list[BaseException] = []
        self.lists = 0

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

    def tell(self, reading: Reading[int]) -> None:
        self.readings.put(dict(reading.items))

    def next(self) -> dict[str, int]:
        return self.readings.get(timeout=20.0)


class Scene:
    """A reader before a server."""

    def __init__(self, server: Server, api: Api, decode: Callable[[Object, int | None], int]) -> None:
        self.api = api
        self.heard = Heard()
        what = cluster_reader.Collection(name="things", path=PATH, decode=decode)
        self.reader = cluster_reader.Reader(api.client, what, self.heard.tell, self.heard)

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline, (self.heard.troubles, self.heard.crashes)
            time.sleep(0.01)


def _value(item: Object, _before: int | None) -> int:
    return int(item["value"])


@pytest.fixture
def before(request: pytest.FixtureRequest) -> Iterator[Callable[..., Scene]]:
    """Starts a reader before a server; both have ended afterwards."""
    ends: list[Callable[[], None]] = []

    def start(server: Server, decode: Callable[[Object, int | None], int] = _value) -> Scene:
        context = serving(server)
        scene = Scene(server, context.__enter__(), decode)
        ends.extend((scene.reader.stop, server.closed.set, lambda: context.__exit__(None, None, None)))
        scene.reader.start()
        return scene

    yield start
    for end in ends:
        end()


def test_events_change_one_object_each(before: Callable[..., Scene]) -> None:
    """Added, modified, deleted; a bookmark changes nothing, nor does an event that says nothing new."""
    watch = stream(
        line("ADDED", thing("b", 11, 2)),
        bookmark(12),
        line("MODIFIED", thing("a", 13, 1)),
        line("MODIFIED", thing("a", 14, 5)),
        line("DELETED", thing("nobody", 15)),
        line("DELETED", thing("b", 16, 2)),
    )
    scene = before(Server([listed(10, thing("a", 9, 1))], [watch]))
    told = [scene.heard.next() for _ in range(4)]
    assert told == [{"a": 1}, {"a": 1, "b": 2}, {"a": 5, "b": 2}, {"a": 5}]
    again = scene.api.next("GET", "resourceVersion=16")
    assert again.query["allowWatchBookmarks"] == "true"
    assert 40 <= int(again.query["timeoutSeconds"]) <= 50
    assert (scene.heard.lists, scene.heard.troubles) == (1, [])


def test_pages_of_two_versions_are_no_list(before: Callable[..., Scene]) -> None:
    """They were not true at the same time; the list is begun again."""
    pages = [listed(10, thing("a", 9, 1), after="t"), listed(11, thing("b", 9, 1)), listed(12, thing("c", 9, 1))]
    scene = before(Server(pages))
    assert scene.heard.next() == {"c": 1}
    assert [getattr(each, "status", None) for each in scene.heard.troubles] == [410]
    later = [r.query for r in scene.api.requests if "continue" in r.query]
    assert all("resourceVersion" not in query for query in later)


@pytest.mark.parametrize(
    "broken",
    [
        Answer(body={"items": []}),
        Answer(body={"metadata": {}, "items": [thing("x", 1)]}),
        Answer(500, {"not": "a status"}),
        refusal(503, "ServiceUnavailable"),
        Answer(lines=(b"[1, 2]",)),
        Answer(lines=(b"<html>proxy</html>",)),
    ],
)
def test_what_is_no_list_is_asked_for_again(before: Callable[..., Scene], broken: Answer) -> None:
    """An answer without a version, an error, or something else altogether."""
    scene = before(Server([broken, listed(10, thing("a", 9, 1))]))
    assert scene.heard.next() == {"a": 1}
    assert len(scene.heard.troubles) == 1


@pytest.mark.parametrize(
    "broken",
    [
        b"<html>proxy</html>\n",
        b"[]\n",
        b"{}\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"ADDED","object":"text"}\n',
        b'{"type":"ERROR","object":"text"}\n',
        b'{"type":"ERROR"}\n',
        b'{"type":"ERROR","object":{"code":"many"}}\n',
        b"\xff\xfe\n",
    ],
)
def test_what_is_no_event_ends_the_watch(before: Callable[..., Scene], broken: bytes) -> None:
    """Nothing is taken from it, and what came before it stays."""
    scene = before(Server([listed(10, thing("a", 9, 1))], [stream(line("ADDED", thing("b", 11, 2)), broken)]))
    assert scene.heard.next() == {"a": 1}
    assert scene.heard.next() == {"a": 1, "b": 2}
    scene.api.next("GET", "watch=true")
    scene.api.next("GET", PATH)
    scene.wait(lambda: len(scene.heard.troubles) == 1)
    assert scene.heard.crashes == []


def test_watches_that_end_at_once_are_no_storm(before: Callable[..., Scene]) -> None:
    """A proxy that ends every stream is asked ever more rarely."""
    scene = before(Server([listed(10, thing("a", 9, 1))], [stream()] * 50))
    assert scene.heard.next() == {"a": 1}
    scene.wait(lambda: len(scene.heard.troubles) >= 3)
    began, seen = time.monotonic(), len(scene.api.requests)
    scene.wait(lambda: len(scene.heard.troubles) >= 5)
    assert time.monotonic() - began >= 2 * cluster_reader.SPREAD
    assert len(scene.api.requests) - seen <= 3


def test_a_server_that_goes_back_in_time_is_listed_anew(before: Callable[..., Scene]) -> None:
    """A bookmark before what was seen: the cluster was restored, and only a new list says what there is."""
    scene = before(Server([listed(10, thing("a", 9, 1)), listed(5, thing("b", 4, 2))], [stream(bookmark(5))]))
    assert scene.heard.next() == {"a": 1}
    assert scene.heard.next() == {"b": 2}
    assert [r.query["resourceVersion"] for r in scene.api.requests if "watch" not in r.query] == ["0", "0"]


def test_an_error_of_the_thread_is_told(before: Callable[..., Scene]) -> None:
    """A bug in what decodes must end the process, and not only the reading."""

    def broken(item: Object, _before: int | None) -> int:
        raise ZeroDivisionError

    scene = before(Server([listed(10, thing("a", 9, 1))]), broken)
    scene.wait(lambda: bool(scene.heard.crashes))
    assert isinstance(scene.heard.crashes[0], ZeroDivisionError)


def test_pauses_grow_and_differ() -> None:
    """Ever longer up to a limit, and not the same for every node."""
    for failures in range(1, 40):
        longest = min(cluster_reader.BACKOFF_SECONDS * 2 ** (failures - 1), cluster_reader.BACKOFF_MAX_SECONDS)
        found = [cluster_reader.backoff(failures) for _ in range(50)]
        assert all(cluster_reader.SPREAD * longest <= each <= longest for each in found)
        assert len(set(found)) > 10


def test_entries_that_did_not_change_stay_the_same_objects() -> None:
    """By that the pass over 10,000 limits sees which one of them changed."""

    def of(*rates: int) -> Object:
        entries = [
            {"name": f"limit-{n}", "clients": [f"203.0.113.{n}"], "rate": rate, "created": 1}
            for n, rate in enumerate(rates, 1)
        ]
        return {"metadata": {"name": "plan-00000"}, "spec": {"schema": 1, "term": 0, "entries": entries}}

    first = cluster.decoded(of(5, 6, 7), None)
    same = cluster.decoded(of(5, 6, 7), first)
    edited = cluster.decoded(of(5, 8, 7), first)
    assert isinstance(first, slices.Slice)
    assert isinstance(same, slices.Slice)
    assert isinstance(edited, slices.Slice)
    assert same.entries is first.entries
    assert [now is then for now, then in zip(edited.entries, first.entries, strict=True)] == [True, False, True]
    assert edited == slices.read(of(5, 8, 7))
    assert isinstance(cluster.decoded({"metadata": {"name": "plan-00000"}}, first), slices.Unreadable)
