"""What the operator may write of limits where policies are enabled: those that a policy made, and no person's."""

from __future__ import annotations

import copy
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bandwidth_api import names
from bandwidth_api.crds import policy as policies
from bandwidth_api.plan import Prefix
from bandwidth_api.policy import made_limit
from bandwidth_api.policy.decision import Decision, What
from bandwidth_kube import client, connection
from cluster import helm
from cluster.test_admission import STRICT, refusal
from cluster.world import LIMITS, POLICIES, Object, World, limit

pytestmark = pytest.mark.xdist_group("admission")

RIGHTS = "client-bandwidth-operator"
CLIENT = Prefix(4, 0xCB007107, 32)  # 203.0.113.7
MERGE = {"content_type": client.MERGE_PATCH}
ENABLED = "policies.enabled=true"


@pytest.fixture
def enabled(world: World, tmp_path: pathlib.Path) -> Iterator[World]:
    """A cluster with policies enabled: the rights of the operator, and what holds it to its own."""
    path = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{RIGHTS}"
    before = world.get(path)
    rendered = yaml.safe_load_all(
        helm.template("--show-only", "templates/operator/access.yaml", "--set", ENABLED, home=tmp_path)
    )
    (role,) = [each for each in rendered if each and each["kind"] == "ClusterRole"]
    world.api.request("PATCH", path, body={"rules": role["rules"]}, **MERGE)
    world.policy("made-limits", ENABLED, home=tmp_path)
    operator = as_operator(world)
    world.wait(lambda: "rule made-limits" in refusal(operator, LIMITS, limit("x")), "the policy is in force")
    world.api.request("DELETE", LIMITS)  # what was accepted before it was
    yield world
    world.api.request("PATCH", path, body={"rules": before["rules"]}, **MERGE)
    text = helm.policy("made-limits", ENABLED, home=tmp_path)
    world.plane.kubectl("delete", "-f", "-", stdin=text)
    world.clean()


def as_operator(world: World) -> World:
    """The same cluster with the operator's rights."""
    other = copy.copy(world)
    other.api = client.Client(connection.load(world.plane.kubeconfig("other", token=world.operator_token())), "test")
    return other


def written(world: World, name: str = "fair-use") -> tuple[Object, Object]:
    """A policy that is there, and the limit that it makes."""
    spec: Object = {"when": {"rate": {"above": "40Mbit"}}, "then": {"steps": [{"rate": "10Mbit", "ttlSeconds": 600}]}}
    spec["watch"] = {"ports": [{"port": 993}], "nodeSelector": {"matchLabels": {"role": "edge"}}}
    spec["then"] |= {"mode": "Enforce", "labels": {"team": "mail"}, "reason": "fair use"}
    made = world.api.request(
        "POST",
        POLICIES,
        body={"apiVersion": names.API_VERSION, "kind": names.POLICY_KIND, "metadata": {"name": name}, "spec": spec},
    )
    parsed = policies.parse(made)
    assert isinstance(parsed, policies.Policy), parsed
    called = made_limit.name(name, CLIENT)
    decision = Decision(2e9, name, CLIENT, What.LIMITED, "47 Mbit", True, called, 1, 10_000_000, 2e9 + 600)
    return made, made_limit.document(parsed, decision)


def test_a_made_limit_is_made_changed_and_deleted(enabled: World) -> None:
    """The object that the models write passes the schema and every policy, is read back as made, and goes again."""
    operator = as_operator(enabled)
    _, document = written(enabled)
    assert refusal(operator, LIMITS + "?fieldValidation=Strict", document) == ""
    path = f"{LIMITS}/{document['metadata']['name']}"
    stored = enabled.get(path)
    filled = {"mode": "Enforce", "priority": 0}
    egress = {"sharing": "Shared", "distribution": "PerNode"} | document["spec"]["egress"]
    assert stored["spec"] == filled | document["spec"] | {"egress": egress}
    assert stored["metadata"]["labels"] == {"team": "mail", names.POLICY: "fair-use"}
    assert stored["metadata"]["ownerReferences"][0]["kind"] == names.POLICY_KIND
    patch: Object = {"metadata": {"annotations": {names.POLICY_STEP: "2"}}, "spec": {"egress": {"rate": "5Mbit"}}}
    assert refusal(operator, path, patch, "PATCH", **MERGE) == ""
    operator.api.request("DELETE", path)
    assert enabled.items(LIMITS) == []


def _changed(document: Object, where: str, value: Any) -> Object:
    made = copy.deepcopy(document)
    part, name = where.split(".")
    if value is None:
        made[part].pop(name)
    else:
        made[part][name] = value
    return made


