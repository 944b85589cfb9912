"""Which limits meet, and who wins: the rule that every node follows."""

from __future__ import annotations

from typing import Any

from bandwidth_api import addresses
from bandwidth_api.plan import Mode, Prefix
from bandwidth_cli.command_line import values
from bandwidth_cli.objects import manifest, overlaps
from bandwidth_cli.objects.limits import Limit
from unit.cli.samples import CREATED_AT, NOW, limit


def wanted(*clients: str, **more: Any) -> manifest.Wanted:
    return manifest.Wanted(tuple(map(values.client, clients)), 5_000_000, 3600, "why", **more)


def outcome(made: manifest.Wanted, *others: Limit) -> tuple[list[str], list[str]]:
    found = overlaps.outcome(manifest.entry(made, NOW), others, NOW)
    return [each.name for each in found.loses_to], [each.name for each in found.wins_over]


def held(address: str, *others: Limit, labels: dict[str, str] | None = None) -> list[tuple[str, int]]:
    won = overlaps.held(values.address(address), others, labels or {}, NOW)
    return [(each.key.limit, len(each.ports)) for each in won]


def test_the_longest_prefix_wins() -> None:
    """A single address over the network around it, whichever is older."""
    network = limit("network", ["203.0.113.0/24"])
    assert outcome(wanted("203.0.113.7"), network) == ([], ["network"])
    assert outcome(wanted("203.0.113.0/24"), limit("address")) == (["address"], [])


def test_of_two_alike_the_older_wins() -> None:
    """Unless the younger has a higher priority."""
    assert outcome(wanted("203.0.113.7"), limit("older")) == (["older"], [])
    assert outcome(wanted("203.0.113.7", priority=1), limit("older")) == ([], ["older"])


def test_what_does_not_meet_does_not_count() -> None:
    """Other addresses, other ports, what is over, switched off, or cut out."""
    others = [
        limit("elsewhere", ["203.0.113.8"]),
        limit("over", ttlSeconds=60),
        limit("off", mode="Disabled"),
        limit("hole", ["203.0.113.0/24"], **{"except": ["203.0.113.7/32"]}),
    ]
    assert outcome(wanted("203.0.113.7"), *others) == ([], [])
    ports = values.ports("993")
    assert outcome(wanted("203.0.113.7", ports=ports), limit("web", egress={"ports": [{"port": 80}]})) == ([], [])


def test_a_limit_meets_not_itself() -> None:
    """Its former form is replaced."""
    assert outcome(wanted("203.0.113.7", name="mine"), limit("mine")) == ([], [])


def test_an_address_is_held_by_the_winner() -> None:
    """One limit for all ports, and one for some of them beside it."""
    ports = limit("imap", egress={"ports": [{"port": 993}]})
    network = limit("network", ["203.0.113.0/24"])
    assert sorted(held("203.0.113.7", ports, network)) == [("imap", 1), ("network", 0)]
    assert held("203.0.113.9", ports, network) == [("network", 0)]
    assert held("198.51.100.1", ports, network) == []
    assert held("2001:db8::1", ports, network) == []


def test_a_node_holds_what_selects_it() -> None:
    """By its labels."""
    chosen = limit("chosen", nodeSelector={"matchLabels": {"pool": "mail"}})
    assert held("203.0.113.7", chosen, labels={"pool": "mail"}) == [("chosen", 0)]
    assert held("203.0.113.7", chosen, labels={"pool": "web"}) == []


def test_a_hole_holds_nobody() -> None:
    """What is excepted belongs to no class of this limit."""
    assert held("203.0.113.9", limit("a", ["203.0.113.0/24"], **{"except": ["203.0.113.9/32"]})) == []


def test_the_manifest_says_what_was_wanted() -> None:
    """Every option has its field, and who made it is in it."""
    made = manifest.write(
        wanted("203.0.113.7", mode=Mode.OBSERVE, ports=values.ports("993,50-60/udp"), priority=2, split=True), "ada"
    )
    assert made["metadata"] == {
        "name": "observe-203-0-113-7",
        "labels": {"clientbandwidth.io/made-by": "kubectl-cbl"},
        "annotations": {"clientbandwidth.io/author": "ada"},
    }
    assert made["spec"] == {
        "clients": ["203.0.113.7"],
        "egress": {
            "rate": "5Mbit",
            "distribution": "SplitEvenly",
            "ports": [{"protocol": "TCP", "port": 993}, {"protocol": "UDP", "port": 50, "endPort": 60}],
        },
        "mode": "Observe",
        "priority": 2,
        "ttlSeconds": 3600,
        "reason": "why",
    }


def test_a_limit_that_is_changed_ends_at_a_point_in_time() -> None:
    """Its age goes on, so a length would count from its beginning."""
    spec = manifest.write(wanted("203.0.113.7"), "", until=CREATED_AT)["spec"]
    assert spec["expiresAt"] == "2030-01-01T00:00:00Z"
    assert "ttlSeconds" not in spec


def test_the_manifest_passes_the_rules_of_limits() -> None:
    """What is written here is read by the models that the agents use."""
    from bandwidth_api.crds import limit as crd

    made = manifest.write(wanted("203.0.113.7", "2001:db8:7::/48", ports=values.ports("993")), "ada")
    read = crd.parse(made)
    assert isinstance(read, crd.Limit), read
    assert read.spec.clients == (Prefix(4, 0xCB007107, 32), addresses.parse("2001:db8:7::/48"))
