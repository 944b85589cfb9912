"""What the API server accepts and refuses: the rules of the CRDs, the policies, and who may write what."""

from __future__ import annotations

import copy
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bandwidth_api.crds import client_rows, client_traffic, traffic_answer
from bandwidth_api.plan import Prefix
from bandwidth_kube import client, connection
from bandwidth_lab.control_plane import ControlPlane
from cluster.world import LIMITS, NAMESPACE, NODES, POLICIES, QUERIES, SLICES, STATES, TRAFFIC, Object, World, limit

pytestmark = pytest.mark.xdist_group("admission")  # a hundred and more that take no time

TABLES = pathlib.Path(__file__).parents[1] / "unit" / "api"
CASES = yaml.safe_load((TABLES / "limit-cases.yaml").read_text())
POLICY_CASES = yaml.safe_load((TABLES / "policy-cases.yaml").read_text())
STRICT = "?dryRun=All&fieldValidation=Strict"


def refusal(world: World, path: str, body: Object, method: str = "POST", **options: Any) -> str:
    """What the API server answers to a write: "" if it accepts it, else its message."""
    try:
        world.api.request(method, path, body=body, **options)
    except client.RefusedError as refused:
        if refused.temporary:
            raise
        return refused.message or refused.reason
    return ""


@pytest.fixture(scope="module")
def asked(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A cluster for questions that leave nothing behind."""
    made = World(plane, tmp_path_factory.mktemp("asked"))
    made.clean()
    yield made
    made.close()


@pytest.mark.parametrize("case", CASES["accepted"], ids=lambda case: case["why"])
def test_accepted_limits(asked: World, case: Object) -> None:
    """A spec that keeps the rules is accepted."""
    body = limit("case") | {"spec": case["spec"]}
    assert refusal(asked, LIMITS + STRICT, body) == ""


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: case["why"])
def test_refused_limits(asked: World, case: Object) -> None:
    """A spec that breaks a rule is refused by that rule."""
    body = limit("case") | {"spec": case["spec"]}
    message = refusal(asked, LIMITS + STRICT, body)
    assert message
    if case["rule"] != "schema":
        assert case["rule"] in message


def policy(case: Object) -> Object:
    return {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "ClientBandwidthPolicy",
        "metadata": {"name": case.get("name", "case")},
        "spec": case["spec"],
    }


@pytest.mark.parametrize("case", POLICY_CASES["accepted"], ids=lambda case: case["why"])
def test_accepted_policies(asked: World, case: Object) -> None:
    """A policy that keeps the rules is accepted."""
    assert refusal(asked, POLICIES + STRICT, policy(case)) == ""


@pytest.mark.parametrize("case", POLICY_CASES["refused"], ids=lambda case: case["why"])
def test_refused_policies(asked: World, case: Object) -> None:
    """A policy that breaks a rule is refused by that rule."""
    message = refusal(asked, POLICIES + STRICT, policy(case))
    assert message
    if case["rule"] != "schema":
        assert case["rule"] in message


ENTRY = {"name": "a", "clients": ["203.0.113.7"], "rate": 1, "created": 0}


@pytest.mark.parametrize(
    ("spec", "accepted"),
    [
        ({"schema": 1, "term": 1, "entries": [ENTRY]}, True),
        ({"schema": 1, "term": 1, "slices": ["plan-00000"]}, True),
        ({"schema": 1, "term": 1, "slices": [], "retire": True}, True),
        ({"schema": 1, "term": 1, "slices": [], "nodes": 1024}, True),
        ({"schema": 1, "term": 1, "slices": [], "nodes": -1}, False),
        ({"schema": 1, "term": 1, "slices": [], "nodes": "many"}, False),
        ({"schema": 9, "term": 1, "entries": [ENTRY]}, True),
        ({"schema": 1, "term": 1, "entries": [ENTRY], "slices": []}, False),
        ({"schema": 1, "term": 1}, False),
        ({"schema": 1, "entries": [ENTRY]}, False),
        ({"term": 1, "entries": [ENTRY]}, False),
        ({"schema": 0, "term": 1, "entries": [ENTRY]}, False),
        ({"schema": 1, "term": -1, "entries": [ENTRY]}, False),
        ({"schema": 1, "term": 1, "entries": [{k: v for k, v in ENTRY.items() if k != "rate"}]}, False),
        ({"schema": 1, "term": 1, "entries": [ENTRY | {"mode": "Disabled"}]}, False),
        ({"schema": 1, "term": 1, "entries": [ENTRY | {"rate": "5M"}]}, False),
        ({"schema": 1, "term": 1, "entries": [ENTRY | {"ports": ["ICMP:1-2"]}]}, False),
        ({"schema": 1, "term": 1, "entries": [ENTRY | {"color": "red"}]}, False),
    ],
)
def test_slices(asked: World, spec: Object, accepted: bool) -> None:
    """A slice is entries or the head, with a schema and a term."""
    body = {"apiVersion": "clientbandwidth.io/v1alpha1", "kind": "BandwidthPlanSlice", "metadata": {"name": "x"}}
    assert (refusal(asked, SLICES + STRICT, body | {"spec": spec}) == "") == accepted


RULES = (
    "guardRails.protected={10.0.0.0/8,192.168.0.0/16,2001:db8:aaaa::/48}",
    "guardRails.leastRate=1Mbit",
    "guardRails.largestRate=1G",
)


def without_rules(world: World, home: pathlib.Path) -> None:
    """Have the guard rails in force as they are by default: not only the rules gone, but all of it there again."""
    world.policy("guard-rails", home=home)
    world.wait(lambda: not refusal(world, LIMITS + STRICT, limit("x", ["10.1.2.3"])), "the rules are gone")
    probe = limit("guard-rails-probe")
    world.wait(lambda: "rule probe" in refusal(world, LIMITS + STRICT, probe), "the rest is in force")


@pytest.fixture
def guard_rails(world: World, tmp_path: pathlib.Path) -> Iterator[World]:
    """Guard rails in force: protected networks, a least and a largest rate."""
    world.policy("guard-rails", *RULES, home=tmp_path)
    world.wait(lambda: "rule protected" in refusal(world, LIMITS + STRICT, limit("x", ["10.1.2.3"])), "it is in force")
    yield world
    without_rules(world, tmp_path)


def test_guard_rails(guard_rails: World) -> None:
    """Protected networks and rates out of bounds are refused with the name of the rule, the rest passes."""
    for clients, rate, excepted, rule in (
        (["203.0.113.7"], "5Mbit", None, ""),
        (["203.0.113.0/24", "2001:db8::/48"], "5Mbit", None, ""),
        (["10.1.2.3"], "5Mbit", None, "rule protected"),
        (["10.0.0.0/8"], "5Mbit", None, "rule protected"),
        (["10.1.0.0/16"], "5Mbit", None, "rule protected"),
        (["203.0.113.7", "192.168.7.7"], "5Mbit", None, "rule protected"),
        (["192.0.0.0/8"], "5Mbit", None, "rule protected"),
        (["192.0.0.0/8"], "5Mbit", ["192.168.0.0/16"], ""),
        (["192.0.0.0/8"], "5Mbit", ["192.168.0.0/17"], "rule protected"),
        (["2001:db8:aaaa::7"], "5Mbit", None, "rule protected"),
        (["2001:db8::/32"], "5Mbit", None, "rule protected"),
        (["2001:db8::/32"], "5Mbit", ["2001:db8:aaaa::/48"], ""),
        (["203.0.113.7"], "999kbit", None, "rule leastRate"),
        (["203.0.113.7"], "64k", None, "rule leastRate"),
        (["203.0.113.7"], "1Mbit", None, ""),
        (["203.0.113.7"], "1000k", None, ""),
        (["203.0.113.7"], "1Gbit", None, ""),
        (["203.0.113.7"], "1000M", None, ""),
        (["203.0.113.7"], "1.001Gbit", None, "rule largestRate"),
        (["203.0.113.7"], "400G", None, "rule largestRate"),
    ):
        body = limit("x", clients, rate, **({"except": excepted} if excepted else {}))
        message = refusal(guard_rails, LIMITS + STRICT, body)
        assert rule in message if rule else message == "", (clients, rate, excepted, message)


def test_guard_rails_hold_for_edits_of_the_spec_only(world: World, tmp_path: pathlib.Path) -> None:
    """A limit from before the rule keeps its labels editable; its spec has to keep the rule when it changes."""
    world.create(limit("old", ["10.1.2.3"]))
    world.policy("guard-rails", *RULES, home=tmp_path)
    try:
        world.wait(lambda: refusal(world, LIMITS + STRICT, limit("x", ["10.1.2.3"])), "the policy is in force")
        patch = {"content_type": client.MERGE_PATCH}
        path = f"{LIMITS}/old"
        assert refusal(world, path, {"metadata": {"labels": {"a": "b"}}}, "PATCH", **patch) == ""
        assert "rule protected" in refusal(world, path, {"spec": {"egress": {"rate": "6M"}}}, "PATCH", **patch)
        assert refusal(world, path, {"spec": {"clients": ["203.0.113.7"]}}, "PATCH", **patch) == ""
    finally:
        without_rules(world, tmp_path)


def test_the_operator_may_only_try_limits(world: World) -> None:
    """Its right to create them is held to dry runs, by who it is and not by its name or namespace."""
    operator = as_user(world, world.operator_token())
    assert refusal(operator, LIMITS + STRICT, limit("a")) == ""
    assert "rule try-only" in refusal(operator, LIMITS, limit("a"))
    assert "rule probe" in refusal(operator, LIMITS + STRICT, limit("guard-rails-probe"))
    assert world.items(LIMITS) == []


def as_user(world: World, token: str) -> World:
    """The same cluster with another's rights."""
    other = copy.copy(world)
    other.api = client.Client(connection.load(world.plane.kubeconfig("other", token=token)), "test")
    return other


def state_body(node: str) -> Object:
    return {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "NodeBandwidthState",
        "metadata": {"name": node},
        "status": {"schema": 1, "lastReportTime": "2030-01-01T00:00:00Z"},
    }


def test_an_agent_writes_only_the_state_of_its_own_node(world: World) -> None:
    """The node name in the token decides; a token without one writes nothing."""
    world.nodes("node-0", "node-1")
    for name in ("node-0", "node-1"):
        world.api.request("POST", STATES, body=state_body(name))
    agent = as_user(world, world.plane.agent_token(NAMESPACE, "client-bandwidth-agent", "node-0"))
    status, patch = {"status": state_body("")["status"]}, {"content_type": client.MERGE_PATCH}
    assert refusal(agent, f"{STATES}/node-0/status", status, "PATCH", **patch) == ""
    message = refusal(agent, f"{STATES}/node-1/status", status, "PATCH", **patch)
    assert "rule own-node" in message
    assert "bound to node node-0, not to node-1" in message
    assert "rule own-node" in refusal(agent, f"{STATES}?dryRun=All", state_body("node-2"))
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/client-bandwidth-agent/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    unbound = as_user(world, world.api.request("POST", path, body=request)["status"]["token"])
    assert "bound to no node" in refusal(unbound, f"{STATES}/node-0/status", status, "PATCH", **patch)


def test_an_agent_may_do_nothing_else(world: World) -> None:
    """It writes no limits, no slices, no nodes, deletes no state, reads no secrets."""
    world.nodes("node-0")
    world.create(limit("a"))
    world.api.request("POST", STATES, body=state_body("node-0"))
    agent = as_user(world, world.plane.agent_token(NAMESPACE, "client-bandwidth-agent", "node-0"))
    merge = {"content_type": client.MERGE_PATCH}
    for method, path, body, options in (
        ("POST", LIMITS, limit("b"), {}),
        ("PATCH", f"{LIMITS}/a", {"spec": {"reason": "x"}}, merge),
        ("PATCH", f"{LIMITS}/a/status", {"status": {"observedGeneration": 1}}, merge),
        ("DELETE", f"{LIMITS}/a", None, {}),
        ("POST", SLICES, {"metadata": {"name": "plan"}}, {}),
        ("PATCH", "/api/v1/nodes/node-0", {"metadata": {"labels": {"a": "b"}}}, merge),
        ("DELETE", f"{STATES}/node-0", None, {}),
        ("PATCH", f"{STATES}/node-0", {"metadata": {"labels": {"a": "b"}}}, merge),
        ("GET", "/api/v1/secrets", None, {}),
        ("GET", "/api/v1/pods", None, {}),
    ):
        with pytest.raises(client.RefusedError) as caught:
            agent.api.request(method, path, body=body, **options)
        assert caught.value.status == 403, (method, path)


def test_the_operator_may_write_no_spec_and_no_metadata_of_a_limit(world: World) -> None:
    """It patches the status of limits; nothing else of theirs, and no other kind but its own."""
    world.nodes("node-0")
    world.create(limit("a"))
    world.api.request("POST", STATES, body=state_body("node-0"))
    operator = as_user(world, world.operator_token())
    merge = {"content_type": client.MERGE_PATCH}
    assert refusal(operator, f"{LIMITS}/a/status", {"status": {"observedGeneration": 1}}, "PATCH", **merge) == ""
    for method, path, body, options in (
        ("POST", LIMITS, limit("b"), {}),
        ("PATCH", f"{LIMITS}/a", {"spec": {"reason": "x"}}, merge),
        ("PATCH", f"{LIMITS}/a", {"metadata": {"finalizers": ["clientbandwidth.io/x"]}}, merge),
        ("DELETE", f"{LIMITS}/a", None, {}),
        ("PATCH", f"{STATES}/node-0/status", {"status": {}}, merge),
        ("PATCH", "/api/v1/nodes/node-0", {"metadata": {"labels": {"a": "b"}}}, merge),
        ("GET", "/api/v1/secrets", None, {}),
        ("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", None, {}),
        ("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x", None, {}),
    ):
        with pytest.raises(client.RefusedError) as caught:
            operator.api.request(method, path, body=body, **options)
        assert caught.value.status == 403, (method, path)


MANIFEST = """\
apiVersion: clientbandwidth.io/v1alpha1
kind: ClientBandwidthLimit
metadata: {name: a, labels: {team: mail}}
spec:
  clients: [203.0.113.7]
  egress: {rate: 5Mbit}
"""


def test_those_who_apply_see_no_drift_from_us(world: World, tmp_path: pathlib.Path) -> None:
    """Server-side apply twice, plain apply, and a diff: nothing of ours is in the way, nor in metadata or spec."""
    world.agent("node-0")
    world.operator()
    manifest = tmp_path / "a.yaml"
    manifest.write_text(MANIFEST)
    kubectl = world.plane.kubectl
    kubectl("apply", "--server-side", "-f", str(manifest))
    world.wait_ready("a")
    world.settled()
    before = world.get(f"{LIMITS}/a")["metadata"]["resourceVersion"]
    kubectl("apply", "--server-side", "-f", str(manifest))
    assert world.get(f"{LIMITS}/a")["metadata"]["resourceVersion"] == before
    diff = kubectl("diff", "--server-side", "-f", str(manifest), check=False)
    assert (diff.returncode, diff.stdout) == (0, "")
    written = world.get(f"{LIMITS}/a")
    assert "finalizers" not in written["metadata"]
    assert "annotations" not in written["metadata"]
    for entry in written["metadata"]["managedFields"]:
        if entry["manager"] == "bandwidth-operator":
            assert entry["subresource"] == "status"
            assert set(entry["fieldsV1"]) == {"f:status"}
    manifest.write_text(MANIFEST.replace("5Mbit", "6Mbit"))
    kubectl("apply", "--server-side", "-f", str(manifest))
    world.wait(lambda: world.conditions("a")["Ready"]["observedGeneration"] == 2, "the edit is observed")


def test_a_limit_that_got_past_admission_fails_alone(world: World) -> None:
    """A limit that the rules of now refuse says so in its status; the others work; mended, it works too."""
    crd_path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clientbandwidthlimits.clientbandwidth.io"
    crd = world.get(crd_path)
    lax = copy.deepcopy(crd)
    schema = lax["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    world.agent("node-0")
    world.operator()
    try:
        world.api.request("PUT", crd_path, body=lax)
        bad = limit("bad", ["not-an-address"], rate="very fast")
        world.wait(lambda: refusal(world, LIMITS, bad) == "", "the lax CRD is in force")
        world.create(limit("good"))
        world.wait_ready("good")
        world.wait_ready("bad", reason="Invalid")
        accepted = world.conditions("bad")["Accepted"]
        assert accepted["status"] == "False"
        assert "spec.clients[0]" in accepted["message"]
        world.edit("good", clients=["nonsense"])
        world.wait_ready("good", reason="KeptPrevious")
        assert world.agents["node-0"].limits == {"good": 5_000_000}
        world.edit("bad", clients=["203.0.113.9"], egress={"rate": "5Mbit"})
        world.wait_ready("bad")
    finally:
        strict = world.get(crd_path)
        strict["spec"] = crd["spec"]
        world.api.request("PUT", crd_path, body=strict)
        world.clean()
        deadline = time.monotonic() + 30
        while not refusal(world, LIMITS + STRICT, limit("x", ["nonsense"])):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_the_table_of_nodes_tells_at_a_glance(world: World) -> None:
    """kubectl get nodebandwidthstates names the state of each node and why."""
    world.agent("node-0")
    failing = world.agent("node-1")
    failing.fail("a", message="eth0 has a tbf of somebody else")
    world.operator()
    world.create(limit("a"))
    world.wait_ready("a", reason="KernelRefused")
    table = world.plane.kubectl("get", "nodebandwidthstates").stdout.splitlines()
    assert table[0].split()[:5] == ["NAME", "STATE", "DESIRED", "PROGRAMMED", "FAILED"]
    assert table[1].split()[:5] == ["node-0", "InForce", "1", "1", "0"]
    assert table[2].split()[:5] == ["node-1", "Failing", "1", "0", "1"]
    assert "eth0 has a tbf of somebody else" in table[2]
    size = len(json.dumps(world.get(f"{STATES}/node-1")["status"]))
    assert size < 2_048


# ── questions about traffic ────────────────────────────────────────────────────────────────────────────────────


def question(**spec: Any) -> Object:
    return {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "ClientTrafficQuery",
        "metadata": {"name": "look"},
        "spec": spec,
    }


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"seconds": 4}, "spec.seconds"),
        ({"seconds": 61}, "spec.seconds"),
        ({"interval": 1}, "spec.interval"),
        ({"seconds": 10, "interval": 11}, "interval must not be longer"),
        ({"top": 51}, "spec.top"),
        ({"group": "Country"}, "spec.group"),
        ({"nodes": ["a"] * 2}, "spec.nodes"),
        ({"nodes": [f"n{n}" for n in range(65)]}, "spec.nodes"),
        ({"nodes": ["n" * 254]}, "spec.nodes"),
        ({"renewal": -1}, "spec.renewal"),
        ({"clients": ["198.51.100.1"] * 2}, "spec.clients"),
        ({"clients": [f"198.51.100.{n}" for n in range(5)]}, "spec.clients"),
        ({"clients": ["198.51.100.0/33"]}, "write an address, or a network"),
        ({"clients": ["mail.example"]}, "write an address, or a network"),
        ({"every": 1}, "spec.every"),
    ],
)
def test_refused_questions(asked: World, spec: Object, why: str) -> None:
    """A question out of its bounds is refused by the field that is wrong."""
    assert why in refusal(asked, QUERIES + STRICT, question(**spec))