def test_what_is_no_limit_of_a_policy_is_refused(enabled: World) -> None:
    """Without the label, under another name, without an end, for two clients, with a priority, of another owner."""
    operator = as_operator(enabled)
    _, document = written(enabled)
    owner = document["metadata"]["ownerReferences"][0]
    for where, value, why in (
        ("metadata.labels", {"team": "mail"}, "with the label"),
        ("metadata.labels", {names.POLICY: "other"}, "called POLICY-HASH"),
        ("metadata.name", "of-a-person", "called POLICY-HASH"),
        ("metadata.ownerReferences", None, "one owner"),
        ("metadata.ownerReferences", [owner | {"name": "other"}], "one owner"),
        ("metadata.ownerReferences", [owner | {"kind": "Node", "apiVersion": "v1"}], "one owner"),
        ("metadata.ownerReferences", [owner | {"blockOwnerDeletion": True}], "one owner"),
        ("metadata.finalizers", ["example.com/stay"], "finalizers"),
        ("spec.expiresAt", None, "ends by itself"),
        ("spec.clients", ["203.0.113.7", "203.0.113.8"], "one client"),
        ("spec.priority", 5, "no priority"),
    ):
        message = refusal(operator, LIMITS, _changed(document, where, value))
        assert "made-limits" in message or "blockOwnerDeletion" in message, (where, value, message)
        assert why in message or "blockOwnerDeletion" in message, (where, value, message)
    without_end = _changed(document, "spec.expiresAt", None)
    without_end["spec"]["ttlSeconds"] = 600
    assert "ends by itself" in refusal(operator, LIMITS, without_end)
    assert enabled.items(LIMITS) == []


def test_a_persons_limit_is_neither_changed_nor_taken_over_nor_deleted(enabled: World) -> None:
    """Not one byte of it; nor is a made limit given to another policy, or to nobody."""
    operator = as_operator(enabled)
    _, document = written(enabled)
    enabled.create(limit("by-hand"))
    enabled.create(limit("fair-use-0000000000"))
    before = [enabled.get(f"{LIMITS}/{name}") for name in ("by-hand", "fair-use-0000000000")]
    for name in ("by-hand", "fair-use-0000000000"):
        path = f"{LIMITS}/{name}"
        for patch in (
            {"spec": {"egress": {"rate": "1Mbit"}}},
            {"metadata": {"labels": {names.POLICY: "fair-use"}}, "spec": {"expiresAt": "2060-01-01T00:00:00Z"}},
        ):
            assert "neither changes nor deletes" in refusal(operator, path, patch, "PATCH", **MERGE)
        with pytest.raises(client.RefusedError, match="neither changes nor deletes"):
            operator.api.request("DELETE", path)
        with pytest.raises(client.RefusedError):
            operator.api.request("DELETE", LIMITS)  # all of them: a right that it does not have
    assert [enabled.get(f"{LIMITS}/{name}") for name in ("by-hand", "fair-use-0000000000")] == before
    operator.api.request("POST", LIMITS, body=document)
    path = f"{LIMITS}/{document['metadata']['name']}"
    for labels in ({names.POLICY: None}, {names.POLICY: "fair"}):
        assert "rule made-limits" in refusal(operator, path, {"metadata": {"labels": labels}}, "PATCH", **MERGE)
    end = {"spec": {"expiresAt": None}}
    assert "ends by itself" in refusal(operator, path, end, "PATCH", **MERGE)


def test_persons_and_dry_runs_are_not_concerned(enabled: World) -> None:
    """Administrators write what they want; the operator tries whether guard rails are in force, and leaves nothing."""
    operator = as_operator(enabled)
    _, document = written(enabled)
    assert refusal(operator, LIMITS + STRICT, limit("a")) == ""
    assert "rule probe" in refusal(operator, LIMITS + STRICT, limit("guard-rails-probe"))
    mine = limit("mine")
    mine["metadata"]["labels"] = {names.POLICY: "fair-use"}
    assert refusal(enabled, LIMITS, mine) == ""
    enabled.api.request("POST", LIMITS, body=document)
    enabled.api.request("DELETE", f"{LIMITS}/{document['metadata']['name']}")
    for verb, path in (("PATCH", f"{POLICIES}/fair-use"), ("DELETE", f"{POLICIES}/fair-use"), ("POST", POLICIES)):
        options: Object = MERGE if verb == "PATCH" else {}
        body = {"spec": {"priority": 5}} if verb != "DELETE" else None
        with pytest.raises(client.RefusedError) as refused:
            operator.api.request(verb, path, body=body, **options)
        assert refused.value.status == 403, verb
    status = {"status": {"observedGeneration": 1}}
    assert refusal(operator, f"{POLICIES}/fair-use/status", status, "PATCH", **MERGE) == ""
