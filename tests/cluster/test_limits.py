"""What becomes of limits: created, changed, deleted, expired, disabled, observed, selected, overridden, invalid."""

from __future__ import annotations

import time

import pytest

from cluster.world import LIMITS, SLICES, World, limit

pytestmark = pytest.mark.xdist_group("limits")  # they share an operator


@pytest.fixture
def world(led: World) -> World:
    """One operator leads through all tests of this module."""
    return led


def test_a_limit_reaches_every_node_and_its_status_says_so(world: World) -> None:
    """A limit becomes Ready when every node reports it, with counts and the effective rate."""
    agents = [world.agent(f"node-{n}") for n in range(3)]
    world.create(limit("mail-loop", rate="5Mbit"))
    world.wait_ready("mail-loop")
    assert all(agent.limits == {"mail-loop": 5_000_000} for agent in agents)
    status = world.get(f"{LIMITS}/mail-loop")["status"]
    assert status["nodes"] == {"desired": 3, "programmed": 3, "failed": 0}
    assert status["effective"] == {
        "rateBitsPerSecond": 5_000_000,
        "perNodeRateBitsPerSecond": 5_000_000,
        "burstBytes": 4100,
    }
    assert status["observedGeneration"] == 1
    assert {t: c["status"] for t, c in world.conditions("mail-loop").items()} == {
        "Accepted": "True",
        "Programmed": "True",
        "Ready": "True",
        "Conflicted": "False",
    }


def test_an_edit_reaches_the_nodes_and_the_observed_generation(world: World) -> None:
    """An edit rewrites the slice of that limit, and the status speaks of the new generation."""
    agent = world.agent("node-0")
    world.create(limit("a"))
    world.wait_ready("a")
    world.edit("a", egress={"rate": "7Mbit"})
    world.wait(lambda: agent.limits == {"a": 7_000_000}, "the new rate is on the node")
    world.wait(
        lambda: world.conditions("a")["Ready"]["observedGeneration"] == 2 and world.ready("a") == "Ready",
        "the status speaks of generation 2",
    )


def test_an_edit_that_means_nothing_to_the_nodes_writes_no_slice(world: World) -> None:
    """Another spec.reason is observed in the status and rewrites no slice."""
    world.agent("node-0")
    world.create(limit("a"))
    world.wait_ready("a")
    before = {i["metadata"]["name"]: i["metadata"]["resourceVersion"] for i in world.items(SLICES)}
    world.edit("a", reason="ticket 4711")
    world.wait(lambda: world.conditions("a")["Ready"]["observedGeneration"] == 2, "generation 2 is observed")
    assert {i["metadata"]["name"]: i["metadata"]["resourceVersion"] for i in world.items(SLICES)} == before


def test_a_deleted_limit_is_lifted(world: World) -> None:
    """A deleted limit leaves the nodes, others stay."""
    agent = world.agent("node-0")
    world.create(limit("a"), limit("b", ["203.0.113.8"]))
    world.wait_ready("a", "b")
    world.delete("a")
    world.wait(lambda: set(agent.limits) == {"b"}, "only b is left on the node")


def test_a_limit_expires_and_not_before_its_time(world: World) -> None:
    """At spec.expiresAt the limit leaves the plan and its status says Expired."""
    world.agent("node-0")
    world.create(limit("a"))
    world.wait_ready("a")
    ends = int(time.time()) + 3
    world.edit("a", expiresAt=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends)))
    world.wait_ready("a", reason="Expired")
    assert time.time() >= ends
    status = world.get(f"{LIMITS}/a")["status"]
    assert status["nodes"] == {"desired": 0, "programmed": 0, "failed": 0}
    assert "more time" in world.conditions("a")["Ready"]["message"]
    assert world.rates() == {}


def test_a_disabled_limit_is_lifted_and_comes_back(world: World) -> None:
    """mode Disabled takes a limit off the nodes and says so; Enforce brings it back."""
    agent = world.agent("node-0")
    world.create(limit("a", mode="Disabled"))
    world.wait_ready("a", reason="Disabled")
    assert agent.limits == {}
    world.edit("a", mode="Enforce")
    world.wait_ready("a")
    world.edit("a", mode="Disabled")
    world.wait_ready("a", reason="Disabled")
    world.wait(lambda: agent.limits == {}, "the limit is lifted")


