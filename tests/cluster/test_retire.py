"""The end of an installation: every node gives up what is ours, or is named; and what comes after it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from bandwidth_kube import client
from bandwidth_lab import control_plane
from bandwidth_operator.election import lease
from cluster.world import LEASES, LIMITS, NAMESPACE, NODES, QUERIES, SLICES, STATES, TRAFFIC, World, limit

NOWHERE = {"nodeSelector": {"matchLabels": {"no": "node"}}}
STAND_BY = ("--stand-by", "10")
DEADLINE_SECONDS = 120.0  # for whatever comes about by itself, on a busy machine too


@dataclasses.dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


def start(world: World, *words: str) -> subprocess.Popen[str]:
    """`bandwidth-operator retire` with the operator's rights."""
    return start_as(world.plane.kubeconfig("operator", token=world.operator_token()), *words)


def start_as(kubeconfig: pathlib.Path, *words: str) -> subprocess.Popen[str]:
    """`bandwidth-operator retire` as another user."""
    return subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "bandwidth_operator.cli"),
            *("retire", "--kubeconfig", str(kubeconfig), *words),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "POD_NAMESPACE": NAMESPACE},
    )


def ended(process: subprocess.Popen[str], seconds: float = DEADLINE_SECONDS) -> Said:
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Said(process.returncode, out, err)


def retire(world: World, *words: str) -> Said:
    return ended(start(world, *words))


