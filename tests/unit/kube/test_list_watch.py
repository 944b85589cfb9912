"""The reader of a collection before servers that no real API server is, and what it makes of a slice that changed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from bandwidth_agent.limits.cluster import plan_source
from bandwidth_api.crds import slices
from bandwidth_kube import client, collection, list_watch
from bandwidth_kube.collection import Reading
from unit.clock import Clock
from unit.kube.apis import Answer, Api, Request, refusal

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


def _value(item: Object, _before: int | None) -> int:
    return int(item["value"])


class Server:
    """Answers lists and watches one after the other; the last list again and again, the last watch ends the scene."""

    def __init__(self, lists: Iterable[Answer], watches: Iterable[Answer] = ()) -> None:
        self.lists = list(lists)
        self.watches = list(watches)
        self.end: Callable[[], None]

    def __call__(self, request: Request) -> Answer:
        if "watch" not in request.query:
            return self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if self.watches:
            return self.watches.pop(0)
        self.end()
        return stream()


class Heard:
    """What a reader told, and for each trouble when that was and how many requests there had been."""

    def __init__(self, clock: Clock, requests: list[Request]) -> None:
        self._clock = clock
        self._requests = requests
        self.readings: list[dict[str, int]] = []
        self.troubles: list[client.ApiError] = []
        self.troubled_at: list[tuple[float, int]] = []
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
        self.troubled_at.append((self._clock.now, len(self._requests)))

    def crashed(self, name: str, error: BaseException) -> None:
        self.crashes.append(error)

    def tell(self, reading: Reading[int]) -> None:
        self.readings.append(dict(reading.items))

    def next(self) -> dict[str, int]:
        return self.readings.pop(0)


class Scene:
    """A reader before a server, until that has nothing more to say, or after so many troubles."""

    def __init__(
        self,
        server: Server,
        *,
        decode: Callable[[Object, int | None], int] = _value,
        clock: Clock | None = None,
        troubles: int = 100,
        **options: Any,
    ) -> None:
        self.api = Api(server)
        self.clock = clock or Clock()
        self.heard = Heard(self.clock, self.api.requests)
        self._troubles = troubles
        what = collection.Collection(name="things", path=PATH, decode=decode, **options)
        self.reader = list_watch.Reader(
            self.api.client, what, self.heard.tell, self.heard, monotonic=self.clock, wait=self._wait
        )
        server.end = self.reader.stop
        self.reader.run()

    def _wait(self, seconds: float) -> bool:
        if len(self.heard.troubles) >= self._troubles:
            self.reader.stop()
            return True
        self.clock.now += seconds
        return False


def test_events_change_one_object_each() -> None:
    """Added, modified, deleted; a bookmark changes nothing, nor does an event that says nothing new."""
    watch = stream(
        line("ADDED", thing("b", 11, 2)),
        bookmark(12),
        line("MODIFIED", thing("a", 13, 1)),
        line("MODIFIED", thing("a", 14, 5)),
        line("DELETED", thing("nobody", 15)),
        line("DELETED", thing("b", 16, 2)),
    )
    scene = Scene(Server([listed(10, thing("a", 9, 1))], [watch]))
    told = [scene.heard.next() for _ in range(4)]
    assert told == [{"a": 1}, {"a": 1, "b": 2}, {"a": 5, "b": 2}, {"a": 5}]
    again = scene.api.next("GET", "resourceVersion=16")
    assert again.query["allowWatchBookmarks"] == "true"
    assert 40 <= int(again.query["timeoutSeconds"]) <= 50
    assert (scene.heard.lists, scene.heard.troubles) == (1, [])


def test_no_more_than_so_many_objects_are_kept() -> None:
    """Of a million the first ones are; another one is passed over, and when the watch ends all is listed again."""
    pages = [listed(10, *(thing(f"n{n}", 9, n) for n in range(3)), after="t"), listed(20, thing("late", 19, 7))]
    watch = stream(line("ADDED", thing("more", 11, 1)), line("MODIFIED", thing("n1", 12, 5)), bookmark(13))
    scene = Scene(Server(pages, [watch]), most=2)
    told = [scene.heard.next() for _ in range(3)]
    assert told == [{"n0": 0, "n1": 1}, {"n0": 0, "n1": 5}, {"late": 7}]
    assert scene.heard.troubles == []
    assert not [r for r in scene.api.requests if "continue" in r.query]


def test_as_many_as_are_kept_are_a_whole_list() -> None:
    """A collection that fits is followed as any other: one list, however often the watch ends."""
    lists = [listed(10, thing("a", 9, 1), thing("b", 9, 2))]
    scene = Scene(Server(lists, [stream(bookmark(11)), stream(line("MODIFIED", thing("b", 12, 3)))]), most=2)
    assert scene.heard.lists == 1
    assert scene.heard.readings[-1] == {"a": 1, "b": 3}


def test_a_kind_that_is_missing_is_asked_for_rarely() -> None:
    """Where a kind may be missing for long it is asked for once a minute; else after seconds."""
    rare = Scene(Server([refusal(404, "NotFound")]), troubles=5, absent_seconds=60.0)
    pauses = [b[0] - a[0] for a, b in itertools.pairwise(rare.heard.troubled_at)]
    assert all(12.0 <= pause <= 60.0 for pause in pauses)
    usual = Scene(Server([refusal(404, "NotFound")]), troubles=5)
    assert all(b[0] - a[0] <= 11.0 for a, b in itertools.pairwise(usual.heard.troubled_at))


def test_pages_of_two_versions_are_no_list() -> None:
    """They were not true at the same time; the list is begun again."""
    pages = [listed(10, thing("a", 9, 1), after="t"), listed(11, thing("b", 9, 1)), listed(12, thing("c", 9, 1))]
    scene = Scene(Server(pages))
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
        Answer(lines=(b"[" * 100_000,)),
        Answer(body={}),
        Answer(body={"metadata": {"resourceVersion": "10"}}),
        Answer(body={"metadata": {"resourceVersion": "10"}, "items": [None]}),
        Answer(body={"metadata": {"resourceVersion": "10"}, "items": [{"value": 1}]}),
        Answer(body={"metadata": {"resourceVersion": "1" * 5000}, "items": []}),
        Answer(body={"metadata": {"resourceVersion": "10"}, "items": [{"metadata": {"name": "x"}, "value": "odd"}]}),
    ],
)
def test_what_is_no_list_is_asked_for_again(broken: Answer) -> None:
    """An answer without a version, an error, or something else altogether."""
    scene = Scene(Server([broken, listed(10, thing("a", 9, 1))]))
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
        line("WHAT", thing("b", 12, 7)),
        line("ADDED", None),
        line("ADDED", {}),
        line("ADDED", {"metadata": None}),
        line("ADDED", {"metadata": {"resourceVersion": "12"}, "value": 7}),
        line("MODIFIED", {"metadata": {"name": ["b"], "resourceVersion": "12"}, "value": 7}),
        line("DELETED", {"metadata": {"name": 7, "resourceVersion": "12"}}),
        line("BOOKMARK", {"metadata": {"resourceVersion": 12}}),
        line("BOOKMARK", {"metadata": {"resourceVersion": "1" * 5000}}),
        line("MODIFIED", {"metadata": {"name": "b", "resourceVersion": "1" * 5000}, "value": 7}),
        line("MODIFIED", {"metadata": {"name": "b", "resourceVersion": "12"}, "value": "odd"}),
    ],
)
def test_what_is_no_event_ends_the_watch(broken: bytes) -> None:
    """Nothing is taken from it, and what came before it stays."""
    scene = Scene(Server([listed(10, thing("a", 9, 1))], [stream(line("ADDED", thing("b", 11, 2)), broken)]))
    assert scene.heard.next() == {"a": 1}
    assert scene.heard.next() == {"a": 1, "b": 2}
    scene.api.next("GET", "watch=true")
    scene.api.next("GET", PATH)
    assert len(scene.heard.troubles) == 1
    assert scene.heard.crashes == []


def test_watches_that_end_at_once_are_no_storm() -> None:
    """A proxy that ends every stream is asked ever more rarely."""
    scene = Scene(Server([listed(10, thing("a", 9, 1))], [stream()] * 50))
    assert scene.heard.next() == {"a": 1}
    (began, seen), (ended, asked) = scene.heard.troubled_at[2], scene.heard.troubled_at[4]
    assert ended - began >= 2 * list_watch.SPREAD
    assert asked - seen <= 3


def _cut_after(seconds: float, clock: Clock) -> Iterator[bytes]:
    clock.now += seconds
    raise ConnectionResetError
    yield b""


def test_a_watch_that_is_cut_while_idle_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load balancer that cuts what it takes for idle, again and again: the pauses stay short, without a report."""
    monkeypatch.setattr(list_watch, "BACKOFF_MAX_SECONDS", 60.0)  # so that pauses that grow are seen
    pauses: list[int] = []
    growing = list_watch.backoff
    monkeypatch.setattr(list_watch, "backoff", lambda failures: pauses.append(failures) or growing(failures))
    cuts, clock = 8, Clock()
    watches = [Answer(lines=_cut_after(2 * list_watch.SHORT_SECONDS, clock)) for _ in range(cuts)]
    scene = Scene(Server([listed(10, thing("a", 9, 1))], [*watches, _last()]), clock=clock)
    assert [scene.heard.next(), scene.heard.next()] == [{"a": 1}, {"a": 1, "b": 2}]
    assert (pauses, scene.heard.troubles, scene.heard.lists) == ([1] * cuts, [], 1)