def test_an_observing_limit_is_ready_and_says_that_it_only_counts(world: World) -> None:
    """mode Observe reaches the nodes as such."""
    agent = world.agent("node-0")
    world.create(limit("a", mode="Observe"))
    world.wait_ready("a")
    assert agent.assembly is not None
    assert agent.assembly.plan.entries["a"].mode == "Observe"
    assert "only counting" in world.conditions("a")["Ready"]["message"]


def test_only_selected_nodes_count(world: World) -> None:
    """A node selector decides which nodes are desired; labels may change at any time."""
    world.agent("edge-0", {"role": "edge"})
    world.agent("edge-1", {"role": "edge"})
    world.agent("core-0", {"role": "core"})
    world.create(limit("a", nodeSelector={"matchLabels": {"role": "edge"}}))
    world.create(limit("b", ["203.0.113.8"], nodeSelector={"matchLabels": {"role": "moon"}}))
    world.wait_ready("a")
    assert world.get(f"{LIMITS}/a")["status"]["nodes"]["desired"] == 2
    world.wait_ready("b", reason="NoNodeSelected")
    assert "none of the 3 nodes" in world.conditions("b")["Ready"]["message"]
    path = "/api/v1/nodes/core-0"
    world.api.request(
        "PATCH", path, body={"metadata": {"labels": {"role": "moon"}}}, content_type="application/merge-patch+json"
    )
    world.wait_ready("b")


def test_without_any_agent_the_status_says_where_to_look(world: World) -> None:
    """No node that runs an agent: not ready, with what to look at."""
    world.create(limit("a"))
    world.wait_ready("a", reason="NoNodeSelected")
    assert "DaemonSet" in world.conditions("a")["Ready"]["message"]


def test_a_failing_node_is_named_and_forgotten(world: World) -> None:
    """A limit that one node cannot program names the node and why; when it is mended the limit is ready."""
    world.agent("node-0")
    failing = world.agent("node-1")
    failing.fail("a")
    world.create(limit("a"), limit("b", ["203.0.113.8"]))
    world.wait_ready("a", reason="KernelRefused")
    world.wait_ready("b")
    status = world.get(f"{LIMITS}/a")["status"]
    assert status["nodes"] == {"desired": 2, "programmed": 1, "failed": 1}
    assert status["failingNodes"] == [
        {"name": "node-1", "reason": "KernelRefused", "message": "class 1 on cbl0: no memory"}
    ]
    failing.mend()
    world.wait_ready("a")
    assert "failingNodes" not in world.get(f"{LIMITS}/a")["status"]


def test_the_status_names_ten_failing_nodes_at_most(world: World) -> None:
    """However many nodes fail, ten are named and all are counted."""
    agents = [world.agent(f"node-{n:02d}") for n in range(12)]
    for agent in agents:
        agent.fail("a")
    world.create(limit("a"))
    world.wait(lambda: world.get(f"{LIMITS}/a").get("status", {}).get("nodes", {}).get("failed") == 12, "all 12 fail")
    assert [n["name"] for n in world.get(f"{LIMITS}/a")["status"]["failingNodes"]] == [
        f"node-{n:02d}" for n in range(10)
    ]


def test_the_loser_of_an_overlap_says_who_wins(world: World) -> None:
    """Of two limits on one address the one that loses is Conflicted and names the other."""
    world.agent("node-0")
    world.create(limit("low", ["203.0.113.0/24"]), limit("high", ["203.0.113.0/25"], priority=10))
    world.wait_ready("low", "high")
    world.wait(lambda: world.conditions("low")["Conflicted"]["status"] == "True", "low is conflicted")
    assert "high" in world.conditions("low")["Conflicted"]["message"]
    assert world.conditions("high")["Conflicted"]["status"] == "False"
    world.delete("high")
    world.wait(lambda: world.conditions("low")["Conflicted"]["status"] == "False", "the conflict is over")


