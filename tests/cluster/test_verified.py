"""Limits on nodes where packets may skip netfilter: from what a node reports to the status, the Events and kubectl."""

from __future__ import annotations

import signal

import pytest

from bandwidth_api.crds import node_state
from bandwidth_lab import TcpFlow
from bandwidth_lab.ebpf_datapath import POD_PORT, datapath_node
from bandwidth_lab.simulated_agents import SimulatedAgent
from cluster.world import EVENTS, LIMITS, STATES, World, limit
from gitops import kstatus, lua

SIGN = "device cilium_host"
PAST = "of 1,204 packets to its clients 0 went through its class; set hostLegacyRouting"


def told(world: World, name: str) -> tuple[str, str]:
    found = world.conditions(name)["Ready"]
    return found["status"], found["reason"]


def kubectl(world: World, *words: str) -> str:
    return world.plane.kubectl(*words).stdout


def test_from_unverified_to_verified_to_bypassed_and_back(world: World) -> None:
    """Each state of a limit as users see it: conditions, columns, kubectl wait, Events, kstatus and Argo CD."""
    one, other = world.agent("node-0"), world.agent("node-1")
    check = lua.HealthCheck()
    one.see(SIGN)
    world.wait(lambda: world.state("node-0").get("datapathSign"), "the sign is reported")
    world.operator()
    world.create(limit("a"))
    world.wait_ready("a", reason="Unverified")
    found = world.conditions("a")
    assert [found[kind]["status"] for kind in ("Accepted", "Programmed", "Ready")] == ["True", "True", "Unknown"]
    assert f"node-0 past its class ({SIGN})" in found["Ready"]["message"]
    assert world.status("a")["nodes"] == {"desired": 2, "programmed": 2, "failed": 0}
    item = world.get(f"{LIMITS}/a")
    assert (kstatus.compute(item), check(item)) == (kstatus.IN_PROGRESS, ("Progressing", found["Ready"]["message"]))
    with pytest.raises(RuntimeError, match="timed out waiting"):
        kubectl(world, "wait", "--for=condition=Ready", "--timeout=1s", "cbl/a")

    one.see(SIGN, "a")
    kubectl(world, "wait", "--for=condition=Ready", "--timeout=20s", "cbl/a")
    assert world.conditions("a")["Ready"]["message"] == (
        "in force on all 2 nodes; its packets were seen to pass its class on 1 of them: node-0"
    )
    assert world.status("a")["verified"].items() >= {"nodes": 1, "names": ["node-0"]}.items()
    assert kstatus.compute(world.get(f"{LIMITS}/a")) == kstatus.CURRENT

    other.fail("a", "Bypassed", PAST)
    world.wait_ready("a", reason="Bypassed")
    found = world.conditions("a")
    assert [found[kind]["status"] for kind in ("Accepted", "Programmed", "Ready")] == ["True", "True", "False"]
    assert "Stalled" not in found
    assert found["Ready"]["message"] == f"bypassed on 1 of 2 nodes; node-1: {PAST}"
    assert world.status("a")["failingNodes"] == [{"name": "node-1", "reason": "Bypassed", "message": PAST}]
    item = world.get(f"{LIMITS}/a")
    assert (kstatus.compute(item), check(item)[0]) == (kstatus.IN_PROGRESS, "Degraded")
    assert world.state("node-1")["limits"]["bypassed"] == 1
    row = kubectl(world, "get", "cbl", "a", "-o", "wide", "--no-headers").split()
    assert row[4] == "False"
    assert "Bypassed" in row
    assert "Failing" in kubectl(world, "get", "nodebandwidthstates", "node-1")

    other.mend()
    world.wait(lambda: told(world, "a") == ("True", "Ready"), "it is Ready again")
    # An edit of words only leaves it verified; another one makes it another limit, of which nothing was seen.
    one.see(SIGN, "a")
    world.wait(lambda: world.status("a").get("verified", {}).get("nodes") == 1, "node-0 has verified it")
    one.see(SIGN)
    world.edit("a", reason="ticket 4711", ttlSeconds=7200)
    world.wait(lambda: world.status("a")["observedGeneration"] == 2, "the edit is observed")
    world.settled()
    assert told(world, "a") == ("True", "Ready")
    world.edit("a", egress={"rate": "7Mbit"})
    world.wait(lambda: world.status("a")["observedGeneration"] == 3 and told(world, "a")[0] == "Unknown", "unverified")
    one.see("")
    world.wait(lambda: told(world, "a") == ("True", "Ready"), "without a sign programmed is enough")
    assert "verified" not in world.status("a")
    events = {(e["reason"], e["type"]) for e in world.items(EVENTS) if e["involvedObject"]["name"] == "a"}
    assert {("Unverified", "Normal"), ("Bypassed", "Warning"), ("Ready", "Normal")} <= events


def test_a_real_agent_on_a_real_datapath(world: World) -> None:
    """From packets to the status: nobody has seen any, they leave past the class, they come out of it."""
    with datapath_node(prefix="cv-", pod_device="lxc1") as made:
        node = world.real_node("node-0", made.network.server)
        node.kernel.bypassed = True
        client = made.clients[0]
        try:
            world.operator()
            world.start(node)
            world.create(limit("a", [client.address4], "8Mbit"))
            world.wait_ready("a", reason="Unverified")
            assert "device lxc1" in world.conditions("a")["Ready"]["message"]
            with TcpFlow(made.pod, client, port=POD_PORT, dial=made.dial(4), rate_bits_per_second=30_000_000):
                world.wait_ready("a", reason="Bypassed", seconds=20)
            message = world.conditions("a")["Ready"]["message"]
            assert message.startswith("bypassed on 1 of 1 nodes; node-0: packets leave past the limit")
            assert client.address4 in message
            with TcpFlow(made.network.server, client):
                world.wait_ready("a", seconds=30)
            assert world.status("a")["verified"].items() >= {"nodes": 1, "names": ["node-0"]}.items()
            # An agent that starts again has seen nothing; what was seen before stays known.
            node.stop()
            node.start()
            world.wait(lambda: world.state("node-0").get("state") == "InForce", "it reports again")
            world.settled()
            assert told(world, "a") == ("True", "Ready")
        finally:
            node.close()


