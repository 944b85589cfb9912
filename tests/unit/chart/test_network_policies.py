"""Who reaches the pods of the chart where it brings NetworkPolicies, as Kubernetes defines what these mean."""

from __future__ import annotations

from typing import Any

import pytest

from unit.chart import renders

Object = dict[str, Any]
WITH = [name for name in renders.NAMES if any(each["kind"] == "NetworkPolicy" for each in renders.objects(name))]


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector, of the kinds that the chart uses, finds these labels."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    assert all(each["operator"] == "In" for each in selector.get("matchExpressions", ()))
    exact = selector.get("matchLabels", {}).items() <= labels.items()
    return exact and all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", ()))


def pods(name: str) -> dict[str, Object]:
    """The pods of a render by the name of their program: labels and spec."""
    templates = [
        each if each["kind"] == "Pod" else each["spec"].get("template")
        for each in renders.objects(name)
        if each["kind"] in ("DaemonSet", "Deployment", "Job", "Pod")
    ]
    return {each["metadata"]["labels"]["app.kubernetes.io/name"]: each for each in templates}


def policies(name: str, labels: dict[str, str], direction: str) -> list[Object]:
    """The policies that narrow what pods with these labels receive ("Ingress") or send ("Egress")."""
    found = [each["spec"] for each in renders.objects(name) if each["kind"] == "NetworkPolicy"]
    return [each for each in found if selects(each["podSelector"], labels) and direction in each["policyTypes"]]


def test_without_the_value_there_is_none() -> None:
    """Off by default, and the two renders that switch it on are those looked at below."""
    assert WITH == ["everything", "minimal"]


def test_who_is_named_reaches_the_metrics() -> None:
    """A peer of networkPolicy.from may come to the port that the operator's pods serve metrics on, and no other."""
    operator = pods("everything")["client-bandwidth-operator"]
    ports = [each["containerPort"] for each in operator["spec"]["containers"][0]["ports"] if each["name"] == "metrics"]
    (policy,) = policies("everything", operator["metadata"]["labels"], "Ingress")
    (rule,) = policy["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert [(each["port"], each["protocol"]) for each in rule["ports"]] == [(port, "TCP") for port in ports]


@pytest.mark.parametrize("name", WITH)
def test_where_nobody_is_named_nobody_comes_in(name: str) -> None:
    """Each pod with an address of its own is narrowed, by a policy without a rule or with peers: an empty list of peers
    would mean all of them."""
    for program, pod in pods(name).items():
        if pod["spec"].get("hostNetwork"):
            continue  # it has its node's addresses, to which no NetworkPolicy applies
        (policy,) = policies(name, pod["metadata"]["labels"], "Ingress")
        assert all(rule["from"] and rule["ports"] for rule in policy.get("ingress", ())), program
        if program != "client-bandwidth-operator" or name == "minimal":
            assert not policy.get("ingress"), program


@pytest.mark.parametrize(("name", "narrowed"), [("everything", 1), ("minimal", 0)])
def test_what_is_sent_is_narrowed_only_where_it_is_said_how(name: str, narrowed: int) -> None:
    """With networkPolicy.egress every such pod sends there alone; without it no pod is cut off from the API server."""
    for pod in pods(name).values():
        found = [] if pod["spec"].get("hostNetwork") else policies(name, pod["metadata"]["labels"], "Egress")
        if not pod["spec"].get("hostNetwork"):
            assert len(found) == narrowed
        for policy in found:
            assert policy["egress"] == [
                {"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}], "ports": [{"port": 6443, "protocol": "TCP"}]}
            ]


def test_agents_have_no_policy_that_would_mean_nothing() -> None:
    """Agents have their nodes' network: a policy that selected them would promise what no network plugin keeps."""
    for name in renders.NAMES:
        agent = pods(name)["client-bandwidth-agent"]
        assert agent["spec"]["hostNetwork"] is True
        assert not any(policies(name, agent["metadata"]["labels"], way) for way in ("Ingress", "Egress"))