def _last() -> Answer:
    return stream(line("ADDED", thing("b", 11, 2)))


def test_watches_that_are_cut_at_once_are_no_storm() -> None:
    """What cuts every stream as soon as it has begun is asked ever more rarely."""
    clock = Clock()
    cut = [Answer(lines=_cut_after(0.0, clock)) for _ in range(50)]
    scene = Scene(Server([listed(10, thing("a", 9, 1))], cut), clock=clock, troubles=5)
    assert scene.heard.next() == {"a": 1}
    assert len(scene.heard.troubles) >= 5
    assert scene.reader._failures >= 5
    assert len(scene.api.requests) <= 8


def test_what_may_not_be_read_is_asked_for_rarely() -> None:
    """Where it is known to be possible that it is not allowed; an agent that is newer than its rights goes on."""
    what = collection.Collection(name="things", path=PATH, decode=_value, forbidden_seconds=600.0)
    api = Api(lambda _: refusal(403, "Forbidden"))
    heard = Heard(Clock(), api.requests)
    reader = list_watch.Reader(api.client, what, heard.tell, heard)
    with pytest.raises(client.RefusedError) as refused:
        reader.once()
    for _ in range(20):
        assert 120.0 <= reader._seconds_after(refused.value) <= 601.0


def test_a_server_that_goes_back_in_time_is_listed_anew() -> None:
    """A bookmark before what was seen: the cluster was restored, and only a new list says what there is."""
    scene = Scene(Server([listed(10, thing("a", 9, 1)), listed(5, thing("b", 4, 2))], [stream(bookmark(5))]))
    assert scene.heard.next() == {"a": 1}
    assert scene.heard.next() == {"b": 2}
    assert [r.query["resourceVersion"] for r in scene.api.requests if "watch" not in r.query] == ["0", "0"]


