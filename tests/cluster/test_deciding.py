"""Policies at run time: the real operator before a real API server decides by what simulated nodes report."""

from __future__ import annotations

import datetime
import json
import pathlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bandwidth_api import names
from bandwidth_kube import client
from bandwidth_lab import TcpFlow
from bandwidth_lab.control_plane import ControlPlane
from bandwidth_lab.fleet import fleet
from cluster import helm
from cluster.nodes_that_report import ReportingNodes
from cluster.plugin import Plugin
from cluster.world import EVENTS, LEASES, LIMITS, POLICIES, SLICES, TRAFFIC, Object, World, limit

pytestmark = pytest.mark.xdist_group("deciding")

ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/client-bandwidth-operator"
ENABLED = "policies.enabled=true"
MERGE = {"content_type": client.MERGE_PATCH}
MBIT = 1e6
TTL = 600
WINDOW_SECONDS = 5


@pytest.fixture(scope="module")
def allowed(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A cluster with policies enabled: the rights of the operator, and what holds it to its own."""
    home = tmp_path_factory.mktemp("deciding")
    world = World(plane, home)
    world.clean()
    before = world.get(ROLE)["rules"]
    text = helm.template("--show-only", "templates/operator/access.yaml", "--set", ENABLED, home=home)
    (role,) = [each for each in yaml.safe_load_all(text) if each and each["kind"] == "ClusterRole"]
    world.api.request("PATCH", ROLE, body={"rules": role["rules"]}, **MERGE)
    world.policy("made-limits", ENABLED, home=home)
    yield world
    world.api.request("PATCH", ROLE, body={"rules": before}, **MERGE)
    plane.kubectl("delete", "-f", "-", stdin=helm.policy("made-limits", ENABLED, home=home))
    world.clean()
    world.close()


@pytest.fixture
def acting(allowed: World) -> Iterator[World]:
    """An operator that acts on policies, in an empty cluster."""
    allowed.clean()
    operator = allowed.operator(f"operator-{len(allowed.operators)}", "--policies")
    allowed.wait(allowed.holder, "the operator leads")
    yield allowed
    for agent in allowed.agents.values():
        agent.stop()
    allowed.agents.clear()
    for node in allowed.real.values():
        node.close()
    allowed.real.clear()
    operator.kill()
    allowed.clean()


def policy(world: World, name: str = "fair", **changes: Any) -> None:
    """Make a policy: above 40 Mbit for some seconds, then 10 Mbit."""
    spec: Object = {
        "when": {"rate": {"above": "40Mbit", "forSeconds": WINDOW_SECONDS}},
        "then": {"mode": "Enforce", "steps": [{"rate": "10Mbit", "ttlSeconds": TTL}]},
        "lift": {"forSeconds": 30},
    }
    for path, value in changes.items():
        part, _, field = path.partition("__")
        if field:
            spec.setdefault(part, {})[field] = value
        else:
            spec[part] = value
    body = {"apiVersion": names.API_VERSION, "kind": names.POLICY_KIND, "metadata": {"name": name}, "spec": spec}
    world.api.request("POST", POLICIES, body=body)


def made(world: World) -> dict[str, str]:
    """By client the policy that limits it."""
    labels = ((item["spec"]["clients"][0], item["metadata"].get("labels") or {}) for item in world.items(LIMITS))
    return {text: of[names.POLICY] for text, of in labels if names.POLICY in of}


def told(world: World, name: str) -> set[tuple[str, str, str]]:
    """The decisions in the status of a policy: the client, what, and what stood in the way."""
    status = world.get(f"{POLICIES}/{name}").get("status") or {}
    return {(d["client"], d["decision"], d.get("obstacle", "")) for d in status.get("decisions", ())}


def conditions(world: World, name: str) -> dict[str, Object]:
    status = world.get(f"{POLICIES}/{name}").get("status") or {}
    return {each["type"]: each for each in status.get("conditions", ())}


def watching(world: World) -> Object | None:
    head = next((item for item in world.items(SLICES) if item["metadata"]["name"] == "plan"), None)
    return None if head is None else head["spec"].get("watching")


@pytest.fixture
def nodes(acting: World) -> Iterator[ReportingNodes]:
    """Two nodes with agents, which report once a second."""
    for name in ("node-0", "node-1"):
        acting.agent(name)
    address = {"status": {"addresses": [{"type": "InternalIP", "address": "203.0.113.40"}]}}
    acting.api.request("PATCH", "/api/v1/nodes/node-0/status", body=address, **MERGE)
    reporting = ReportingNodes(acting, "node-0", "node-1")
    yield reporting
    reporting.close()


def test_what_stands_in_the_way(acting: World, nodes: ReportingNodes) -> None:
    """Exempt, a person's limit around, a node's own address, one that a node protects, the maximum, six in a minute,
    two policies: each is told, and nobody is limited whom it protects."""
    acting.create(limit("office", ["203.0.113.128/25"], mode="Observe"))
    exempt = ["203.0.113.9/32", "2001:db8:1::5/128"]
    policy(
        acting, "wide", watch={"clients": ["203.0.113.0/24", "2001:db8::/32"]}, safety={"exempt": exempt}, priority=5
    )
    policy(acting, "beside", watch={"clients": ["203.0.113.50/32"]})
    policy(acting, "few", watch={"clients": ["198.51.100.0/24"]}, safety={"maxLimits": 2})
    policy(acting, "many", watch={"clients": ["192.0.2.0/24"]}, safety={"maxLimits": 50, "maxNewPerMinute": 5})
    acting.wait(lambda: watching(acting), "the nodes are asked")
    protected, gateway, usual = ("203.0.113.9", "203.0.113.200", "203.0.113.40"), "203.0.113.60", "203.0.113.50"
    sixth = [f"192.0.2.{n}" for n in range(101, 107)]
    nodes.send("node-0", dict.fromkeys((*protected, gateway, usual, "2001:db8:1::77"), 90 * MBIT))
    nodes.send("node-1", dict.fromkeys(("198.51.100.1", "198.51.100.2", *sixth), 90 * MBIT))
    expected = {gateway: "wide", usual: "wide", "198.51.100.1": "few", "198.51.100.2": "few"}
    acting.wait(lambda: expected.items() <= made(acting).items(), "whom nothing protects is limited")
    acting.wait(lambda: Counter(made(acting).values())["many"] == 5, "five of six are limited")

    gateways_limit = next(i["metadata"]["name"] for i in acting.items(LIMITS) if i["spec"]["clients"] == [gateway])
    acting.agents["node-0"].fail(gateways_limit, "ProtectedAddress", "203.0.113.60 is a gateway of this node")
    nodes.send("node-1", dict.fromkeys(("198.51.100.1", "198.51.100.2", *sixth), 90 * MBIT) | {"198.51.100.3": 900e6})
    wanted = {
        ("203.0.113.9", "Blocked", "Exempt"),
        ("2001:db8:1::/64", "Blocked", "Exempt"),
        ("203.0.113.200", "Blocked", "PersonsLimit"),
        ("203.0.113.40", "Blocked", "Protected"),
        (gateway, "Released", "Protected"),
    }
    acting.wait(lambda: wanted <= told(acting, "wide"), "what stood in the way is told")
    acting.wait(lambda: ("198.51.100.3", "Blocked", "Maximum") in told(acting, "few"), "the maximum is told")
    acting.wait(lambda: any(each[2] == "PerMinute" for each in told(acting, "many")), "the sixth must wait")
    acting.wait(
        lambda: (usual, "Blocked", "OtherPolicy") in told(acting, "beside"), "one policy is enough for a client"
    )
    acting.wait(lambda: "AtMaximum" in conditions(acting, "few"), "the condition is there")
    assert not made(acting).keys() & {*protected, gateway, "2001:db8:1::/64", "198.51.100.3"}
    assert Counter(made(acting).values()) == {"wide": 1, "few": 2, "many": 5}
    events = {(e["involvedObject"]["kind"], e["reason"]) for e in acting.items(EVENTS)}
    assert events >= {("ClientBandwidthPolicy", "Blocked"), ("ClientBandwidthLimit", "Limited")}


def test_edited_deleted_and_over(acting: World, nodes: ReportingNodes, plugin: Plugin) -> None:
    """An edit reaches the limit that is there; a person's deletion is a pardon; with the policy its limits are gone,
    and a person's limit is what it was, byte for byte."""
    acting.create(limit("by-hand", ["198.51.100.200"]))
    policy(acting)
    acting.wait(lambda: watching(acting), "the nodes are asked")
    nodes.send("node-0", {"203.0.113.7": 90 * MBIT, "203.0.113.8": 90 * MBIT})
    acting.wait(lambda: made(acting).keys() == {"203.0.113.7", "203.0.113.8"}, "both are limited")
    before = {item["spec"]["clients"][0]: item for item in acting.items(LIMITS)}
    acting.wait_ready(before["203.0.113.7"]["metadata"]["name"])
    steps = {"spec": {"then": {"steps": [{"rate": "5Mbit", "ttlSeconds": TTL}]}}}
    acting.api.request("PATCH", f"{POLICIES}/fair", body=steps, **MERGE)

    def edited() -> bool:
        return all(i["spec"]["egress"]["rate"] == "5Mbit" for i in acting.items(LIMITS))

    acting.wait(edited, "the new rate is in force")
    for item in acting.items(LIMITS):
        earlier = before[item["spec"]["clients"][0]]
        assert item["metadata"]["uid"] == earlier["metadata"]["uid"]
        if names.POLICY in (item["metadata"].get("labels") or {}):
            assert item["spec"]["expiresAt"] <= earlier["spec"]["expiresAt"]
    asked = plugin.run("why", "203.0.113.7").out
    assert asked[0].startswith("203.0.113.7 is slowed by the policy fair: 5Mbit by fair-"), asked
    assert "policy fair, step 1 of 1: the policy was edited; at first: more than 40 Mbit" in asked[1]
    lifted = plugin.run("lift", "203.0.113.8", "-y")
    assert (lifted.code, "it leaves 203.0.113.8 alone for 24h" in lifted.errors) == (0, True), lifted
    acting.wait(lambda: ("203.0.113.8", "Blocked", "Pardoned") in told(acting, "fair"), "it is pardoned")
    assert made(acting).keys() == {"203.0.113.7"}
    told_of_it = json.loads(plugin.run("why", "203.0.113.8", "-o", "json").text)["policies"][0]
    assert (told_of_it["state"], told_of_it["obstacle"]) == ("Blocked", "Pardoned")
    acting.settled()
    by_hand = acting.get(f"{LIMITS}/by-hand")
    acting.api.request("DELETE", f"{POLICIES}/fair")
    began = time.monotonic()
    acting.wait(lambda: not made(acting), "its limit is gone")
    print(f"gone after {time.monotonic() - began:.2f} s")
    acting.wait(lambda: watching(acting) is None, "no node looks any more")
    acting.wait(lambda: not acting.items(TRAFFIC), "and what they reported is gone")
    assert acting.get(f"{LIMITS}/by-hand") == by_hand


def remembered(world: World, name: str = "fair") -> dict[str, str]:
    """By client in which word the status of a policy remembers it."""
    status = world.get(f"{POLICIES}/{name}").get("status") or {}
    return {text.split()[0]: text.split()[2] for text in status.get("remembered", ())}


def name_of(world: World, address: str) -> str:
    return next(i["metadata"]["name"] for i in world.items(LIMITS) if i["spec"]["clients"] == [address])


def next_operator(world: World, *words: str) -> None:
    """Another operator, as when the Lease of the one that was killed has run out."""
    world.api.request("DELETE", LEASES)
    world.operator(f"operator-{len(world.operators)}", *words)
    world.wait(world.holder, "it leads")


def test_what_is_deleted_while_no_operator_runs_is_pardoned(acting: World, nodes: ReportingNodes) -> None:
    """By one that was killed, with policies switched off for a while, and in another mode: never limited again."""
    policy(acting)
    acting.wait(lambda: watching(acting), "the nodes are asked")
    greedy = ["203.0.113.7", "203.0.113.8", "203.0.113.9"]
    nodes.send("node-0", dict.fromkeys(greedy, 90 * MBIT))
    acting.wait(lambda: made(acting).keys() == set(greedy), "all are limited")
    assert set(remembered(acting).values()) == {"Limited"}
    acting.operators[-1].kill()
    acting.delete(name_of(acting, greedy[0]))
    next_operator(acting, "--policies")
    acting.wait(lambda: (greedy[0], "Blocked", "Pardoned") in told(acting, "fair"), "it is pardoned")
    assert (greedy[0], "Pardoned", "") in told(acting, "fair")
    acting.operators[-1].kill()
    next_operator(acting)
    acting.wait(lambda: conditions(acting, "fair")["Ready"]["reason"] == "Disabled", "it is switched off")
    acting.delete(name_of(acting, greedy[1]))
    acting.settled()
    assert sorted(remembered(acting).values()) == ["Limited", "Limited", "Pardoned"]
    acting.operators[-1].kill()
    next_operator(acting, "--policies")
    acting.wait(lambda: (greedy[1], "Blocked", "Pardoned") in told(acting, "fair"), "it is pardoned too")
    for mode in ("Disabled", "Enforce"):
        acting.api.request("PATCH", f"{POLICIES}/fair", body={"spec": {"then": {"mode": mode}}}, **MERGE)
        acting.wait(lambda: greedy[2] in made(acting) or not made(acting), "its limit is gone, or there again")
        acting.wait(lambda: sorted(remembered(acting).values())[-2:] == ["Pardoned"] * 2, "both are pardoned")
    acting.wait(lambda: made(acting).keys() == {greedy[2]}, "the third one is limited again")


def test_a_limit_that_is_deleted_as_soon_as_it_is_there(acting: World, nodes: ReportingNodes) -> None:
    """Whether the operator has read it or not."""
    policy(acting)
    acting.wait(lambda: watching(acting), "the nodes are asked")
    nodes.send("node-0", {"203.0.113.7": 90 * MBIT})
    acting.wait(lambda: made(acting), "it is limited")
    acting.delete(name_of(acting, "203.0.113.7"))
    acting.wait(lambda: ("203.0.113.7", "Blocked", "Pardoned") in told(acting, "fair"), "it is pardoned")
    assert made(acting) == {}


CRD = "clientbandwidthpolicies.clientbandwidth.io"
MOST = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/safety/properties/maxLimits/maximum"


def test_a_policy_of_a_later_version(acting: World, nodes: ReportingNodes) -> None:
    """It has a value that this operator cannot read, and says so. Its limits stay as they are, nobody new is limited,
    and when it can be read again it goes on."""

    def most(value: int) -> None:
        patch = json.dumps([{"op": "replace", "path": MOST, "value": value}])
        acting.plane.kubectl("patch", "crd", CRD, "--type=json", "-p", patch)

    def allow(value: int) -> bool:
        try:
            body = {"spec": {"safety": {"maxLimits": value}}}
            acting.api.request("PATCH", f"{POLICIES}/fair", body=body, **MERGE)
        except client.RefusedError:
            return False
        return True

    policy(acting)
    acting.wait(lambda: watching(acting), "the nodes are asked")
    nodes.send("node-0", {"203.0.113.7": 90 * MBIT})
    acting.wait(lambda: made(acting).keys() == {"203.0.113.7"}, "it is limited")
    (before,) = acting.items(LIMITS)
    most(1000)
    try:
        acting.wait(lambda: allow(1000), "the later version takes it")
        acting.wait(lambda: conditions(acting, "fair")["Accepted"]["status"] == "False", "it is told")
        nodes.send("node-0", {"203.0.113.7": 90 * MBIT, "203.0.113.8": 90 * MBIT})
        acting.operators[-1].kill()
        next_operator(acting, "--policies")
        acting.settled()
        (after,) = acting.items(LIMITS)
        assert (after["metadata"]["uid"], after["spec"]) == (before["metadata"]["uid"], before["spec"])
        assert remembered(acting) == {"203.0.113.7": "Limited"}
        assert allow(10)
        acting.wait(lambda: made(acting).keys() == {"203.0.113.7", "203.0.113.8"}, "it goes on")
    finally:
        acting.api.request("DELETE", f"{POLICIES}/fair")
        most(500)


def seconds_of(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


@pytest.mark.root
def test_a_greedy_client_of_a_real_node(acting: World) -> None:
    """Its packets are sampled, reported, judged and slowed by a class, with nobody at the keyboard; another client of
    the same node is not."""
    with fleet(1, 2, prefix="po-") as network:
        node = acting.real_node("node-0", network.nodes[0])
        acting.start(node)
        greedy, other = network.clients
        policy(acting)
        with (
            TcpFlow(network.nodes[0], greedy, port=993, rate_bits_per_second=80e6) as flow,
            TcpFlow(network.nodes[0], other, port=993, rate_bits_per_second=10e6),
        ):
            began = time.monotonic()
            acting.wait(lambda: made(acting) == {greedy.address4: "fair"}, "it is limited")
            print(f"limited after {time.monotonic() - began:.1f} s")
            (item,) = acting.items(LIMITS)
            acting.wait_ready(item["metadata"]["name"])
            assert item["spec"]["egress"]["rate"] == "10Mbit"
            assert "more than 40 Mbit over 5 s" in item["spec"]["reason"]
            received, since = flow.received_bytes, time.monotonic()
            time.sleep(3.0)  # of a flow that the class holds
            rate = 8 * (flow.received_bytes - received) / (time.monotonic() - since)
            assert rate < 1.3 * 10e6, rate
            assert made(acting) == {greedy.address4: "fair"}


KILLS = 20
SEED = 7


@pytest.mark.long
def test_an_operator_that_is_killed_again_and_again(allowed: World) -> None:
    """At any moment, 20 times: never two limits for a client, never one that is longer than its step, never a pardon
    that is forgotten; in the end all is as if nobody had died."""
    world, chance = allowed, random.Random(SEED)
    world.clean()
    world.agent("node-0")
    nodes = ReportingNodes(world, "node-0")
    pardoned: set[str] = set()
    policy(
        world,
        when={"volume": {"above": "100M", "withinSeconds": 60}},
        safety={"maxLimits": 100, "maxNewPerMinute": 100},
    )
    clients: list[str] = []
    seen: dict[str, Object] = {}
    try:
        for number in range(KILLS):
            operator = world.operator(f"killed-{number}", "--policies")
            clients.append(f"198.51.100.{number + 1}")
            nodes.send("node-0", dict.fromkeys(clients[-8:], 4000 * MBIT))
            if number % 2:  # else at any moment of its start
                world.wait(lambda name=operator.name: world.holder().startswith(name), "it leads")  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, 2.5))  # a moment that nobody chose
            if chance.random() < 0.5:
                pardoned |= delete_one(world, chance)
            operator.kill()
            if chance.random() < 0.5:
                pardoned |= delete_one(world, chance)
            check(world, seen)
            assert not pardoned & made(world).keys()
            world.api.request("DELETE", LEASES)  # as if it had run out
        last = world.operator("last", "--policies")
        # Whoever died between a status and its limit left a client alone for whom nobody asked.
        world.wait(lambda: set(clients[-8:]) <= made(world).keys() | pardons(world), "all are limited, or pardoned")
        world.wait(lambda: pardoned <= pardons(world), "the last one has found out who was pardoned")
        check(world, seen)
        print(f"{len(pardoned)} deleted, {len(pardons(world))} pardoned, {len(made(world))} limited")
        fresh = "198.51.100.200"
        nodes.send("node-0", {fresh: 4000 * MBIT})
        world.wait(lambda: fresh in made(world), "one more is limited")
        last.kill()
        pardoned |= {fresh}
        world.delete(name_of(world, fresh))
        world.api.request("DELETE", LEASES)
        world.operator("after", "--policies")
        world.wait(lambda: (fresh, "Blocked", "Pardoned") in told(world, "fair"), "the next one knows of the pardon")
        assert not pardoned & made(world).keys()
        check(world, seen)
    finally:
        nodes.close()
        for each in world.operators:
            each.kill()
        world.clean()


