"""What stands in the cluster, or a server before it made of a list, is believed within bounds only."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bandwidth_api.crds import node_state
from bandwidth_kube import client
from bandwidth_lab.fault_proxy import FaultProxy
from cluster.world import EVENTS, LEASES, LIMITS, SLICES, STATES, Object, World, get, limit

LEASE = f"{LEASES}/client-bandwidth-operator"
POLICY = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "test-legal-hold"},
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": ["clientbandwidth.io"],
                    "apiVersions": ["*"],
                    "operations": ["UPDATE"],
                    "resources": ["clientbandwidthlimits/status"],
                }
            ]
        },
        "validations": [
            {"expression": "!object.metadata.name.startsWith('frozen')", "message": "frozen objects may not be changed"}
        ],
    },
}
BINDING = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicyBinding",
    "metadata": {"name": "test-legal-hold"},
    "spec": {"policyName": "test-legal-hold", "validationActions": ["Deny"]},
}
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"


@pytest.fixture
def legal_hold(world: World) -> Iterator[None]:
    """A policy of the administrator that refuses each status of limits called frozen-…, in force."""
    world.api.request("POST", POLICIES, body=POLICY)
    world.api.request("POST", BINDINGS, body=BINDING)
    world.create(limit("frozen-first", ["198.51.100.200"]))

    def refused() -> bool:
        body = {"status": {"observedGeneration": 1}}
        path = f"{LIMITS}/frozen-first/status"
        try:
            world.api.request("PATCH", path, query={"dryRun": "All"}, body=body, content_type=client.MERGE_PATCH)
        except client.RefusedError as error:
            return "frozen objects" in error.message
        return False

    world.wait(refused, "the policy is in force")
    yield
    world.api.request("DELETE", f"{BINDINGS}/test-legal-hold")
    world.api.request("DELETE", f"{POLICIES}/test-legal-hold")


def overwrite(world: World, path: str, **spec: Any) -> None:
    """Write a spec over whatever is there, at a moment when no other program does."""

    def written() -> bool:
        try:
            world.api.request("PUT", path, body=world.get(path) | {"spec": spec})
        except client.RefusedError as refused:
            if refused.status != 409:
                raise
            return False
        return True

    world.wait(written, f"{path} is written")


@pytest.mark.long
def test_no_number_in_the_lease_stops_all_operators(world: World) -> None:
    """The largest count of leaders, the longest duration, any time: limits are planned within half a minute."""
    operator = world.operator()
    agent = world.agent("node-0")
    records: list[Object] = [
        {"holderIdentity": "", "leaseTransitions": 2**31 - 1},
        {"holderIdentity": "x", "leaseDurationSeconds": 2**31 - 1, "leaseTransitions": 2**31 - 2},
        {"holderIdentity": "x", "renewTime": "9999-12-31T23:59:59.000000Z"},
        {},
    ]
    for number, record in enumerate(records):
        world.wait(lambda: world.holder().startswith("operator_"), "it leads")
        overwrite(world, LEASE, **record)
        world.create(limit(f"a{number}", [f"203.0.113.{number + 1}"]))
        world.wait(lambda number=number: f"a{number}" in agent.limits, f"a limit is planned after {record}", 75)  # type: ignore[misc]
    world.wait(lambda: 0 < world.get(LEASE)["spec"]["leaseTransitions"] < 1000, "leaders are counted from the start")
    assert operator.process.poll() is None


@pytest.mark.long
@pytest.mark.parametrize("restarted", [False, True])
def test_no_term_in_a_slice_stops_all_operators(world: World, restarted: bool) -> None:
    """Neither in the head nor in a slice, while an operator leads or before it begins; no limit is lifted by that."""
    operator = world.operator()
    agent = world.agent("node-0")
    world.create(limit("a"))
    world.wait_ready("a")
    if restarted:
        operator.stop()
    for name, term in (("plan", 2**62), ("plan-00000", 2**63 - 1)):
        path = f"{SLICES}/{name}"
        overwrite(world, path, **(world.get(path)["spec"] | {"term": term}))
    odd = {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "BandwidthPlanSlice",
        "metadata": {"name": "plan-00007"},
    }
    world.api.request("POST", SLICES, body=odd | {"spec": {"schema": 99, "term": 2**40, "entries": []}})
    if restarted:
        operator = world.operator("second")
    lifted = False

    def planned() -> bool:
        nonlocal lifted
        lifted = lifted or "a" not in agent.limits
        return agent.limits == {"a": 6_000_000, "b": 5_000_000}

    world.edit("a", egress={"rate": "6Mbit"})
    world.create(limit("b", ["203.0.113.8"]))
    world.wait(planned, "the edit and the new limit are on the node")
    assert not lifted
    world.wait_ready("a", "b")
    assert len(world.items(SLICES)) == 2
    for number in range(150):
        world.create(limit(f"c{number}", [f"10.0.0.{number}"]))
    world.wait(lambda: len(agent.limits) == 152, "the head is written too")
    assert {item["spec"]["term"] < 1000 for item in world.items(SLICES)} == {True}
    assert operator.log.count("leadership is lost") == 0


def _each(change: Callable[[Object], Any]) -> Callable[[Object], Object]:
    return lambda whole: whole | {"items": [change(item) for item in whole["items"]]}


def _without(item: Object, key: str) -> Object:
    return item | {"metadata": {k: v for k, v in item["metadata"].items() if k != key}}


ODD_LISTS: dict[str, Callable[[Object], object]] = {
    "items are null": lambda whole: whole | {"items": [None, *whole["items"]]},
    "items are numbers": lambda whole: whole | {"items": [1, *whole["items"]]},
    "items are no list": lambda whole: whole | {"items": {"a": 1}},
    "no items": lambda whole: {k: v for k, v in whole.items() if k != "items"} | {"metadata": {}},
    "objects without metadata": _each(lambda item: {k: v for k, v in item.items() if k != "metadata"}),
    "objects without version": _each(lambda item: _without(item, "resourceVersion")),
    "objects without name": _each(lambda item: _without(item, "name")),
    "objects without time of creation": _each(lambda item: _without(item, "creationTimestamp")),
    "versions that are no numbers": _each(lambda i: i | {"metadata": i["metadata"] | {"resourceVersion": "abc"}}),
    "versions as numbers": _each(lambda i: i | {"metadata": i["metadata"] | {"resourceVersion": 7}}),
    "a list without version": lambda whole: whole | {"metadata": {}},
    "a list whose version is no number": lambda whole: whole | {"metadata": {"resourceVersion": "abc"}},
    "all twice": lambda whole: whole | {"items": whole["items"] * 2},
    "spec and status null": _each(lambda item: item | {"spec": None, "status": None}),
    "spec and status of other types": _each(lambda item: item | {"spec": [1], "status": "x"}),
    "deep nesting": lambda whole: b'{"items":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no JSON": lambda whole: b"<html>please log in</html>",
}


@pytest.mark.long
def test_no_odd_list_ends_the_operator_or_lifts_a_limit(world: World, proxy: FaultProxy) -> None:
    """It goes on with what it knew, its threads live on, and all is well as soon as lists are as they should be."""
    agent = world.agent("node-0")
    operator = world.operator("operator", "--metrics-address", "127.0.0.1:0", server=proxy.server)
    world.create(limit("a"))
    world.wait_ready("a")
    port = re.findall(r'"port": (\d+)', operator.log)[0]
    for number, (what, change) in enumerate(ODD_LISTS.items()):
        asked = proxy.count("GET", "bandwidth")
        proxy.alter(lambda path, whole, change=change: change(whole) if "leases" not in path else whole)
        proxy.end()  # so that everything is listed
        world.edit("a", reason=what)
        world.wait(lambda asked=asked: proxy.count("GET", "bandwidth") - asked >= 6, f"lists are made: {what}")  # type: ignore[misc]
        assert agent.limits["a"] == 5_000_000, what
        assert operator.process.poll() is None, what
        proxy.alter(None)
        world.create(limit(f"b{number}", [f"203.0.113.{number + 10}"]))
        world.wait(lambda number=number: f"b{number}" in agent.limits, f"limits are planned again after: {what}")  # type: ignore[misc]
        assert get(port, "/healthz")[0] == 200
    assert len(agent.limits) == len(ODD_LISTS) + 1


@pytest.mark.long
def test_an_operator_that_begins_among_odd_lists(world: World, proxy: FaultProxy) -> None:
    """It lives, lifts nothing, and takes up its work when the lists are right."""
    agent = world.agent("node-0")
    first = world.operator("first")
    world.create(limit("a"))
    world.wait_ready("a")
    first.stop()
    for number, what in enumerate(("objects without metadata", "objects without time of creation", "no items")):
        change = ODD_LISTS[what]
        proxy.alter(lambda path, whole, change=change: change(whole) if "leases" not in path else whole)
        operator = world.operator(f"next{number}", server=proxy.server)
        world.wait(lambda number=number: world.holder().startswith(f"next{number}_"), "it leads")  # type: ignore[misc]
        asked = proxy.count("GET", "bandwidth")
        world.wait(lambda asked=asked: proxy.count("GET", "bandwidth") - asked >= 4, "lists are made")  # type: ignore[misc]
        assert agent.limits["a"] == 5_000_000, what
        proxy.alter(None)
        world.create(limit(f"b{number}", [f"203.0.113.{number + 10}"]))
        world.wait(lambda number=number: f"b{number}" in agent.limits, f"planned after: {what}")  # type: ignore[misc]
        assert operator.stop() == 0


@pytest.mark.long
@pytest.mark.parametrize("ahead_seconds", [-780, 7200])
def test_a_node_whose_clock_is_wrong_counts_by_ours(world: World, ahead_seconds: int) -> None:
    """It reports, so it counts as reporting, for an operator that starts too; when it stops, it is silent in time."""
    agent = world.agent("node-0", report_interval_seconds=4, clock_ahead_seconds=ahead_seconds)
    operator = world.operator()
    world.create(limit("a"))
    world.wait_ready("a")
    said = node_state.read(world.get(f"{STATES}/node-0"))
    assert isinstance(said, node_state.NodeState)
    operator.stop()
    world.operator("second")
    world.edit("a", egress={"rate": "6Mbit"})
    world.wait(lambda: world.in_force("a", 2), "the edit is in force")
    agent.stop()
    world.wait_ready("a", reason="NodeNotReporting", seconds=60)
    message = world.conditions("a")["Ready"]["message"]
    assert "node-0" in message
    assert "bandwidth-operator clean node-0" in message
    world.operators[-1].stop()
    world.operator("third")
    world.edit("a", egress={"rate": "7Mbit"})
    world.wait(lambda: world.conditions("a")["Ready"]["observedGeneration"] == 3, "the edit is seen")
    world.wait_ready("a", reason="NodeNotReporting", seconds=15)  # not as late as if it had reported just now


@pytest.mark.long
def test_states_that_are_deleted_change_no_status_and_no_rate(world: World) -> None:
    """The nodes are there and do what they did: no limit is split by fewer, and none says that there is no node."""
    agents = [world.agent(f"node-{n}", report_interval_seconds=20) for n in range(3)]
    world.operator()
    world.create(limit("split", rate="30Mbit", egress={"distribution": "SplitEvenly"}), limit("b", ["203.0.113.8"]))
    world.wait_ready("split", "b")
    world.wait(lambda: world.rates()["split"] == 10_000_000, "three nodes share it")
    world.settled()
    seen: set[tuple[int, str, str]] = set()

    def back() -> bool:
        seen.add((world.rates()["split"], world.ready("split"), world.ready("b")))
        return len([s for s in world.items(STATES) if s.get("status")]) == 3

    world.plane.kubectl("delete", "nodebandwidthstates", "--all")
    world.wait(lambda: back() is False, "they are gone")
    world.wait(back, "they are back")
    world.settled()
    back()
    assert seen == {(10_000_000, "Ready", "Ready")}
    agents[2].stop()
    world.plane.kubectl("delete", "nodebandwidthstates", "node-2")
    world.wait(lambda: world.rates()["split"] == 15_000_000, "two share it once the third would have been silent", 120)


@pytest.mark.long
def test_what_a_policy_refuses_costs_nobody_else_anything(world: World, legal_hold: None) -> None:
    """With a hundred limits whose statuses are refused, an edit of another one is on the node and said as fast."""
    agent = world.agent("node-0")
    operator = world.operator("operator", "--metrics-address", "127.0.0.1:0")
    world.create(limit("base"))
    world.wait_ready("base")
    world.create(*(limit(f"frozen-{n}", [f"198.51.100.{n + 1}"]) for n in range(100)))
    world.wait(lambda: len(agent.limits) == 102, "they are planned")
    port = re.findall(r'"port": (\d+)', operator.log)[0]
    for rate in range(6, 14):
        world.edit("base", egress={"rate": f"{rate}Mbit"})
        world.wait(lambda rate=rate: agent.limits["base"] == rate * 1_000_000, "it is on the node", 3)  # type: ignore[misc]
        world.wait(lambda rate=rate: world.in_force("base", rate - 4), "its status says so", 6)  # type: ignore[misc]
    world.create(*(limit(f"late-{n}", [f"10.1.0.{n + 1}"]) for n in range(60)))
    world.wait_ready(*(f"late-{n}" for n in range(60)), seconds=20)
    refused = re.findall(r'writes_total\{object="status",outcome="refused"\} (\d+)', get(port, "/metrics")[1])
    assert 101 <= int(refused[0]) <= 600


@pytest.mark.long
def test_one_author_fills_nothing_with_events(world: World) -> None:
    """Who flips limits all the time makes as many events as a correlator lets through, and the rest are counted."""
    world.agent("node-0")
    operator = world.operator("operator", "--metrics-address", "127.0.0.1:0")
    world.create(limit("a"), limit("b", ["203.0.113.8"]))
    world.wait_ready("a", "b")
    for number in range(40):
        mode, reason = ("Disabled", "Disabled") if number % 2 == 0 else ("Enforce", "Ready")
        world.edit("a", mode=mode)
        world.wait_ready("a", reason=reason)
    port = re.findall(r'"port": (\d+)', operator.log)[0]

    def told() -> list[Object]:
        return [e for e in world.items(EVENTS) if e["involvedObject"]["name"] == "a"]

    world.wait(lambda: sum(e["count"] for e in told()) == 25, "as many as there may be")
    world.wait(lambda: "events_dropped_total 0.0" not in get(port, "/metrics")[1], "the others are not written")
    assert len(told()) == 2
    assert sum(e["count"] for e in told()) == 25
    world.edit("b", mode="Disabled")

    def of_another() -> bool:
        return any((e["involvedObject"]["name"], e["reason"]) == ("b", "Disabled") for e in world.items(EVENTS))

    world.wait(of_another, "another limit's events are")
    operator.signal(signal.SIGTERM)
    assert operator.process.wait(30) == 0
