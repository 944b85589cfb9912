"""The policies are never off without a word: after every way to install them, and whatever is done to them."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from bandwidth_api import addresses
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import client_traffic, node_state, watched
from bandwidth_api.crds.watched import Span, Watched
from bandwidth_kube import client, connection
from bandwidth_lab import control_plane
from cluster import helm
from cluster.world import LIMITS, STATES, TRAFFIC, Object, World, get, limit

RULES = ("guardRails.protected={10.0.0.0/8}", "guardRails.leastRate=1Mbit")
SAID = json.dumps({"protected": ["10.0.0.0/8"], "leastRate": "1Mbit"})
POLICY = "validatingadmissionpolicy/client-bandwidth-guard-rails"
BINDING = "validatingadmissionpolicybinding/client-bandwidth-guard-rails"
SECONDS = 60.0


def refusal(api: client.Client, body: Object, path: str = LIMITS, method: str = "POST", **options: Any) -> str:
    """What the API server answers to a write that is only tried: "" if it accepts it."""
    try:
        api.request(method, f"{path}?dryRun=All", body=body, **options)
    except client.RefusedError as refused:
        if refused.temporary:
            raise
        return refused.message or refused.reason
    return ""


# ── nothing in a string that depends on the namespace ──────────────────────────────────────────────────────────


def strings(at: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(at, dict):
        for key, below in at.items():
            yield from strings(below, (*path, str(key)))
    elif isinstance(at, list):
        for below in at:
            yield from strings(below, path)
    elif isinstance(at, str):
        yield path, at


@pytest.mark.parametrize("values", sorted((pathlib.Path(__file__).parent / "chart" / "values").glob("*.yaml")), ids=str)
def test_the_namespace_is_where_tools_look_for_it(values: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Tools that move an installation change `namespace` fields; no expression, name or argument holds it too."""
    text = helm.template("--namespace", "some-namespace", "--values", str(values), home=tmp_path)
    found = 0
    for document in yaml.safe_load_all(text):
        for path, value in strings(document):
            if "some-namespace" in value:
                assert (path[-1], value) == ("namespace", "some-namespace"), (path, value)
                found += 1
    assert found