def test_an_error_of_the_thread_is_told() -> None:
    """A bug in what decodes must end the process, and not only the reading."""

    def broken(item: Object, _before: int | None) -> int:
        raise ZeroDivisionError

    scene = Scene(Server([listed(10, thing("a", 9, 1))]), decode=broken)
    assert isinstance(scene.heard.crashes[0], ZeroDivisionError)


def test_pauses_grow_and_differ() -> None:
    """Ever longer up to a limit, and not the same for every node."""
    for failures in range(1, 40):
        longest = min(list_watch.BACKOFF_SECONDS * 2 ** (failures - 1), list_watch.BACKOFF_MAX_SECONDS)
        found = [list_watch.backoff(failures) for _ in range(50)]
        assert all(list_watch.SPREAD * longest <= each <= longest for each in found)
        assert len(set(found)) > 10


def test_entries_that_did_not_change_stay_the_same_objects() -> None:
    """By that the pass over 10,000 limits sees which one of them changed."""

    def of(*rates: int) -> Object:
        entries = [
            {"name": f"limit-{n}", "clients": [f"203.0.113.{n}"], "rate": rate, "created": 1}
            for n, rate in enumerate(rates, 1)
        ]
        return {"metadata": {"name": "plan-00000"}, "spec": {"schema": 1, "term": 0, "entries": entries}}

    first = plan_source.decoded(of(5, 6, 7), None)
    same = plan_source.decoded(of(5, 6, 7), first)
    edited = plan_source.decoded(of(5, 8, 7), first)
    assert isinstance(first, slices.Slice)
    assert isinstance(same, slices.Slice)
    assert isinstance(edited, slices.Slice)
    assert same.entries is first.entries
    assert [now is then for now, then in zip(edited.entries, first.entries, strict=True)] == [True, False, True]
    assert edited == slices.read(of(5, 8, 7))
    assert isinstance(plan_source.decoded({"metadata": {"name": "plan-00000"}}, first), slices.Unreadable)