def test_a_question_needs_nothing(asked: World) -> None:
    """An empty spec is a whole question, and the object shows what holds."""
    made = asked.api.request("POST", QUERIES + STRICT, body=question())
    assert made["spec"] == {"seconds": 60, "interval": 2, "top": 20, "group": "Address", "exact": False}


def test_the_bounds_of_the_crds_are_those_of_the_models(asked: World) -> None:
    """An answer and a report as large as the models make them pass the schema, and nothing of them is pruned."""
    rates = (client_rows.Amount(1e9, 1e9),) * 3
    row = traffic_answer.Row(
        "2001:db8::1", (10**9,) * 3, (1.5,) * 3, 10**12, ("TCP:993",) * 4, 99, "n" * 63, ("l",), "x"
    )
    full = traffic_answer.Answer(
        rows=(row,) * 50,
        silent=("n",) * 5,
        troubles=("t",) * 3,
        message="m" * 600,
        total=traffic_answer.Total(sent_bits_per_second=(1, 2, 3)),
    )
    rows = tuple(client_rows.Row(Prefix(4, 0xC0000200 + n, 32), rates, 1e9) for n in range(50))  # type: ignore[arg-type]
    found = tuple(client_rows.Found(n, rates, 1e9) for n in range(100))  # type: ignore[arg-type]
    named = (client_rows.Named(Prefix(4, 0xC0000100, 24), rates, 1e9, 60),) * 16  # type: ignore[arg-type]
    report = client_traffic.Traffic(
        "node-of-the-bounds", 1, 1.7e9, rows=rows, found=found, message="m" * 200, sent=(1.0,) * 3, named=named
    )
    asked.nodes("node-of-the-bounds")
    made = {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "NodeClientTraffic",
        "metadata": {"name": "node-of-the-bounds"},
    }
    asked.api.request("POST", QUERIES, body=question())
    asked.api.request("POST", TRAFFIC, body=made)
    for path, status in (
        (f"{QUERIES}/look", traffic_answer.write_answer(full)),
        (f"{TRAFFIC}/node-of-the-bounds", client_traffic.write(report)),
    ):
        merge = {"content_type": client.MERGE_PATCH}
        got = asked.api.request("PATCH", f"{path}/status?fieldValidation=Strict", body={"status": status}, **merge)
        assert got["status"] == status
        asked.api.request("DELETE", path)
    asked.api.request("DELETE", f"{NODES}/node-of-the-bounds")


