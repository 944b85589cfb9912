"""Limits as the plugin shows them."""

from __future__ import annotations

import pytest

from bandwidth_api.plan import Mode, PortRange
from bandwidth_cli.objects import limits
from unit.cli.samples import CREATED_AT, NOW, limit


def test_a_limit_is_read_with_its_status() -> None:
    """Spec and status become values."""
    made = limit(
        "a",
        ["203.0.113.7", "2001:db8::/48"],
        "1.5Gbit",
        egress={"ports": [{"port": 993}, {"protocol": "UDP", "port": 50, "endPort": 60}]},
        ttlSeconds=3600,
        mode="Observe",
        priority=3,
        reason="why",
    )
    assert made.rate_bits_per_second == 1_500_000_000
    assert made.ports == (PortRange("TCP", 993, 993), PortRange("UDP", 50, 60))
    assert limits.show_ports(made.ports) == "TCP 993 UDP 50-60"
    assert made.expires_at == CREATED_AT + 3600
    assert (made.mode, made.priority, made.reason) == (Mode.OBSERVE, 3, "why")
    assert (made.programmed, made.desired) == (3, 3)
    assert made.in_force(NOW)
    assert not made.in_force(CREATED_AT + 3600)


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"metadata": None, "spec": None, "status": None},
        {"metadata": [], "spec": {"clients": "x", "egress": []}, "status": {"conditions": {}}},
        {"spec": {"clients": [1, None, "nonsense"], "egress": {"rate": 5, "ports": [{"port": "x"}, 7]}, "mode": "New"}},
        {"spec": {"expiresAt": "never", "ttlSeconds": "1h", "priority": True}, "status": {"nodes": {"desired": "2"}}},
    ],
)
def test_what_is_not_understood_counts_as_left_out(item: limits.Json) -> None:
    """An object of another version is shown as far as it goes, and never ends the program."""
    made = limits.read(item)
    assert made.in_force(NOW)
    assert made.entry().limit == made.name


def test_a_status_of_an_earlier_edit_says_nothing() -> None:
    """Ready of generation 1 is not believed of generation 2."""
    made = limit("a", metadata={"generation": 2})
    assert made.ready.status == "Unknown"


@pytest.mark.parametrize(
    ("metadata", "keeper"),
    [
        ({}, ""),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}, "Argo CD"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}, "Flux"),
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "Helm"),
        ({"labels": {"app.kubernetes.io/managed-by": "kpt"}}, "kpt"),
    ],
)
def test_a_tool_that_keeps_the_object_is_known(metadata: limits.Json, keeper: str) -> None:
    """It would make a limit again that is lifted here."""
    assert limits.keeper(limit("a", metadata=metadata)) == keeper


def test_many_clients_are_counted() -> None:
    """A cell holds the first ones."""
    made = limit("a", ["203.0.113.7", "203.0.113.8", "203.0.113.9", "2001:db8::/48"])
    assert limits.show_clients(made.clients) == "203.0.113.7,203.0.113.8 + 2 more"
