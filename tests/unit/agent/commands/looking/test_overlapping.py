"""Which limits win against a drafted one, or lose to it, and what is said to do."""

from __future__ import annotations

import dataclasses

import pytest

from bandwidth_agent.commands.looking import overlapping
from bandwidth_api import plan
from bandwidth_api.plan import PlanEntry
from unit.agent.entries import MBIT, entry

WEB = plan.PortRange("TCP", 443, 443)
NEW = dataclasses.replace(entry("new", "203.0.113.7", rate=MBIT), created_at=2000.0)


def older(client: str = "203.0.113.7", **fields: object) -> PlanEntry:
    made = dataclasses.replace(entry("before", client, rate=5 * MBIT), created_at=1000.0)
    return dataclasses.replace(made, **fields)  # type: ignore[arg-type]


def found(*others: PlanEntry) -> overlapping.Overlap:
    return overlapping.found(NEW, others, lambda name: f"/etc/limits/{name}.yaml")


@pytest.mark.parametrize(
    ("other", "idle", "says"),
    [
        (older(), True, ["before (5Mbit; in /etc/limits/before.yaml) wins against", "it is older", "priority: 1"]),
        (older(mode=plan.Mode.OBSERVE), True, ["Observe: it slows nothing", "This limit would slow nothing"]),
        (older("203.0.113.0/24"), False, ["wins against the limit before", "holds its other packets only"]),
        (older("203.0.113.0/24", priority=7), True, ["its priority is 7", "priority: 8"]),
        (older(ports=(WEB,)), False, ["only for 443/tcp", "wins in part against this limit", "priority: 1"]),
        (older(priority=-1), False, ["wins against the limit before", "holds nothing any more"]),
    ],
    ids=["exact", "observe", "wider", "wider with priority", "ports", "lower priority"],
)
def test_who_wins_is_said_with_what_to_do(other: PlanEntry, idle: bool, says: list[str]) -> None:
    """By name, rate, ports and file; whether the new one would slow anything at all."""
    answer = found(other)
    text = "\n".join(answer.lines)
    assert answer.idle is idle
    for words in says:
        assert words in text


@pytest.mark.parametrize("client", ["203.0.113.8", "198.51.100.0/24", "2001:db8::/32"])
def test_limits_of_others_are_not_spoken_of(client: str) -> None:
    """Where no client is in both, nothing is said."""
    assert found(older(client)) == overlapping.NONE


def test_of_many_winners_few_are_named() -> None:
    """The others are counted, so that the preview stays short."""
    many = [
        dataclasses.replace(older(ports=(plan.PortRange("TCP", n, n),)), limit=f"port-{n}") for n in range(1000, 1010)
    ]
    lines = found(*many).lines
    assert len(lines) <= 5
    assert "edit their files" in lines[-1]