def test_an_agent_writes_only_the_traffic_of_its_own_node(world: World) -> None:
    """A report about another node, with labels, or by a token that is bound to no node is refused; nobody may ask."""
    world.nodes("node-0", "node-1")
    agent = as_user(world, world.agent_token("node-0"))

    def body(node: str, **metadata: Any) -> Object:
        made = state_body(node) | {"kind": "NodeClientTraffic"}
        return made | {"metadata": made["metadata"] | metadata}

    uid = world.get(f"{NODES}/node-0")["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": "node-0", "uid": uid}
    assert refusal(agent, TRAFFIC, body("node-0", ownerReferences=[owner])) == ""
    merge = {"content_type": client.MERGE_PATCH}
    report = {"status": client_traffic.write(client_traffic.Traffic("node-0", 1, 1.7e9))}
    written = f"{TRAFFIC}/node-0/status?fieldManager=bandwidth-agent"
    assert refusal(agent, written, report, "PATCH", **merge) == ""
    assert refusal(agent, written, {"status": None}, "PATCH", **merge) == ""
    assert "rule own-node" in refusal(agent, TRAFFIC, body("node-1"))
    assert "rule own-node" in refusal(agent, f"{TRAFFIC}?dryRun=All", body("node-0", labels={"a": "b"}))
    world.api.request("POST", TRAFFIC, body=body("node-1"))
    assert "rule own-node" in refusal(agent, f"{TRAFFIC}/node-1/status", report, "PATCH", **merge)
    for method, path, what in (
        ("GET", f"{TRAFFIC}/node-0", None),
        ("GET", TRAFFIC, None),
        ("DELETE", f"{TRAFFIC}/node-0", None),
        ("PATCH", f"{TRAFFIC}/node-0", {"metadata": {"labels": {"a": "b"}}}),
        ("GET", QUERIES, None),
        ("POST", QUERIES, question()),
    ):
        options = merge if method == "PATCH" else {}
        with pytest.raises(client.RefusedError) as refused:
            agent.api.request(method, path, body=what, **options)
        assert refused.value.status == 403, (method, path)