def not_ready(world: World, node: str) -> None:
    status = {"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}}
    world.api.request("PATCH", f"{NODES}/{node}/status", body=status, content_type=client.MERGE_PATCH)


def lease_of(world: World) -> Any:
    return world.items(LEASES)[0]["spec"]


def installed(world: World, nodes: int = 2) -> None:
    """An operator, some agents, and a limit in force."""
    for number in range(nodes):
        world.agent(f"node-{number}")
    world.operator("before")
    world.create(limit("a"))
    world.wait_ready("a", seconds=DEADLINE_SECONDS)


def test_every_node_retires_and_nothing_but_the_limits_is_left(world: World) -> None:
    """All nodes lift everything and say so; plan and states go, limits stay, and no operator begins again."""
    installed(world)
    said = retire(world)
    assert (said.code, said.err) == (0, "")
    assert "2 of 2 nodes have retired" in said.out
    assert [agent.limits for agent in world.agents.values()] == [{}, {}]
    assert world.items(SLICES) == []
    assert world.items(STATES) == []
    assert [item["metadata"]["name"] for item in world.items(LIMITS)] == ["a"]
    assert world.ready("a") == "Retired"
    fresh = world.operator("fresh")
    world.wait(lambda: "standing by" in fresh.log, "the fresh one stands by", DEADLINE_SECONDS)
    assert lease_of(world)["holderIdentity"].startswith("retire_")
    assert lease_of(world)["leaseDurationSeconds"] >= 60
    world.settled(3.0)
    assert world.items(SLICES) == []


def test_questions_about_traffic_end_with_the_installation(world: World) -> None:
    """What is asked and what nodes reported of traffic is gone with the plan, in the middle of a question too."""
    installed(world, nodes=1)
    kinds = {QUERIES: "ClientTrafficQuery", TRAFFIC: "NodeClientTraffic"}
    for path, kind in kinds.items():
        body = {"apiVersion": "clientbandwidth.io/v1alpha1", "kind": kind, "metadata": {"name": "node-0"}}
        world.api.request("POST", path, body=body | {"spec": {}})
    head = f"{SLICES}/plan"
    world.wait(lambda: "traffic" in world.get(head)["spec"], "the nodes are asked")
    assert retire(world).code == 0
    assert [world.items(path) for path in (QUERIES, TRAFFIC, SLICES, STATES)] == [[], [], [], []]


def test_a_later_installation_works(world: World) -> None:
    """An operator and agents started afterwards put the limits that stayed in the cluster in force again."""
    installed(world, nodes=1)
    assert retire(world, *STAND_BY).code == 0
    world.agents["node-0"].stop()
    world.operators[0].kill()
    world.operator("after")
    world.agent_on("node-0")
    world.wait(lambda: world.agents["node-0"].limits == {"a": 5_000_000}, "it is in force again", DEADLINE_SECONDS)
    world.wait_ready("a", seconds=DEADLINE_SECONDS)


def test_limits_say_that_they_are_not_in_force_any_more(world: World) -> None:
    """Those that claimed to be say Retired, the others what they said, and a later operator writes what is true."""
    installed(world)
    world.create(limit("off", ["203.0.113.8"], mode="Disabled"), limit("nowhere", ["203.0.113.9"], **NOWHERE))
    world.wait_ready("off", reason="Disabled", seconds=DEADLINE_SECONDS)
    world.wait_ready("nowhere", reason="NoNodeSelected", seconds=DEADLINE_SECONDS)
    before = {name: world.status(name) for name in ("a", "off", "nowhere")}
    assert retire(world, *STAND_BY).code == 0
    world.operators[0].kill()
    assert {name: world.status(name) for name in ("off", "nowhere")} == {n: before[n] for n in ("off", "nowhere")}
    retired = world.status("a")
    assert retired["nodes"] == {"desired": 0, "programmed": 0, "failed": 0}
    assert retired["observedGeneration"] == before["a"]["observedGeneration"]
    conditions = world.conditions("a")
    for kind in ("Programmed", "Ready"):
        assert (conditions[kind]["status"], conditions[kind]["reason"]) == ("False", "Retired")
        assert "an operator that is installed again" in conditions[kind]["message"]
    assert conditions["Accepted"]["status"] == "True"
    world.operator("after")
    for name, agent in list(world.agents.items()):
        agent.stop()
        world.agent_on(name)
    world.wait_ready("a", seconds=DEADLINE_SECONDS)
    assert world.status("a")["nodes"] == before["a"]["nodes"]


@pytest.mark.long
def test_a_node_that_does_not_answer_is_named(world: World) -> None:
    """After the timeout the node is named on stderr, as plain text; the exit code is 1, the plan stays as it is."""
    installed(world)
    world.agents["node-1"].pause()
    escape = {"status": {"message": "\x1b[2J"}}
    world.api.request("PATCH", f"{STATES}/node-1/status", body=escape, content_type=client.MERGE_PATCH)
    said = retire(world, "--timeout", "20")
    assert said.code == 1
    assert "node-1: last report" in said.err
    assert r", \x1b[2J" in said.err
    assert "\x1b" not in said.err + said.out
    assert "node-0" not in said.err
    assert world.get(f"{SLICES}/plan")["spec"]["retire"] is True
    world.agents["node-1"].pause(False)
    assert retire(world).code == 0
    assert world.items(SLICES) == []


def test_after_a_failed_retirement_the_operator_goes_on(world: World) -> None:
    """Without another attempt, the operator publishes its plan once the lease of the retirement has run out."""
    installed(world, nodes=1)
    world.agents["node-0"].pause()
    assert retire(world, "--timeout", "1", *STAND_BY).code == 1
    world.wait(lambda: not world.get(f"{SLICES}/plan")["spec"].get("retire"), "the plan is back", DEADLINE_SECONDS)
    world.agents["node-0"].pause(False)
    world.edit("a", egress={"rate": "6Mbit"})
    world.wait(lambda: world.agents["node-0"].limits == {"a": 6_000_000}, "the edit is on the node", DEADLINE_SECONDS)
    world.wait(lambda: world.in_force("a", 2), "the edit is in force", DEADLINE_SECONDS)


@pytest.mark.long
def test_nodes_that_have_retired_follow_the_operator_again(world: World) -> None:
    """After a retirement that failed, agents that obeyed it enforce what the operator publishes, without a restart."""
    installed(world)
    world.agents["node-1"].pause()
    running = start(world, "--timeout", "20", *STAND_BY)
    world.wait(lambda: world.agents["node-0"].limits == {}, "node-0 obeys", DEADLINE_SECONDS)
    assert ended(running).code == 1
    world.agents["node-1"].pause(False)
    world.edit("a", egress={"rate": "6Mbit"})
    for agent in world.agents.values():
        world.wait(lambda agent=agent: agent.limits == {"a": 6_000_000}, agent.node, DEADLINE_SECONDS)  # type: ignore[misc]
    world.wait(lambda: world.in_force("a", 2), "the edit is in force", DEADLINE_SECONDS)


def test_a_node_that_is_not_ready_is_not_waited_for(world: World) -> None:
    """It is named long before the timeout; with --accept-missing the retirement succeeds without it."""
    installed(world)
    world.agents["node-1"].stop()
    not_ready(world, "node-1")
    said = retire(world, "--timeout", "600")
    assert said.code == 1
    assert "node-1: the node is not Ready" in said.err
    said = retire(world, "--timeout", "600", "--accept-missing")
    assert said.code == 0
    assert "left as it is: node-1" in said.out
    assert "but for one node that could not be reached" in world.conditions("a")["Ready"]["message"]
    assert [state["metadata"]["name"] for state in world.items(STATES)] == ["node-1"]
    assert world.items(SLICES) == []


def test_the_state_of_a_node_that_is_gone_holds_nothing_up(world: World) -> None:
    """A node that was deleted from the cluster is not waited for, and its state goes."""
    installed(world)
    world.agents["node-1"].stop()
    world.api.request("DELETE", f"{NODES}/node-1")
    said = retire(world)
    assert (said.code, said.err) == (0, "")
    assert "1 of 1 nodes have retired" in said.out
    assert world.items(STATES) == []


def test_a_cluster_in_which_nothing_ever_worked(world: World) -> None:
    """Without any operator or agent there is nothing to wait for."""
    world.nodes("node-0")
    said = retire(world, "--timeout", "600")
    assert (said.code, said.err) == (0, "")
    assert "0 of 0 nodes" in said.out
    assert world.items(SLICES) == []


@contextlib.contextmanager
def retiring(world: World) -> Iterator[subprocess.Popen[str]]:
    """A retirement that waits for a node; it has told all of them. Left running, unless the test has failed."""
    running = start(world, "--timeout", "300")
    try:
        world.wait(lambda: world.get(f"{SLICES}/plan")["spec"].get("retire"), "the head says retire", DEADLINE_SECONDS)
        yield running
    except BaseException:
        running.kill()
        raise


def test_the_api_server_may_go_away_meanwhile(world: World) -> None:
    """A retirement goes on when the API server is back."""
    installed(world)
    world.agents["node-1"].pause()
    with retiring(world) as running:
        world.plane.stop_api()
        world.plane.start_api()
        assert running.poll() is None
        world.agents["node-1"].pause(False)
    said = ended(running)
    assert (said.code, said.err) == (0, "")
    assert world.items(SLICES) == []


def test_whoever_takes_the_lease_meanwhile_loses_it_again(world: World) -> None:
    """A retirement that was cut off for so long that another took its lease takes it back, and begins again."""
    installed(world, nodes=1)
    world.agents["node-0"].pause()
    with retiring(world) as running:
        taken = {"spec": {"holderIdentity": "somebody", "leaseTransitions": 7}}
        world.api.request("PATCH", f"{LEASES}/{lease.NAME}", body=taken, content_type=client.MERGE_PATCH)
        world.wait(
            lambda: lease_of(world)["holderIdentity"].startswith("retire_"), "it has the lease again", DEADLINE_SECONDS
        )
        assert lease_of(world)["leaseTransitions"] > 7
        world.agents["node-0"].pause(False)
    said = ended(running)
    assert (said.code, said.err) == (0, "")
    assert world.items(SLICES) == []


def test_the_leader_of_before_cannot_bring_the_plan_back(world: World) -> None:
    """A leader that was frozen during the whole retirement writes nothing when it wakes."""
    installed(world, nodes=1)
    world.operators[0].signal(signal.SIGSTOP)
    assert retire(world).code == 0
    world.create(limit("b", ["203.0.113.8"]))
    world.operators[0].signal(signal.SIGCONT)
    world.settled(5.0)
    assert world.items(SLICES) == []


def test_what_is_not_installed_needs_no_retirement() -> None:
    """Where our kinds are not known there is nothing to retire."""
    with control_plane.running() as plane:
        said = ended(start_as(plane.kubeconfig()))
    assert (said.code, said.err) == (0, "")
    assert "nothing to retire" in said.out
