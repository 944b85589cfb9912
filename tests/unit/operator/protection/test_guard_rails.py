"""The guard rails that the operator keeps itself: what no limit may touch, hold, or be split into."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from bandwidth_api import addresses
from bandwidth_api.compiler import compile as compiler
from bandwidth_api.compiler.width import Widest
from bandwidth_api.conditions import Reason
from bandwidth_api.crds import slices
from bandwidth_api.plan import Prefix
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.history import History
from bandwidth_operator.protection import guard_rails
from bandwidth_operator.publish import planning
from bandwidth_operator.status import limit_status
from bandwidth_operator.status.rollup import Rollup
from unit.operator import examples

NOTHING: dict[str, slices.Slice] = {}


def snapshot(limits: list[objects.Limit], nodes: int = 0, **more: Any) -> objects.Snapshot:
    names = [f"n{number}" for number in range(nodes)]
    return objects.Snapshot(
        {k.name: k for k in limits},
        {name: examples.node(name) for name in names},
        {},
        {name: examples.state(name, "d") for name in names},
        **more,
    )


def why(made: planning.Planned, name: str) -> str:
    (problem,) = made.rejected[name]
    assert problem.reason is Reason.PROTECTED_ADDRESS
    return problem.message


def test_networks_of_pods_are_protected() -> None:
    """No limit touches the podCIDRs of a Node, of either family; the message names the rule and what helps."""
    item = {
        "metadata": {"name": "n", "uid": "u", "resourceVersion": "1"},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "FD00:1:0::1/64", "nonsense", 7]},
    }
    node = objects.read(objects.Kind.NODE, item, None)
    assert isinstance(node, objects.Node)
    limits = [
        examples.limit("pod", client="10.244.1.9"),
        examples.limit("pods", client="10.244.0.0/16"),
        examples.limit("six", client="fd00:1::7"),
        examples.limit("other", client="10.245.0.1"),
    ]
    cluster = dataclasses.replace(snapshot(limits), nodes={"n": node})
    made = planning.plan_of(cluster, NOTHING, examples.NOW)
    assert set(made.plan.entries) == {"other"}
    assert "lies in 10.244.1.0/24, a network of pods (guardRails.protectCluster)" in why(made, "pod")
    assert "add 10.244.1.0/24 to spec.except" in why(made, "pods")
    lifted = planning.plan_of(cluster, NOTHING, examples.NOW, guard_rails.GuardRails(protect_cluster=False))
    assert set(lifted.plan.entries) == {"pod", "pods", "six", "other"}


def test_addresses_that_the_cluster_needs_and_named_services_are_protected() -> None:
    """What was found around the nodes, and the networks of services that the chart names, are untouchable."""
    limits = [examples.limit("api", client="203.0.113.10"), examples.limit("service", client="10.96.0.1")]
    around = {Prefix(4, 0xCB00710A, 32): "an API server of this cluster (guardRails.protectCluster)"}
    cluster = snapshot(limits, cluster_addresses=around)
    named = guard_rails.GuardRails(service_networks=frozenset({addresses.parse("10.96.0.0/12")}))
    made = planning.plan_of(cluster, NOTHING, examples.NOW, named)
    assert made.plan.entries == {}
    assert "203.0.113.10 is an API server of this cluster (guardRails.protectCluster)" in why(made, "api")
    assert "a network of services (guardRails.serviceNetworks)" in why(made, "service")


def test_a_limit_that_holds_too_much_is_refused() -> None:
    """It is in no plan and says the rule, the field and the value that allows more; with that value it is planned."""
    half = [f"{first}.0.0.0/8" for first in range(11, 66)]
    limit = examples.limit("half", clients=half)
    made = planning.plan_of(snapshot([limit]), NOTHING, examples.NOW)
    assert made.plan.entries == {}
    status = limit_status.status(planning.outcome("half", made, Rollup([], History([])), {}), limit, examples.NOW)
    conditions = {c["type"]: c for c in status["conditions"]}
    assert (conditions["Accepted"]["status"], conditions["Accepted"]["reason"]) == ("False", "TooWide")
    assert "spec.clients: rule widest" in conditions["Accepted"]["message"]
    assert "guardRails.widest allows more" in conditions["Ready"]["message"] + conditions["Accepted"]["message"]
    wider = planning.plan_of(snapshot([limit]), NOTHING, examples.NOW, guard_rails.GuardRails(widest=Widest(1, 16)))
    assert set(wider.plan.entries) == {"half"}


def test_what_was_in_force_before_the_bound_stays() -> None:
    """A limit that an earlier operator published goes on as it was and says so; an edit of it brings nothing new."""
    before = compiler.entry(examples.accepted("wide", client="10.0.0.0/8"), now=examples.NOW)
    in_slice = dataclasses.replace(before, uid="", generation=0)
    written = {s.name: s for s in [slices.make("plan-00000", [in_slice])]}
    limit = examples.limit("wide", client="10.0.0.0/8")
    made = planning.plan_of(snapshot([limit]), written, examples.NOW)
    assert made.plan.entries == {"wide": in_slice}
    assert [r.reason for r in made.rejected["wide"]] == [Reason.TOO_WIDE]
    status = limit_status.status(planning.outcome("wide", made, Rollup([], History([])), {}), limit, examples.NOW)
    accepted = next(c for c in status["conditions"] if c["type"] == "Accepted")
    assert accepted["reason"] == "TooWide"
    edited = examples.limit("wide", client="20.0.0.0/8", generation=2)
    assert planning.plan_of(snapshot([edited]), written, examples.NOW).plan.entries == {"wide": in_slice}


@pytest.mark.parametrize(
    ("rate", "least", "nodes", "per_node"),
    [
        ("1Mbit", "1Mbit", 4, 1_000_000),
        ("8Mbit", "1Mbit", 4, 2_000_000),
        ("8Mbit", "1Mbit", 16, 1_000_000),
        ("500kbit", "1Mbit", 4, 500_000),  # older than the least rate: it is not made faster than it was written
        ("1Mbit", "", 400, 8_000),
    ],
)
def test_the_least_rate_holds_on_each_node(rate: str, least: str, nodes: int, per_node: int) -> None:
    """SplitEvenly divides no further than that, and the status says what each node really enforces."""
    limit = examples.limit("split", egress={"rate": rate, "distribution": "SplitEvenly"})
    kept = guard_rails.read(json.dumps({"leastRate": least}))
    made = planning.plan_of(snapshot([limit], nodes), NOTHING, examples.NOW, kept)
    assert made.plan.entries["split"].rate_bits_per_second == per_node
    status = limit_status.status(planning.outcome("split", made, Rollup([], History([])), {}), limit, examples.NOW)
    assert status["effective"]["perNodeRateBitsPerSecond"] == per_node


def test_rails_are_read() -> None:
    """The chart's values as JSON; without any the rails that are on by default."""
    assert guard_rails.read("") == guard_rails.GuardRails()
    text = '{"leastRate": "2Mbit", "serviceNetworks": ["10.96.0.0/12"], "widest": {"ipv4": 0}, "protectCluster": false}'
    networks = frozenset({addresses.parse("10.96.0.0/12")})
    assert guard_rails.read(text) == guard_rails.GuardRails(2_000_000, Widest(0, 32), networks, False)