def test_a_question_names_nobody_else_as_its_author(asked: World) -> None:
    """Who asks may sign with the name that the API server knows, or not at all; a renewal keeps what is there."""

    def signed(author: str, renewal: int = 0) -> Object:
        made = question(renewal=renewal)
        return made | {"metadata": made["metadata"] | {"annotations": {"clientbandwidth.io/author": author}}}

    assert "names eve, and who asks is admin" in refusal(asked, f"{QUERIES}?dryRun=All", signed("eve"))
    assert refusal(asked, f"{QUERIES}?dryRun=All", question()) == ""
    assert refusal(asked, QUERIES, signed("admin")) == ""
    merge = {"content_type": client.MERGE_PATCH}
    assert refusal(asked, f"{QUERIES}/look", {"spec": {"renewal": 2}}, "PATCH", **merge) == ""
    forged = {"metadata": {"annotations": {"clientbandwidth.io/author": "eve"}}}
    assert "rule author" in refusal(asked, f"{QUERIES}/look", forged, "PATCH", **merge)
    asked.api.request("DELETE", f"{QUERIES}/look")


def test_who_may_ask(world: World) -> None:
    """The right to ask is added to the role admin, and to neither edit nor view."""
    role = world.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/client-bandwidth-traffic")
    aggregated = {k for k, v in role["metadata"]["labels"].items() if k.startswith("rbac.") and v == "true"}
    assert aggregated == {"rbac.authorization.k8s.io/aggregate-to-admin"}
    assert {r for rule in role["rules"] for r in rule["resources"]} == {"clienttrafficqueries", "nodeclienttraffics"}
    assert all(
        set(rule["verbs"]) == {"get", "list", "watch"}
        for rule in role["rules"]
        if "nodeclienttraffics" in rule["resources"]
    )
    for each in world.items("/apis/rbac.authorization.k8s.io/v1/clusterroles"):
        named = {r for rule in each.get("rules") or () for r in rule.get("resources") or ()}
        if "clienttrafficqueries" in named:
            assert each["metadata"]["name"] in ("client-bandwidth-traffic", "client-bandwidth-operator", "admin")
