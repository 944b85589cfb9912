"""What limits say after the end of an installation, and that nothing goes wrong when they cannot be told."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.election import lease, writer
from bandwidth_operator.election.fence import LeadershipLostError
from bandwidth_operator.retire.retired_statuses import Left, RetiredStatuses
from bandwidth_operator.status import limit_status
from bandwidth_operator.status.rollup import Outcome
from unit.operator import examples

LIMITS = Kind.LIMIT.path
LATER = examples.NOW + 60
ADVICE = "an operator that is installed again puts it in force"


def written(**fields: Any) -> dict[str, Any]:
    """The status that an operator wrote of a limit that is in force on three nodes, but for these fields."""
    return limit_status.status(outcome(**fields), examples.limit("a"), examples.NOW)


def outcome(**fields: Any) -> Outcome:
    whole: dict[str, Any] = {"entry": examples.entry("a"), "published": True, "desired": 3, "programmed": 3}
    return Outcome(**whole | fields)


def conditions(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["type"]: c for c in status["conditions"]}


# ── what a limit says then ─────────────────────────────────────────────────────────────────────────────────────


def test_a_limit_in_force_is_retired() -> None:
    """Programmed and Ready become False now, with what to do; nodes are zeros; the rest stays as it was."""
    before = written()
    change = limit_status.retired(before, 0, LATER)
    assert change is not None
    assert set(change) == {"nodes", "conditions", "failingNodes"}
    assert change["nodes"] == {"desired": 0, "programmed": 0, "failed": 0}
    was, now = conditions(before), conditions(change)
    for kind in ("Programmed", "Ready"):
        assert (now[kind]["status"], now[kind]["reason"]) == ("False", "Retired")
        assert now[kind]["message"] == f"bandwidth-operator retire had every node remove it; {ADVICE}"
        assert now[kind]["observedGeneration"] == was[kind]["observedGeneration"]
        assert now[kind]["lastTransitionTime"] > was[kind]["lastTransitionTime"]
    assert {k: c for k, c in now.items() if k in ("Accepted", "Conflicted")} == {
        k: was[k] for k in ("Accepted", "Conflicted")
    }


@pytest.mark.parametrize(
    ("missing", "words"),
    [(1, "but for one node that could not be reached;"), (2, "but for 2 nodes that could not be reached;")],
)
def test_nodes_that_were_missing_are_counted(missing: int, words: str) -> None:
    """The message does not claim more than is known."""
    change = limit_status.retired(written(), missing, LATER)
    assert change is not None
    assert f"every node remove it {words} {ADVICE}" in conditions(change)["Ready"]["message"]


def test_what_was_accepted_before_is_retired_too() -> None:
    """A limit whose earlier version was in force claims Programmed; that its spec is broken stays said."""
    before = written(rejected=(Problem(Reason.INVALID, "bad", "spec.clients"),))
    assert conditions(before)["Programmed"]["status"] == "True"
    change = limit_status.retired(before, 0, LATER)
    assert change is not None
    now = conditions(change)
    assert (now["Ready"]["reason"], now["Programmed"]["reason"]) == ("Retired", "Retired")
    assert (now["Accepted"], now["Stalled"]) == (conditions(before)["Accepted"], conditions(before)["Stalled"])


@pytest.mark.parametrize("reason", ["KernelRefused", "NodeNotReporting"])
def test_a_limit_that_failed_on_nodes_is_retired_too(reason: str) -> None:
    """Whatever became of it on nodes, and if the operator saw them retire, is over."""
    before = written(programmed=2, failed=1, failing=(Problem(Reason(reason), "why", name="n0"),))
    assert conditions(before)["Ready"]["reason"] == reason
    change = limit_status.retired(before, 0, LATER)
    assert change is not None
    assert conditions(change)["Ready"]["reason"] == "Retired"
    assert change["nodes"] == {"desired": 0, "programmed": 0, "failed": 0}
    assert change["failingNodes"] is None


def test_a_limit_that_claims_nothing_stays_untouched() -> None:
    """Invalid, not looked at yet, retired already: none of these becomes untrue."""
    invalid = written(entry=None, rejected=(Problem(Reason.INVALID, "bad", "spec.clients"),), desired=0, programmed=0)
    pending = {"observedGeneration": 0, "conditions": [{"type": "Ready", "status": "Unknown", "reason": "Pending"}]}
    for status in ({}, invalid, pending, written() | (limit_status.retired(written(), 0, LATER) or {})):
        assert limit_status.retired(status, 0, LATER) is None


def test_a_later_operator_writes_another_status() -> None:
    """The outcome of a leader over a retired status differs from it, so that it is written as any other."""
    change = limit_status.retired(written(), 0, LATER)
    assert change is not None
    retired = {key: value for key, value in (written() | change).items() if value is not None}
    limit = dataclasses.replace(examples.limit("a"), status=retired)
    again = limit_status.status(outcome(), limit, LATER + 60)
    assert again != retired
    assert conditions(again)["Ready"]["status"] == "True"
    assert again["nodes"]["programmed"] == 3


# ── telling them ───────────────────────────────────────────────────────────────────────────────────────────────


class Api(client.Client):
    """Limits and one Lease, as an API server keeps them. `before` sees each request and may raise."""

    def __init__(self, count: int = 1) -> None:
        self.objects: dict[str, client.Object] = {}
        self.writes: list[str] = []
        self.before: Callable[[str, str], object] = lambda method, path: None
        self._guard = threading.RLock()
        self._version = 1000
        for number in range(count):
            item = examples.document(f"limit-{number:03}")
            self._put(f"{LIMITS}/limit-{number:03}", item | {"status": written()})

    def request(self, method: str, path: str, **options: Any) -> client.Object:
        path, _, query = path.partition("?")
        self.before(method, path)
        with self._guard:
            if path == LIMITS:
                items = [item for key, item in sorted(self.objects.items()) if key.startswith(f"{LIMITS}/")]
                return json.loads(json.dumps({"metadata": {"resourceVersion": "1"}, "items": items}))  # type: ignore[no-any-return]
            body = options.get("body") or {}
            if method == "POST":
                return self._put(f"{path}/{body['metadata']['name']}", body)
            key = path.removesuffix("/status")
            found = self.objects.get(key)
            if found is None:
                raise client.RefusedError(404, "NotFound", key)
            if method == "GET":
                return json.loads(json.dumps(found))  # type: ignore[no-any-return]
            if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
                raise client.RefusedError(409, "Conflict", key)
            if method == "PUT":
                return self._put(key, body)
            assert (method, options["content_type"]) == ("PATCH", client.MERGE_PATCH)
            assert query == f"fieldManager={writer.FIELD_MANAGER}"
            self.writes.append(key)
            status = {k: v for k, v in (found["status"] | body["status"]).items() if v is not None}
            return self._put(key, found | {"status": status})

    def touch(self, name: str) -> None:
        """Another program writes a limit."""
        with self._guard:
            self._put(f"{LIMITS}/{name}", self.objects[f"{LIMITS}/{name}"])

    def retired(self) -> list[str]:
        """The limits that say so."""
        return [
            key.rpartition("/")[2]
            for key, item in sorted(self.objects.items())
            if key.startswith(LIMITS) and conditions(item["status"])["Ready"]["reason"] == "Retired"
        ]

    def _put(self, key: str, item: client.Object) -> client.Object:
        with self._guard:
            self._version += 1
            metadata = dict(item["metadata"]) | {"resourceVersion": str(self._version)}
            self.objects[key] = dict(item) | {"metadata": metadata}
            return json.loads(json.dumps(self.objects[key]))  # type: ignore[no-any-return]


def withdraw(api: Api, held: lease.Lease | None = None, *, seconds: float = 60.0) -> Left:
    held = held or lease.Lease(api, "client-bandwidth", "retire_1")
    held.seize()
    assert held.fence is not None
    return RetiredStatuses(api, held, held.fence, 10_000.0, lambda text: None).carry_out(0, time.monotonic() + seconds)


def refusing(status: int, times: int, *, name: str = "limit-000") -> Callable[[str, str], object]:
    """Refuses so many writes of one limit."""
    left = [times]

    def before(method: str, path: str) -> None:
        if method == "PATCH" and f"/{name}/" in path and left[0] > 0:
            left[0] -= 1
            raise client.RefusedError(status, "Trouble", "said no")

    return before


def test_all_limits_are_told_once() -> None:
    """Every limit that claims to be in force is written once, and a second time none is."""
    api = Api(20)
    assert withdraw(api) == Left(0, "")
    assert len(api.retired()) == len(api.writes) == 20
    assert withdraw(api) == Left(0, "")
    assert len(api.writes) == 20


def test_a_limit_that_was_written_meanwhile_is_looked_at_again() -> None:
    """A conflict is no trouble, and a limit that is gone needs no status."""
    api = Api(3)

    def before(method: str, path: str) -> None:
        if (method, path) == ("PATCH", f"{LIMITS}/limit-000/status") and not touched:
            touched.append(path)
            api.touch("limit-000")
        if (method, path) == ("PATCH", f"{LIMITS}/limit-001/status"):
            api.objects.pop(f"{LIMITS}/limit-001", None)

    touched: list[str] = []
    api.before = before
    assert withdraw(api) == Left(0, "")
    assert api.retired() == ["limit-000", "limit-002"]


@pytest.mark.parametrize("status", [403, 409, 422])
def test_a_limit_that_cannot_be_told_is_counted(status: int) -> None:
    """What is refused for good is passed over; the others are told."""
    api = Api(10)
    api.before = refusing(status, 1000)
    left = withdraw(api)
    assert (left.limits, "said no" in left.why) == (1, True)
    assert len(api.retired()) == 9


def test_trouble_that_passes_is_waited_for() -> None:
    """A write that an overloaded server refused is tried again, while there is time."""
    api = Api(2)
    api.before = refusing(503, 1)
    assert withdraw(api) == Left(0, "")


def test_trouble_is_not_waited_for_beyond_the_end() -> None:
    """When the time is over the limits that could not be written are counted."""
    api = Api(2)
    held = lease.Lease(api, "client-bandwidth", "retire_1")
    held.seize()
    assert held.fence is not None
    now = [0.0]

    def before(method: str, path: str) -> None:
        if method == "PATCH" and "limit-001" in path:
            now[0] = 60.0
            raise client.RefusedError(503, "ServiceUnavailable", "busy")

    api.before = before
    work = RetiredStatuses(api, held, held.fence, 10_000.0, lambda text: None, lambda: now[0])
    assert work.carry_out(0, 60.0) == Left(1, "503 ServiceUnavailable: busy")
    assert api.retired() == ["limit-000"]


def test_without_time_nothing_is_written() -> None:
    """At the end of the time the rest is counted."""
    api = Api(10)
    assert withdraw(api, seconds=0.0) == Left(10, "there was no time left")
    assert api.writes == []


def test_a_list_that_fails_is_no_more_than_said() -> None:
    """The number of limits that claim what is over is then not known."""
    api = Api(1)

    def before(method: str, path: str) -> None:
        if path == LIMITS:
            raise client.UnreachableError("no answer")

    api.before = before
    assert withdraw(api, seconds=0.0) == Left(None, "no answer")


def test_nothing_is_written_once_the_lease_is_lost() -> None:
    """Neither when another took it, which a renewal finds, nor when it may have run out."""
    api = Api(10)
    held = lease.Lease(api, "client-bandwidth", "retire_1")

    held.seize()
    assert held.fence is not None
    work = RetiredStatuses(api, held, held.fence, 10_000.0, lambda text: None)
    lease.Lease(api, "client-bandwidth", "operator_1").seize()
    with pytest.raises(LeadershipLostError):
        work.carry_out(0, time.monotonic() + 60)

    def ended(method: str, path: str) -> None:
        if path == LIMITS and held.fence is not None:
            held.fence.end()

    api.before = ended
    with pytest.raises(LeadershipLostError):
        withdraw(api, held)
    assert api.writes == []