@pytest.mark.parametrize("text", ["10.96.0.7/12", "FD00:10:0::/108", "fd00:0010::5/108"])
def test_a_network_of_services_may_be_written_in_any_form(text: str) -> None:
    """What the chart's schema takes; a host's bits or capital letters are no reason to lose all the other rails."""
    kept = guard_rails.read(json.dumps({"leastRate": "2Mbit", "serviceNetworks": [text]}))
    assert kept.least_rate_bits_per_second == 2_000_000
    assert {addresses.write(network) for network in kept.service_networks} <= {"10.96.0.0/12", "fd00:10::/108"}


def test_addresses_of_a_node_are_protected_however_they_are_written() -> None:
    """A cloud's controller writes them as its own API has them: capital letters, zeros, IPv4 inside of IPv6."""
    given = ("2001:DB8:0::7", "::ffff:192.0.2.10", "nonsense")
    item = {
        "metadata": {"name": "n", "uid": "u", "resourceVersion": "1"},
        "status": {"addresses": [{"type": "InternalIP", "address": text} for text in given]},
    }
    node = objects.read(objects.Kind.NODE, item, None)
    assert isinstance(node, objects.Node)
    assert {addresses.write(address) for address in node.addresses} == {"2001:db8::7", "192.0.2.10"}


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[]",
        '{"leastRate": "fast"}',
        '{"serviceNetworks": "10.0.0.0/8"}',
        '{"serviceNetworks": ["x"]}',
        '{"widest": 16}',
        '{"widest": {"ipv4": 33}}',
        '{"widest": {"ipv6": -1}}',
        '{"widest": {"ipv4": true}}',
    ],
)
def test_odd_rails_are_an_error(text: str) -> None:
    """What cannot be read is said, never guessed."""
    with pytest.raises(ValueError, match=r"\w"):
        guard_rails.read(text)