@pytest.mark.parametrize("values", sorted((pathlib.Path(__file__).parent / "chart" / "values").glob("*.yaml")), ids=str)
def test_no_policy_can_fail_open(values: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Each fails closed, is bound to deny, and has no parameters that could be gone."""
    documents = [d for d in yaml.safe_load_all(helm.template("--values", str(values), home=tmp_path)) if d]
    policies = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "ValidatingAdmissionPolicy"}
    bindings = {
        d["spec"]["policyName"]: d["spec"] for d in documents if d["kind"] == "ValidatingAdmissionPolicyBinding"
    }
    assert policies.keys() == bindings.keys()
    optional = {"client-bandwidth-author", "client-bandwidth-made-limits"}  # where questions and policies are on
    assert policies.keys() - optional == {"client-bandwidth-guard-rails", "client-bandwidth-own-node"}
    for spec in policies.values():
        assert spec["failurePolicy"] == "Fail"
        assert "paramKind" not in spec
    for spec in bindings.values():
        assert spec["validationActions"] == ["Deny"]
        assert "paramRef" not in spec


# ── other ways to install ──────────────────────────────────────────────────────────────────────────────────────


class Elsewhere:
    """An API server of its own."""

    def __init__(self, plane: control_plane.ControlPlane, home: pathlib.Path) -> None:
        self.plane, self.home = plane, home
        self.world = World(plane, home)

    def as_user(self, token: str) -> client.Client:
        return client.Client(connection.load(self.plane.kubeconfig("other", token=token)), "test")

    def helm(self, *words: str) -> None:
        helm.run(*words, "--namespace", "net", home=self.home, kubeconfig=self.plane.kubeconfig())

    def installed(self) -> None:
        settings = [word for rule in RULES for word in ("--set", rule)]
        self.helm("install", "cbo", str(helm.CHART), "--create-namespace", *settings)
        self.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")

    def holds(self) -> bool:
        return "rule protected" in refusal(self.world.api, limit("x", ["10.1.2.3"]))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    with control_plane.running() as plane:
        made = Elsewhere(plane, tmp_path_factory.mktemp("elsewhere"))
        yield made
        made.world.close()


def test_guard_rails_hold_after_every_installation(elsewhere: Elsewhere) -> None:
    """Uninstalled and installed again, policy and binding away in between: they hold each time, and follow values."""
    for _ in range(3):
        elsewhere.installed()
        elsewhere.world.wait(elsewhere.holds, "10.0.0.0/8 is protected")
        elsewhere.helm("uninstall", "cbo", "--no-hooks")
        elsewhere.world.wait(lambda: not elsewhere.holds(), "the policy is gone")
    elsewhere.installed()
    elsewhere.world.wait(elsewhere.holds, "10.0.0.0/8 is protected")
    elsewhere.helm("upgrade", "cbo", str(helm.CHART), "--set", "guardRails.protected={203.0.113.0/24}")
    elsewhere.world.wait(lambda: not elsewhere.holds(), "10.0.0.0/8 is protected no more")
    assert "rule protected" in refusal(elsewhere.world.api, limit("x", ["203.0.113.9"]))
    elsewhere.helm("uninstall", "cbo", "--no-hooks")


def test_an_installation_that_kustomize_moved(elsewhere: Elsewhere, tmp_path: pathlib.Path) -> None:
    """With `namespace:` of kustomize all is in force as before: both policies, and the rights of both programs."""
    (tmp_path / "all.yaml").write_text(helm.template(*(w for r in RULES for w in ("--set", r)), home=tmp_path))
    (tmp_path / "kustomization.yaml").write_text("namespace: net-system\nresources: [all.yaml]\n")
    plane, world = elsewhere.plane, elsewhere.world
    moved = plane.kubectl("kustomize", str(tmp_path)).stdout
    plane.kubectl("create", "namespace", "net-system")
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=moved)
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    world.wait(elsewhere.holds, "10.0.0.0/8 is protected")
    world.nodes("node-0", "node-1")
    agent = elsewhere.as_user(plane.agent_token("net-system", "client-bandwidth-agent", "node-0"))
    assert refusal(agent, state_of(world, "node-0"), STATES) == ""
    world.wait(lambda: "rule own-node" in refusal(agent, state_of(world, "node-1"), STATES), "own-node holds")
    operator = elsewhere.as_user(
        plane.kubectl("-n", "net-system", "create", "token", "client-bandwidth-operator").stdout.strip()
    )
    event = {
        "metadata": {"generateName": "x-", "namespace": "default"},
        "involvedObject": {"apiVersion": "clientbandwidth.io/v1alpha1", "kind": "ClientBandwidthLimit", "name": "x"},
        "reason": "X",
        "type": "Normal",
    }
    assert refusal(operator, event, "/api/v1/namespaces/default/events") == ""
    with pytest.raises(client.RefusedError, match="rule try-only"):
        operator.request("POST", LIMITS, body=limit("a"))


# ── when they are switched off ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def railed(world: World, tmp_path: pathlib.Path) -> Iterator[World]:
    """Guard rails in force, an operator that knows which, a node at the plan."""
    world.policy("guard-rails", *RULES, home=tmp_path)
    world.wait(lambda: "rule protected" in refusal(world.api, limit("x", ["10.1.2.3"])), "it is in force")
    world.agent("node-0")
    world.create(limit("a"))
    yield world
    world.policy("guard-rails", home=tmp_path)
    world.wait(lambda: not refusal(world.api, limit("x", ["10.1.2.3"])), "the rules are gone")


def check(world: World) -> subprocess.CompletedProcess[str]:
    """What `helm test` runs, as its pod."""
    kubeconfig = world.plane.kubeconfig("operator", token=world.operator_token())
    command = (
        sys.executable,
        "-m",
        "bandwidth_operator.cli",
        "check",
        "--timeout",
        "3",
        "--kubeconfig",
        str(kubeconfig),
    )
    environment = {"PATH": os.environ["PATH"], "POD_NAMESPACE": "client-bandwidth", "GUARD_RAILS": SAID}
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment)


def binding_only_warns(world: World) -> None:
    patch = json.dumps({"spec": {"validationActions": ["Warn"]}})
    world.plane.kubectl("patch", BINDING, "--type=merge", "-p", patch)


def policy_is_deleted(world: World) -> None:
    world.plane.kubectl("delete", POLICY)


def binding_is_deleted(world: World) -> None:
    world.plane.kubectl("delete", BINDING)


def one_rule_is_edited(world: World) -> None:
    """The variable of the protected networks is the first one."""
    patch = json.dumps([{"op": "replace", "path": "/spec/variables/0/expression", "value": "[]"}])
    world.plane.kubectl("patch", POLICY, "--type=json", "-p", patch)


@pytest.mark.parametrize("switch", [binding_only_warns, policy_is_deleted, binding_is_deleted, one_rule_is_edited])
def test_guard_rails_that_are_off_are_told(switch: Callable[[World], None], railed: World) -> None:
    """`check` fails and names the rule as soon as a limit that breaks it is accepted; before, it is content."""
    railed.operator()
    railed.wait_ready("a")
    done = check(railed)
    assert (done.returncode, done.stderr) == (0, "")
    switch(railed)
    railed.wait(lambda: not refusal(railed.api, limit("x", ["10.1.2.3"])), "10.0.0.0/8 is protected no more")
    done = check(railed)
    assert done.returncode == 1
    assert "guard rail protected is not in force: 10.0.0.0/8 is not refused" in done.stderr
    assert ("guard rail probe" in done.stderr) == (switch is not one_rule_is_edited)
    assert railed.items(LIMITS)[0]["metadata"]["name"] == "a"


def test_the_operator_counts_guard_rails_that_are_off(railed: World) -> None:
    """Its metric, which an alert looks at, is 1 while the policy refuses and 0 when it does not."""
    operator = railed.operator("operator", "--metrics-address", "127.0.0.1:0")
    port = railed.wait(lambda: port_of(operator.log), "it serves")
    railed.wait(lambda: value_of(port, "probe") == 1.0, "the guard rails are in force")
    policy_is_deleted(railed)
    railed.wait(lambda: value_of(port, "probe") == 0.0, "they are not", SECONDS)
    assert "guard rail probe is not in force" in operator.log


def port_of(log: str) -> str:
    return next((str(json.loads(line)["port"]) for line in log.splitlines() if '"serving"' in line), "")


def value_of(port: str, rule: str) -> float | None:
    prefix = f'bandwidth_operator_guard_rail_in_force{{rule="{rule}"}} '
    lines = get(port, "/metrics")[1].splitlines()
    return next((float(line.removeprefix(prefix)) for line in lines if line.startswith(prefix)), None)


# ── what an agent may write ────────────────────────────────────────────────────────────────────────────────────


def state_of(world: World, node: str, **metadata: Any) -> Object:
    """The object as an agent makes it, with more in its metadata."""
    uid = world.get(f"/api/v1/nodes/{node}")["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
    return {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "NodeBandwidthState",
        "metadata": {"name": node, "ownerReferences": [owner], **metadata},
    }


LARGE = {f"example.org/{n}": "x" * 60 for n in range(2000)}
FOREIGN = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1"}


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"labels": LARGE}, "no labels"),
        ({"annotations": {"a": "b"}}, "no annotations"),
        ({"finalizers": ["example.org/never"]}, "no finalizers"),
        ({"ownerReferences": []}, "one owner"),
        ({"ownerReferences": [FOREIGN]}, "one owner"),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "1"}]}, "one owner"),
    ],
    ids=["labels", "annotations", "finalizers", "nobody's", "a pod's", "another node's"],
)
def test_an_agent_makes_nothing_but_the_state_of_its_node(metadata: Object, named: str, world: World) -> None:
    """Own name, own Node as the one owner, and nothing that makes it large or keeps it from being deleted."""
    world.nodes("node-0", "node-1")
    agent = client.Client(connection.load(world.agent_kubeconfig("node-0")), "test")
    message = refusal(agent, state_of(world, "node-0", **metadata), STATES)
    assert "rule own-node" in message
    assert named in message
    owner = state_of(world, "node-0")["metadata"]["ownerReferences"][0]
    for owners in (
        [owner, {**FOREIGN, "uid": "2"}],
        [{**owner, "blockOwnerDeletion": True}],
        [owner | {"controller": True}],
    ):
        assert "one owner" in refusal(agent, state_of(world, "node-0", ownerReferences=owners), STATES)
    assert refusal(agent, state_of(world, "node-0"), STATES) == ""


def test_a_report_changes_the_status_alone(world: World) -> None:
    """What comes along with it in metadata is not taken; names of managers cannot fill the object."""
    world.nodes("node-0")
    agent = client.Client(connection.load(world.agent_kubeconfig("node-0")), "test")
    agent.request("POST", STATES, body=state_of(world, "node-0"))
    path = f"{STATES}/node-0/status"
    status = {"schema": 1, "lastReportTime": "2030-01-01T00:00:00Z"}
    body = {"metadata": {"labels": {"a": "b"}, "finalizers": ["example.org/never"]}, "status": status}
    agent.request("PATCH", path, body=body, content_type=client.MERGE_PATCH)
    metadata = world.get(f"{STATES}/node-0")["metadata"]
    assert "labels" not in metadata
    assert "finalizers" not in metadata
    head = {"apiVersion": "clientbandwidth.io/v1alpha1", "kind": "NodeBandwidthState", "metadata": {"name": "node-0"}}
    refused = ""
    for number in range(40):
        query = {"fieldManager": f"m{number:0100d}", "force": "true"}
        try:
            agent.request("PATCH", path, query=query, body=head | {"status": status}, content_type=client.APPLY_PATCH)
        except client.RefusedError as error:
            refused = error.message
    assert "few names of field managers" in refused
    assert len(json.dumps(world.get(f"{STATES}/node-0"))) < 16_000
    patch = {"status": {"message": "well"}}
    agent.request("PATCH", path, query={"fieldManager": "bandwidth-agent"}, body=patch, content_type=client.MERGE_PATCH)


def managed(**fields: Any) -> list[Object]:
    """What a client says of the fields that it manages."""
    entry = {"manager": "x", "operation": "Update", "apiVersion": "clientbandwidth.io/v1alpha1"}
    return [entry | {"time": "2030-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields}]


WIDE: Object = {f"f:{n}": {} for n in range(5000)}


@pytest.mark.parametrize(
    "fields",
    [
        managed(**{"f:metadata": {"f:labels": WIDE}}),
        managed(**{"f:status": WIDE}),
        managed(**{"f:status": {"f:failing": {"f:a": {"f:b": {"f:c": WIDE}}}}}),
        managed(**{"f:status": {"f:" + "x" * 50_000: {}}}),
        managed(**{"f:spec": {}}),
    ],
    ids=["labels", "fields", "deep", "long", "elsewhere"],
)
def test_managed_fields_cannot_fill_a_state(fields: list[Object], world: World) -> None:
    """The API server takes from a client what it says of them, and the state stays small all the same; a report that
    says nothing of them is as ever, also where an administrator has put labels onto the state."""
    world.nodes("node-0")
    agent = client.Client(connection.load(world.agent_kubeconfig("node-0")), "test")
    filling = state_of(world, "node-0", managedFields=fields)
    path = f"{STATES}/node-0/status"
    with contextlib.suppress(client.RefusedError):  # or it is taken as what it can be
        agent.request("POST", STATES, body=filling)
    assert len(json.dumps(world.items(STATES))) < 4_000
    world.api.request("DELETE", STATES)
    agent.request("POST", STATES, query={"fieldManager": "bandwidth-agent"}, body=state_of(world, "node-0"))
    body = {"metadata": {"managedFields": [fields[0] | {"subresource": "status"}]}, "status": {"message": "x"}}
    with contextlib.suppress(client.RefusedError):
        agent.request("PATCH", path, body=body, content_type=client.MERGE_PATCH)
    assert len(json.dumps(world.items(STATES))) < 4_000
    labels = {"metadata": {"labels": {f"example.org/{'x' * 60}{n}": "y" for n in range(30)}}}
    world.api.request("PATCH", f"{STATES}/node-0", body=labels, content_type=client.MERGE_PATCH)
    failing = tuple(Problem(Reason.KERNEL_REFUSED, "why", name=f"limit-{n}") for n in range(8))
    interfaces = (node_state.InterfaceState("eth0", "fq_codel", "Ifb", "why"),)
    report = node_state.NodeState("node-0", "d", True, 1.9e9, 9, 1, 8, failing, interfaces, "mark", "why", ("cake",))
    full = node_state.write(report)
    for status in (full, full | {"message": "well"}):
        query = {"fieldManager": "bandwidth-agent"}
        agent.request("PATCH", path, query=query, body={"status": status}, content_type=client.MERGE_PATCH)


def test_a_report_to_policies_comes_through(world: World) -> None:
    """As an agent writes it, beside an answer to a question, and without that when nobody asks any more."""
    world.nodes("node-0")
    agent = client.Client(connection.load(world.agent_kubeconfig("node-0")), "test")
    path = f"{TRAFFIC}/node-0/status"

    def writes(status: Object) -> client_traffic.Traffic:
        query = {"fieldManager": "bandwidth-agent"}
        agent.request("PATCH", path, query=query, body={"status": status}, content_type=client.MERGE_PATCH)
        read = client_traffic.read(world.api.request("GET", f"{TRAFFIC}/node-0"))
        assert read is not None
        return read

    made = state_of(world, "node-0")
    agent.request("POST", TRAFFIC, body=made | {"kind": client_traffic.KIND})
    clients = tuple(watched.Client(addresses.parse(f"2001:db8:{n}::/64"), 5e9, 7) for n in range(1, 301))
    full = Watched(2, Span(5.003, 1e9), Span(100.0, 1e9), 10**10, clients, clients[-10:])
    writes(client_traffic.write(client_traffic.Traffic("node-0", 3, message="well")))
    both = writes(client_traffic.write_watched(full))
    assert both.watched == watched.read(watched.write(full))
    assert (both.renewal, both.message) == (3, "well")
    alone = writes(client_traffic.write_watched(Watched(3, trouble="it may not look"), alone=True))
    assert alone.watched == Watched(3, trouble="it may not look")
    assert (alone.renewal, alone.message) == (0, "")
    assert set(world.api.request("GET", f"{TRAFFIC}/node-0")["status"]) == {"schema", "watched"}


def test_a_report_is_bounded(world: World) -> None:
    """Each text and list of a status has a bound: the largest that is accepted is small."""
    world.nodes("node-0")
    agent = client.Client(connection.load(world.agent_kubeconfig("node-0")), "test")
    agent.request("POST", STATES, body=state_of(world, "node-0"))
    crd = yaml.safe_load((helm.ROOT / "deploy" / "crds" / "nodebandwidthstates.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert largest(schema) < 64_000
    for field, value in (
        ("message", "x" * 2000),
        ("lastReportTime", "2030-01-01T00:00:00." + "0" * 2000 + "Z"),
        ("missingFeatures", ["x"] * 100),
        ("planDigest", "x" * 100),
        ("verified", ["x"] * 101),
        ("verified", ["\N{GRINNING FACE}" * 253]),
    ):
        status = {"status": {field: value}}
        path = f"{STATES}/node-0/status"
        assert refusal(agent, status, path, "PATCH", content_type=client.MERGE_PATCH), field


def test_a_report_about_traffic_is_bounded() -> None:
    """The largest that an agent could write, whoever has taken it over, is small."""
    crd = yaml.safe_load((helm.ROOT / "deploy" / "crds" / "nodeclienttraffics.yaml").read_text())
    assert largest(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]) < 64_000


ASCII = ("^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "^[ -~]*$")  # patterns of text in which a character is a byte


def largest(schema: Object) -> int:
    """Bytes of the largest value that it allows, four for each character that may be any."""
    match schema["type"]:
        case "object":
            return sum(len(name) + 6 + largest(below) for name, below in schema["properties"].items())
        case "array":
            return int(schema["maxItems"]) * (largest(schema["items"]) + 2)
        case "string":
            return int(schema["maxLength"]) * (1 if schema.get("pattern") in ASCII else 4) + 2
    return 24