def pardons(world: World) -> set[str]:
    return {address for address, word in remembered(world).items() if word == "Pardoned"}


def delete_one(world: World, chance: random.Random) -> set[str]:
    """A person deletes one of the limits that are there; return its client."""
    there = sorted(made(world))
    if not there:
        return set()
    address = chance.choice(there)
    world.delete(name_of(world, address))
    return {address}


def check(world: World, seen: dict[str, Object]) -> None:
    """One limit for each client, each with the end that it began with."""
    items = [i for i in world.items(LIMITS) if names.POLICY in (i["metadata"].get("labels") or {})]
    assert max(Counter(i["spec"]["clients"][0] for i in items).values(), default=0) <= 1
    for item in items:
        created, ends = seconds_of(item["metadata"]["creationTimestamp"]), seconds_of(item["spec"]["expiresAt"])
        assert ends - created <= TTL + 1, item["spec"]
        before = seen.setdefault(item["metadata"]["uid"], item)
        assert before["spec"] == item["spec"]


def test_policies_that_are_switched_off_say_so(world: World) -> None:
    """With the chart's defaults: the status names the value, no node is asked, and nobody is limited."""
    world.operator()
    world.agent("node-0")
    policy(world)
    world.wait(lambda: conditions(world, "fair")["Ready"]["reason"] == "Disabled", "it is told")
    ready = conditions(world, "fair")["Ready"]
    assert ready["status"] == "False"
    assert "policies.enabled" in ready["message"]
    assert watching(world) is None


def test_the_operator_may_do_no_more_than_policies_need(allowed: World, tmp_path: pathlib.Path) -> None:
    """Enabled: made limits, policies' statuses; not one right more than the roles of the chart say."""
    text = helm.template("--show-only", "templates/operator/access.yaml", "--set", ENABLED, home=tmp_path)
    off = helm.template("--show-only", "templates/operator/access.yaml", home=tmp_path)
    (on_role, off_role) = (
        next(d for d in yaml.safe_load_all(each) if d and d["kind"] == "ClusterRole") for each in (text, off)
    )
    more = [rule for rule in on_role["rules"] if rule not in off_role["rules"]]
    assert [(rule["resources"], rule["verbs"]) for rule in more] == [(["clientbandwidthlimits"], ["patch", "delete"])]