def test_limits_on_different_nodes_do_not_conflict(world: World) -> None:
    """Limits on the same address that no node enforces together are not in conflict."""
    world.agent("edge-0", {"role": "edge"})
    world.agent("core-0", {"role": "core"})
    world.create(
        limit("a", nodeSelector={"matchLabels": {"role": "edge"}}),
        limit("b", nodeSelector={"matchLabels": {"role": "core"}}),
    )
    world.wait_ready("a", "b")
    assert world.conditions("a")["Conflicted"]["status"] == "False"
    assert world.conditions("b")["Conflicted"]["status"] == "False"


def test_split_evenly_divides_by_the_selected_nodes(world: World) -> None:
    """SplitEvenly gives each selected node its share, again when a node comes or goes."""
    one = world.agent("edge-0", {"role": "edge"})
    world.agent("core-0", {"role": "core"})
    world.create(
        limit("a", rate="6Mbit", egress={"distribution": "SplitEvenly"}, nodeSelector={"matchLabels": {"role": "edge"}})
    )
    world.wait(lambda: one.limits.get("a") == 6_000_000, "one node has all of it")
    two = world.agent("edge-1", {"role": "edge"})
    world.wait(lambda: one.limits.get("a") == two.limits.get("a") == 3_000_000, "two nodes have a half each")

    def effective() -> int:
        return int(world.get(f"{LIMITS}/a")["status"]["effective"]["perNodeRateBitsPerSecond"])

    world.wait(lambda: effective() == 3_000_000 and world.ready("a") == "Ready", "the status says so")
    two.stop()
    world.api.request("DELETE", "/api/v1/nodes/edge-1")
    world.wait(lambda: one.limits.get("a") == 6_000_000, "the one that is left has all of it")


def test_a_node_that_stops_reporting_counts_as_failed(world: World) -> None:
    """A node whose reports stay away is named, and taken back when it reports again."""
    world.agent("node-0", report_interval_seconds=300)
    world.nodes("node-1")
    status = {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}
    world.agent_on("node-1")
    world.create(limit("a"))
    world.wait_ready("a")
    path = "/api/v1/nodes/node-1/status"
    world.api.request("PATCH", path, body={"status": status}, content_type="application/merge-patch+json")
    world.wait_ready("a", reason="NodeNotReporting")
    assert world.get(f"{LIMITS}/a")["status"]["failingNodes"][0]["name"] == "node-1"
    status["conditions"][0]["status"] = "True"
    world.api.request("PATCH", path, body={"status": status}, content_type="application/merge-patch+json")
    world.wait_ready("a")


def test_events_tell_of_changes_of_conditions_only(world: World) -> None:
    """A limit that becomes ready has one event; nothing more while nothing changes."""
    world.agent("node-0")
    world.wait(lambda: world.state("node-0"), "the node reports")
    world.create(limit("a"))
    world.wait_ready("a")

    def reasons() -> list[str]:
        found = world.items("/api/v1/namespaces/default/events")
        return [e["reason"] for e in found if e["involvedObject"]["name"] == "a"]

    world.wait(lambda: reasons() == ["Ready"], "one event")
    world.edit("a", reason="nothing that matters")
    world.wait(lambda: world.conditions("a")["Ready"]["observedGeneration"] == 2, "generation 2 is observed")
    assert reasons() == ["Ready"]
    world.edit("a", mode="Disabled")
    world.wait(lambda: sorted(reasons()) == ["Disabled", "Ready"], "a second event")


def test_edits_in_the_middle_of_status_writes_are_not_lost(world: World) -> None:
    """A limit edited again and again, while its status is being written, ends as it was written last."""
    agent = world.agent("node-0")
    world.create(limit("a"))
    world.wait_ready("a")
    for rate in range(100, 160):
        world.edit("a", egress={"rate": f"{rate}Mbit"})
        time.sleep(0.03)
    world.wait(lambda: agent.limits == {"a": 159_000_000}, "the last edit is on the node")
    world.wait(lambda: world.get(f"{LIMITS}/a")["status"]["observedGeneration"] == 61, "the last edit is observed")
    world.wait_ready("a")
