"""The status of a policy: it fits the CRD, says what is so, and does not change when nothing does."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import yaml

from bandwidth_api import addresses
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import policy as policies
from bandwidth_api.policy import books, memory, status
from unit import crd_schema
from unit.api.policy import scenes
from unit.api.policy.scenes import World

ROOT = pathlib.Path(__file__).resolve().parents[4]
CRD = yaml.safe_load((ROOT / "deploy/crds/clientbandwidthpolicies.yaml").read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
STATUS_MAX_BYTES = 48 * 1024


def written(world: World, before: dict[str, Any] | None = None, known: int = 0) -> dict[str, Any]:
    """The status of the first policy of a world after the one before."""
    (policy, *_) = world.policies
    seen = status.counts(world.book, policy, world.nodes, world.now)
    entry = world.book.entries.get(policy.name)
    found = status.write(
        before or {},
        status.found(policy, seen),
        policy.metadata.generation,
        world.now,
        seen=seen,
        decisions=[decision for _, decision in world.decisions[known:]],
        remembered=memory.remembered(entry, world.now) if entry is not None else (),
    )
    assert list(crd_schema.faults(found, SCHEMA)) == []
    assert len(json.dumps(found)) < STATUS_MAX_BYTES
    return found


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in found["conditions"]}


def test_it_fits_the_crd_and_has_the_last_ten() -> None:
    """Counts, decisions with their figures and obstacles, the newest first; whoever is remembered."""
    clients = {f"203.0.113.{n}": (lambda second, n=n: 47 + n if second < 200 else 0) for n in range(12)}
    world = World(
        [scenes.policy(safety={"maxLimits": 8, "maxNewPerMinute": 100, "exempt": ["203.0.113.3/32"]})],
        clients,  # type: ignore[arg-type]
    )
    world.run(100)
    found = written(world)
    assert found["clients"] == {"watched": 12, "hot": 4, "limited": 8}
    assert found["nodes"] == {"selected": 1, "measuring": 1, "silent": []}
    assert len(found["decisions"]) == status.DECISIONS_MAX
    assert {each["decision"] for each in found["decisions"]} == {"Limited", "Blocked"}
    assert {each["obstacle"] for each in found["decisions"] if each["decision"] == "Blocked"} == {"Maximum", "Exempt"}
    limited = next(each for each in found["decisions"] if each["decision"] == "Limited")
    assert limited.keys() == {"time", "client", "decision", "why", "limit", "step", "rate", "until"}
    assert found["lastDecisionTime"] == found["decisions"][0]["time"]
    world.run(450)
    later = written(world, found, 12)
    assert len(later["remembered"]) == 8
    assert later["clients"]["limited"] == 0
    assert all(text.split()[1:3] == ["1", "Ended"] for text in later["remembered"])


def test_conditions_come_and_go() -> None:
    """AtMaximum and NotMeasuring are there only while they are so; nothing new is nothing to be written."""
    world = World([scenes.policy(safety__maxLimits=1)], {f"203.0.113.{n}": lambda _: 47 for n in range(2)})
    world.run(100)
    full = written(world)
    assert conditions(full) == {
        "Accepted": ("True", "Accepted"),
        "Ready": ("True", "Ready"),
        "AtMaximum": ("True", "AtMaximum"),
    }
    assert written(world, full, 2) == full
    world.silent = True
    world.run(200)
    silent = written(world, full, 2)
    assert conditions(silent)["Ready"] == ("False", "NotMeasuring")
    assert silent["nodes"] == {"selected": 1, "measuring": 0, "silent": [scenes.NODE]}
    world.silent, world.demands = False, {}
    world.run(2)
    over = written(world, silent, 2)
    assert conditions(over)["Ready"] == ("True", "Ready")
    assert "NotMeasuring" not in conditions(over)


@pytest.mark.parametrize(
    ("changes", "nodes", "ready"),
    [
        ({"then__mode": "Observe"}, {"edge": {}}, ("True", "Observing")),
        ({"then__mode": "Disabled"}, {"edge": {}}, ("False", "Disabled")),
        ({"watch__nodeSelector": {"matchLabels": {"a": "b"}}}, {"edge": {}}, ("False", "NoNodeSelected")),
        ({"when__uplink": {"abovePercent": 80}}, {"edge": {}}, ("False", "CapacityUnknown")),
        ({"when__uplink": {"abovePercent": 80}}, {"edge": {}, "other": {}}, ("True", "Ready")),
    ],
)
def test_whether_it_decides(changes: dict[str, Any], nodes: dict[str, dict[str, str]], ready: tuple[str, str]) -> None:
    """Ready says whether it does what it is for, and why not."""
    world = World([scenes.policy(**changes)], {"203.0.113.7": lambda _: 47}, nodes=nodes)
    world.run(5)
    assert conditions(written(world))["Ready"] == ready


def test_one_that_nobody_can_read_says_what_is_wrong() -> None:
    """As it got past admission; the conditions fit the CRD too."""
    problems = policies.parse({"apiVersion": "clientbandwidth.io/v1alpha1", "kind": "ClientBandwidthPolicy"})
    assert isinstance(problems, tuple)
    found = status.write({}, status.refused(problems), 3, scenes.World([], {}).now)
    assert list(crd_schema.faults(found, SCHEMA)) == []
    assert conditions(found) == {
        "Accepted": ("False", "Invalid"),
        "Ready": ("False", "Invalid"),
        "Stalled": ("True", "Invalid"),
    }
    assert isinstance(problems[0], Problem)
    assert problems[0].reason is Reason.INVALID


def test_the_largest_status_is_bounded() -> None:
    """Seven hundred who are remembered, with the longest texts."""
    now = scenes.World([], {}).now
    texts = [
        f"{addresses.write(scenes.client(f'2001:db8:1234:{n + 1:x}::/64'))} 5 Pardoned {int(now.wall) + 999}"
        for n in range(1500)
    ]
    book, _ = memory.remember(books.Book(), scenes.policy(), texts, {}, now)
    world = World([scenes.policy()], {}, book=book)
    found = written(world)
    assert len(found["remembered"]) == memory.REMEMBERED_MAX
