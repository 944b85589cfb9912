"""What is wrong with an installation, and what to do."""

from __future__ import annotations

from typing import Any

from bandwidth_api.crds import node_state
from bandwidth_cli.objects import health, nodes
from bandwidth_cli.objects.health import Lease
from bandwidth_cli.objects.limits import Limit
from unit.cli.samples import CREATED_AT, limit, state

NOW = CREATED_AT + 30
ALIVE = Lease("client-bandwidth", "operator-1", CREATED_AT + 28, 15)


def node(name: str, ready: str = "True", **more: Any) -> nodes.Node:
    return nodes.read(
        {
            "metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": ready}], **more},
        }
    )


def troubles(
    limits: list[Limit] | None = None,
    states: list[dict[str, Any]] | None = None,
    found: list[nodes.Node] | None = None,
    leases: list[Lease] | None = None,
    now: float = NOW,
) -> list[str]:
    read = [node_state.read(each) for each in ([state("n1")] if states is None else states)]
    leases = [ALIVE] if leases is None else leases
    return [f"{t.what} → {t.do}" for t in health.troubles(limits or [], read, found, leases, now)]


def test_where_all_is_well_nothing_is_said() -> None:
    """An operator that acts, nodes that report, limits that are in force."""
    assert troubles([limit("a")], found=[node("n1")]) == []


def test_a_missing_operator_comes_first() -> None:
    """A Lease that was not renewed, or none at all."""
    old = Lease("client-bandwidth", "operator-1", CREATED_AT - 600, 15)
    assert "client-bandwidth logs" in troubles(leases=[old])[0]
    assert "none has ever acted" in troubles(leases=[])[0]


def test_two_operators_are_one_too_many() -> None:
    """They would write over each other."""
    assert (
        "several namespaces: client-bandwidth, other" in troubles(leases=[ALIVE, ALIVE._replace(namespace="other")])[0]
    )


def test_whoever_may_not_see_leases_learns_it_from_the_limits() -> None:
    """The default of the CRD says that nobody has looked."""
    unseen = limit("a", ready="Unknown", because="Pending", message="no operator has looked at it yet")
    read = [node_state.read(state("n1"))]
    found = health.troubles([unseen], read, None, None, NOW)
    assert [trouble.what for trouble in found] == ["no operator has looked at a"]


def test_a_silent_node_is_named() -> None:
    """With its Node's state, where it is known."""
    late = CREATED_AT + 3000
    leases = [ALIVE._replace(renewed_at=late)]
    assert "no report lately from n1" in troubles(leases=leases, now=late)[0]
    assert "not Ready" in troubles(found=[node("n1", "False")], leases=leases, now=late)[0]


def test_a_node_without_an_agent_is_named() -> None:
    """Nobody is slowed there."""
    found = troubles(found=[node("n1"), *(node(f"x{number}") for number in range(7))])
    assert found[0].startswith("no agent reports from x0, x1, x2, x3, x4 and 2 more: nobody is slowed there")


def test_a_failing_limit_is_told_with_its_reason() -> None:
    """Once for each reason, not for each node."""
    failing = {"failing": [{"name": "a", "reason": "KernelRefused", "message": "no memory"}], "limits": {"failed": 1}}
    found = troubles(states=[state("n1", **failing), state("n2", **failing)])
    assert len(found) == 1
    assert "KernelRefused on n1, n2: a: no memory" in found[0]


def test_a_report_that_cannot_be_read_is_told() -> None:
    """Of another schema, or none yet."""
    assert "report of n1: its report has schema 9" in troubles(states=[state("n1", schema=9)])[0]


def test_a_limit_that_is_not_ready_is_told_with_what_to_do() -> None:
    """Those of one reason together; what is over or switched off is not meant to be in force."""
    limits = [
        limit("a", ready="False", because="NoNodeSelected", message="no node has these labels"),
        limit("b", ready="False", because="NoNodeSelected", message="no node has these labels"),
        limit("c", ready="False", because="Disabled", mode="Disabled"),
        limit("d", ready="False", because="Expired", expiresAt="2029-01-01T00:00:00Z"),
    ]
    assert troubles(limits) == [
        "NoNodeSelected: a, b: no node has these labels → kubectl get nodes --show-labels; change spec.nodeSelector of"
        " the limit"
    ]


def test_agents_of_several_versions_are_told() -> None:
    """It is normal for some minutes only."""
    assert "0.1.0 on 1, 0.2.0 on 1" in troubles(states=[state("n1"), state("n2", version="0.2.0")])[0]


def test_addresses_of_nodes_are_known() -> None:
    """Their own and those of their pods."""
    made = nodes.read(
        {
            "metadata": {"name": "n1"},
            "spec": {"podCIDRs": ["10.244.1.0/24"]},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n1"}]
            },
        }
    )
    client = made.addresses[0][0]
    assert nodes.belonging([made], [client]) == ["192.0.2.1 is the InternalIP of node n1"]
    assert nodes.belonging([made], [made.addresses[1][0]]) == ["10.244.1.0/24 is the pod network of node n1"]