def test_a_client_that_visits_two_of_many_nodes(world: World) -> None:
    """The limit is Ready once one of them has verified it; that an operator or an agent ends changes nothing of it."""
    agents = [world.agent(f"node-{number:02d}") for number in range(12)]
    for agent in agents:
        agent.see(SIGN)
    running = world.operator("first")
    world.create(limit("a"), limit("quiet", ["203.0.113.99"]))
    world.wait_ready("a", "quiet", reason="Unverified")
    agents[3].see(SIGN, "a")
    agents[7].see(SIGN, "a")
    world.wait_ready("a")
    agents[3].stop()
    world.settled()
    before = world.versions()
    running.signal(signal.SIGTERM)
    running.process.wait(60)
    world.operator("second")
    world.wait(lambda: world.holder().startswith("second"), "it leads")
    world.create(limit("probe", ["203.0.113.98"]))
    world.wait_ready("probe", reason="Pending")  # node-03 has no agent any more
    assert told(world, "a") == ("True", "Ready")
    assert told(world, "quiet") == ("Unknown", "Unverified")
    after = world.versions()
    assert {name: after[name] for name in before if name.startswith(LIMITS)} == {
        name: version for name, version in before.items() if name.startswith(LIMITS)
    }


def test_more_verified_limits_than_a_report_has_room_for(world: World) -> None:
    """Each is Ready once it was named, and stays so while reports name others; the report stays within its bound."""
    names = [f"customer-with-a-long-name-{number:03d}" for number in range(150)]
    agent = world.agent("node-0")
    agent.see(SIGN)
    world.operator()
    world.create(*(limit(name, [f"198.18.0.{number}"]) for number, name in enumerate(names, 1)))
    world.wait_ready(*names, reason="Unverified")
    agent.see(SIGN, *names)
    first = world.wait(lambda: world.state("node-0").get("verified"), "some are named")
    assert 20 <= len(first) < len(names)
    assert world.state("node-0")["limits"]["verified"] == len(names)
    world.wait_ready(*first)
    assert told(world, names[-1]) == ("Unknown", "Unverified")
    agent.name_first(names[-1])
    world.wait_ready(names[-1])
    world.settled()
    named = set(world.state("node-0")["verified"])
    assert set(first) - named, "some are not named any more"
    assert all(told(world, name) == ("True", "Ready") for name in {*first, *named})


def test_kubectl_explains_the_new_fields(world: World) -> None:
    """In words that say what they mean."""
    assert "skips" not in kubectl(world, "explain", "cbl.spec")
    text = kubectl(world, "explain", "cbl.status.verified")
    assert "packets were seen to pass the class" in " ".join(text.split())
    text = kubectl(world, "explain", "nodebandwidthstate.status")
    assert "datapathSign" in text
    assert "cilium_host" in text
    assert "bypassed" in kubectl(world, "explain", "nodebandwidthstate.status.limits")


def test_a_report_at_its_bounds_is_accepted(world: World) -> None:
    """Long names, a long sign, many verified and many failing limits: the API server takes what an agent writes."""
    world.nodes("node-0")
    failing = tuple(node_state.Problem(node_state.Reason.BYPASSED, "m" * 500, name="f" * 253) for _ in range(5))
    state = node_state.NodeState(
        "node-0", "d" * 32, True, 1_800_000_000.0, 9000, 8995, 5, failing, datapath_sign="s" * 500,
        verified=frozenset(f"{number:04d}" for number in range(4000)), verified_count=4000, bypassed=5,
    )  # fmt: skip
    body = {"apiVersion": "clientbandwidth.io/v1alpha1", "kind": node_state.KIND, "metadata": {"name": "node-0"}}
    world.api.request("POST", STATES, body=body)
    written = node_state.write(state)
    query = {"fieldValidation": "Strict"}
    item = world.get(f"{STATES}/node-0") | {"status": written}
    stored = world.api.request("PUT", f"{STATES}/node-0/status", query=query, body=item)
    assert stored["status"] == written


def test_an_agent_that_knows_nothing_of_it_is_counted_as_ever(world: World) -> None:
    """A report without the new fields tells of no sign: programmed is enough, but not beside a node with one."""
    agent: SimulatedAgent = world.agent("node-0")
    world.operator()
    world.create(limit("a"))
    world.wait_ready("a")
    agent.stop()
    status = world.state("node-0")
    for key in ("datapathSign", "verified"):
        status.pop(key)
    status["limits"] = {key: status["limits"][key] for key in ("desired", "programmed", "failed")}
    item = world.get(f"{STATES}/node-0") | {"status": status}
    world.api.request("PUT", f"{STATES}/node-0/status", body=item)
    world.edit("a", reason="ticket 4711")
    world.wait(lambda: world.in_force("a", 2), "it is Ready in this version")
    world.agent("node-1").see(SIGN)
    world.wait_ready("a", reason="Unverified")
