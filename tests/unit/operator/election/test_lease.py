"""The Lease with whatever stands in it, over an API server that keeps one object in cache."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import pytest

from bandwidth_api.crds import slices
from bandwidth_kube import client
from bandwidth_operator.election import lease
from bandwidth_operator.election.lease import Lease

START = datetime.datetime(2027, 1, 15, 8, 0, tzinfo=datetime.UTC)


class Server(client.Client):
    """One Lease, conditional on its resource version."""

    def __init__(self, now: list[float]) -> None:
        self._now = now
        self.version = 100
        self.record: dict[str, Any] | None = None

    def write(self, spec: Any) -> None:
        """As kubectl edit does."""
        self.version += 1
        time = (START + datetime.timedelta(seconds=int(self._now[0]))).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = {"name": lease.NAME, "resourceVersion": str(self.version), "creationTimestamp": time}
        self.record = {"metadata": metadata, "spec": spec}

    def request(self, method: str, path: str, **options: Any) -> client.Object:
        body = copy.deepcopy(options.get("body"))
        if options.get("query") == {"dryRun": "All"}:
            tried = Server(self._now)
            tried.write({})
            return dict(tried.record or {})
        if method == "POST":
            self.write(body["spec"])
        elif self.record is None:
            raise client.RefusedError(404, "NotFound", "")
        elif method == "PUT":
            if body["metadata"]["resourceVersion"] != self.record["metadata"]["resourceVersion"]:
                raise client.RefusedError(409, "Conflict", "")
            spec = body["spec"]
            assert 0 <= spec["leaseTransitions"] < 2**31  # what a real one accepts
            assert spec["leaseDurationSeconds"] > 0
            self.write(spec)
        assert self.record is not None
        return copy.deepcopy(self.record)


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def server(now: list[float]) -> Server:
    return Server(now)


def replica(server: Server, now: list[float], name: str = "one", **options: Any) -> Lease:
    return Lease(server, "ns", f"{name}_00000000", lambda: now[0], **options)


def leads_after(held: Lease, now: list[float], seconds: float) -> bool:
    """Whether it leads within so long, turned every second."""
    until = now[0] + seconds
    while now[0] < until and held.turn() is None:
        now[0] += 1.0
    return held.fence is not None


@pytest.mark.parametrize(
    "last", [None, -5, 0, "7", 2.5, True, slices.TERM_MAX - 1, slices.TERM_MAX, 2**31 - 2, 2**31 - 1, 2**62]
)
def test_any_count_of_leaders_is_taken_over(server: Server, now: list[float], last: Any) -> None:
    """A count that no leaders can have reached is begun again; the next one goes on from there."""
    server.write({"holderIdentity": "", "leaseTransitions": last})
    first = replica(server, now)
    assert first.turn() is not None
    term = first.fence.term if first.fence else 0
    assert 1 <= term < slices.TERM_MAX
    first.release()
    second = replica(server, now, "two")
    assert second.turn() is not None
    assert second.fence is not None
    assert second.fence.term == term + 1


@pytest.mark.parametrize("spec", [None, {}, [], {"holderIdentity": None}, {"holderIdentity": ""}])
def test_a_record_without_a_holder_is_free(server: Server, now: list[float], spec: Any) -> None:
    """Whatever else is missing in it."""
    server.write(spec)
    assert replica(server, now).turn() is not None


@pytest.mark.parametrize("seconds", [None, 0, -1, 1, 12, 2**31 - 1, 10**30, "12", 1e300])
@pytest.mark.parametrize("renewed", ["9999-12-31T23:59:59.000000Z", "1970-01-01T00:00:00.000000Z", "odd", None])
def test_no_record_of_a_holder_that_is_no_more_keeps_everybody_away(
    server: Server, now: list[float], seconds: Any, renewed: Any
) -> None:
    """By our own clock, and within half a minute; never before a holder of any version has missed several renewals."""
    server.write({"holderIdentity": "gone_1", "leaseDurationSeconds": seconds, "renewTime": renewed})
    held = replica(server, now)
    assert not leads_after(held, now, lease.DURATION_SECONDS)
    assert leads_after(held, now, lease.LONGEST_SECONDS + 2)


def test_a_retirement_keeps_operators_away_for_as_long_as_it_was_asked_to(server: Server, now: list[float]) -> None:
    """But not for ever."""
    retiring = replica(server, now, lease.RETIRE, duration_seconds=600)
    assert retiring.turn() is not None
    held = replica(server, now)
    assert not leads_after(held, now, 590)
    assert leads_after(held, now, 15)
    server.write({"holderIdentity": f"{lease.RETIRE}_1", "leaseDurationSeconds": 2**31 - 1})
    assert not leads_after(other := replica(server, now, "two"), now, lease.LONGEST_RETIRE_SECONDS - 10)
    assert leads_after(other, now, 15)


def test_what_somebody_else_wrote_into_our_record_does_not_stay(server: Server, now: list[float]) -> None:
    """A renewal writes all of it."""
    held = replica(server, now)
    held.turn()
    assert server.record is not None
    server.write(server.record["spec"] | {"leaseDurationSeconds": 1, "leaseTransitions": 9, "strategy": "x"})
    now[0] += 2.5
    assert held.turn() is not None
    spec = server.record["spec"]
    assert (spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (lease.DURATION_SECONDS, 1)
    assert "strategy" not in spec


def test_a_server_that_goes_back_is_noticed_at_the_next_renewal(server: Server, now: list[float]) -> None:
    """By its version, by a record of ours that is not the one we wrote last, or by one that was never made."""
    held = replica(server, now)
    held.turn()
    backup, version = copy.deepcopy(server.record), server.version
    for _ in range(5):
        now[0] += 2.5
        held.turn()
    assert not held.went_back.is_set()
    server.record, server.version = copy.deepcopy(backup), version
    assert held.turn() is not None
    assert held.went_back.is_set()
    held.went_back.clear()
    now[0] += 2.5
    held.turn()
    assert not held.went_back.is_set()
    assert backup is not None
    server.version += 50  # others wrote much since the restore
    server.write(backup["spec"])
    assert held.turn() is not None
    assert held.went_back.is_set()
    held.went_back.clear()
    server.record, server.version = None, 7
    before = held.fence
    assert held.turn() is not before
    assert before is not None
    assert not before.open
    assert held.went_back.is_set()


def test_the_servers_time_is_known_from_what_it_dates(server: Server, now: list[float]) -> None:
    """Whatever our own clock says, and for as long as this process lives."""
    held = replica(server, now)
    assert held.server_time() is None
    held.ask_server_time()
    now[0] += 1.5
    assert held.server_time() == START.timestamp() + 1001.5


def test_no_term_of_a_slice_that_can_be_none_is_taken(server: Server, now: list[float]) -> None:
    """One that can be is passed by one."""
    held = replica(server, now)
    held.turn()
    for term in (2**62, slices.TERM_MAX):
        held.at_least(term)
        assert held.fence is not None
        assert held.fence.term == 1
    held.at_least(41)
    assert held.fence is not None
    assert held.fence.term == 42
    assert server.record is not None
    assert server.record["spec"]["leaseTransitions"] == 42
    assert not held.went_back.is_set()
