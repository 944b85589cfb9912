"""Nobody at the keyboard: a policy finds the client that takes too much, slows it in steps, and lets it go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from bandwidth_lab.kind import shell
from bandwidth_lab.kind.client import Client
from e2e.world import LIMIT, MBIT, NEVER_ABOVE, OFFERED, QUIET, World, fastest, free, slowed

THRESHOLD, SECOND = 12 * MBIT, LIMIT // 2
WINDOW_SECONDS, STEP_SECONDS, CALM_SECONDS = 10, 60, 30
REPORT_SECONDS = 30.0  # a busy machine reports, decides and writes late
RELEASED = {"Lifted", "Expired"}
MADE_BY = "clientbandwidth.io/policy=fair"


@pytest.fixture
def deciding(world: World) -> Iterator[World]:
    """The chart with policies enabled, and afterwards without."""
    world.release.install(values=("policies.enabled=true",))
    yield world
    world.cluster.kubectl("delete", "clientbandwidthpolicies", "--all", "--timeout=60s")
    world.release.install(values=("policies.enabled=false",))


def applied(world: World, mode: str, exempt: Sequence[str] = ()) -> None:
    steps = ((LIMIT, STEP_SECONDS), (SECOND, 10 * STEP_SECONDS))
    world.cluster.apply(
        {
            "apiVersion": "clientbandwidth.io/v1alpha1",
            "kind": "ClientBandwidthPolicy",
            "metadata": {"name": "fair"},
            "spec": {
                "when": {"rate": {"above": f"{THRESHOLD // 1000}kbit", "forSeconds": WINDOW_SECONDS}},
                "then": {
                    "mode": mode,
                    "steps": [{"rate": f"{rate // 1000}kbit", "ttlSeconds": seconds} for rate, seconds in steps],
                },
                "lift": {"forSeconds": CALM_SECONDS},
                "safety": {"exempt": list(exempt)},
            },
        }
    )


def made(world: World) -> Sequence[Mapping[str, Any]]:
    """The limits that the policy has made."""
    found: Sequence[Mapping[str, Any]] = world.cluster.get("cbl", "-l", MADE_BY)["items"]
    return found


def decided(world: World) -> list[tuple[str, str]]:
    """What the status says was decided: what, about whom."""
    status = world.cluster.get("cbp", "fair").get("status", {})
    return [(one["decision"], one["client"]) for one in status.get("decisions", ())]


def test_a_greedy_client_is_slowed_in_steps_and_let_go(deciding: World, clients: dict[str, Client]) -> None:
    """Seen first in Observe; then limited on the node that it dials, though the pod is elsewhere; nobody else is."""
    greedy, quiet, trusted = (clients[role] for role in ("one", "quiet", "two"))
    applied(deciding, "Observe", [f"{trusted.address(4)}/32"])
    with (
        deciding.downloading(greedy, four=deciding.flow("far", 4)) as stream,
        deciding.downloading(quiet, four=deciding.flow("near", 4, QUIET)) as calm,
        deciding.downloading(trusted, four=deciding.flow("near", 4)) as exempt,
    ):
        began = stream.await_rate(4, free)
        asked = ("Limited", greedy.address(4))
        shell.eventually("Observe tells what it would do", lambda: asked in decided(deciding), seconds=60)
        assert made(deciding) == []
        assert free(stream.rate(4, began))
        applied(deciding, "Enforce", [f"{trusted.address(4)}/32"])
        first = stream.await_rate(4, slowed)
        (limit,) = made(deciding)
        assert limit["spec"]["clients"] == [greedy.address(4)]
        assert limit["metadata"]["ownerReferences"][0]["name"] == "fair"
        assert "more than 12 Mbit over 10 s" in limit["spec"]["reason"]
        second = stream.await_rate(4, lambda rate: slowed(rate, SECOND), seconds=STEP_SECONDS + REPORT_SECONDS)
        assert fastest(stream, 4, first, second) <= NEVER_ABOVE * LIMIT  # no gap between the steps
        assert [each["metadata"]["uid"] for each in made(deciding)] == [limit["metadata"]["uid"]]
        stream.wait(3)
        assert fastest(stream, 4, second) <= NEVER_ABOVE * SECOND
        assert free(calm.rate(4, began), QUIET)
        assert free(exempt.rate(4, began), OFFERED)
        assert ("Blocked", trusted.address(4)) in decided(deciding)
    shell.eventually("lifted", lambda: not made(deciding), seconds=CALM_SECONDS + WINDOW_SECONDS + REPORT_SECONDS)
    assert RELEASED & {what for what, who in decided(deciding) if who == greedy.address(4)}
    with deciding.downloading(greedy, four=deciding.flow("far", 4)) as stream:
        stream.await_rate(4, free)


def test_a_policy_that_is_deleted_leaves_no_limit_of_its_own(deciding: World, clients: dict[str, Client]) -> None:
    """And every limit of a person as it was."""
    greedy = clients["three"]
    deciding.limit("by-hand", ["203.0.113.7"])
    deciding.in_force("by-hand")
    person = deciding.cluster.get("cbl", "by-hand")["spec"]
    applied(deciding, "Enforce")
    with deciding.downloading(greedy, four=deciding.flow("near", 4)) as stream:
        stream.await_rate(4, slowed)
        deciding.cluster.kubectl("delete", "cbp", "fair", "--timeout=60s")
        stream.await_rate(4, free)
    assert made(deciding) == []
    assert deciding.cluster.get("cbl", "by-hand")["spec"] == person
