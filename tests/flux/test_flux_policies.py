"""Policies in Git, and the limits that they make beside it: what Flux calls ready, and what it leaves alone.

In the order of this file: each test stands on the one before. The traffic is real, of one client outside the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from bandwidth_lab.kind import client, services, shell
from flux.pipeline import LIMITS, OPERATOR, Pipeline, limit, policy

IMAGE = "client-bandwidth-agent:dev"  # has the Python that server and client need, and is in every node already
PORT = 30001
OFFERED_BITS_PER_SECOND = 24_000_000
PERSON = "203.0.113.9"
RECONCILIATIONS = 3
DECIDE_SECONDS = 90.0  # a window, reports, and a busy machine


class Site(NamedTuple):
    """The cluster that follows Git, and a client that takes too much of it."""

    pipeline: Pipeline
    greedy: str


@pytest.fixture(scope="module")
def site(pipeline: Pipeline) -> Iterator[Site]:
    """The programs with policies enabled and a person's limit, all from Git; a client downloads without an end."""
    pipeline.commit_operator("policies.enabled=true")
    first = pipeline.commit(**{"by-hand": limit("by-hand", "5Mbit", [PERSON])})
    pipeline.follow()
    pipeline.flux.await_ready(OPERATOR, first, seconds=240)
    pipeline.flux.await_ready(LIMITS, first)
    node = pipeline.cluster.workers[0]
    services.start(pipeline.cluster, [services.Upload("near", node.name, PORT)], IMAGE)
    with (
        client.Client(pipeline.cluster, "greedy", IMAGE) as greedy,
        greedy.download(four=(OFFERED_BITS_PER_SECOND, node.address(4), PORT)),
    ):
        yield Site(pipeline, greedy.address(4))


def committed(site: Site, **files: str | None) -> str:
    """Commit, and wait until Flux calls it ready."""
    commit = site.pipeline.commit(**files)
    site.pipeline.flux.await_ready(LIMITS, commit)
    return commit


def made(site: Site) -> Mapping[str, Any]:
    """The one limit that the policy made, once it is there."""
    shell.eventually("the policy limits", lambda: site.pipeline.made("fair"), seconds=DECIDE_SECONDS)
    (found,) = site.pipeline.made("fair").values()
    return found


def written(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is not status: nothing of it may change where nobody changes the limit."""
    metadata = {
        key: value for key, value in item["metadata"].items() if key not in ("resourceVersion", "managedFields")
    }
    return {"metadata": metadata, "spec": item["spec"]}


def test_a_policy_from_git_limits_its_client(site: Site) -> None:
    """It is ready before anybody is too much; what it makes is in the cluster, and in no inventory."""
    committed(site, fair=policy("fair", "6Mbit"))
    found = made(site)
    assert found["spec"]["clients"] == [site.greedy]
    inventory = [one["metadata"]["name"] for one in site.pipeline.flux.inventory(LIMITS)]
    assert "fair" in inventory
    assert found["metadata"]["name"] not in inventory


def test_what_it_made_is_neither_pruned_nor_changed(site: Site) -> None:
    """Flux reconciles again and again, and a commit adds a limit and removes another one: the made limit stays."""
    before = made(site)
    for _ in range(RECONCILIATIONS):
        site.pipeline.flux.reconciled(LIMITS)
    committed(site, passing=limit("passing", "4Mbit", ["203.0.113.10"]))
    committed(site, passing=None)
    assert "passing" not in site.pipeline.limits()
    assert written(made(site)) == written(before)


def test_an_edit_in_git_changes_what_it_made(site: Site) -> None:
    """The same limit, at the new rate: Adjusted."""
    before = made(site)
    committed(site, fair=policy("fair", "3Mbit"))
    shell.eventually("it is adjusted", lambda: made(site)["spec"]["egress"]["rate"] == "3Mbit")
    after = made(site)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]

    def told() -> bool:
        decisions = site.pipeline.cluster.get("cbp", "fair")["status"]["decisions"]
        return ("Adjusted", site.greedy) in [(each["decision"], each["client"]) for each in decisions]

    shell.eventually("it is told", told)


@pytest.mark.parametrize("mode", ["Disabled", "Observe"])
def test_a_policy_that_slows_nobody_keeps_nothing_waiting(site: Site, mode: str) -> None:
    """Switched off or only looking it is ready by the expressions that we show, and what it made is gone."""
    committed(site, fair=policy("fair", "3Mbit", mode))
    shell.eventually("its limit is lifted", lambda: not site.pipeline.made("fair"))


def test_a_policy_deleted_in_git_takes_its_limits_along(site: Site) -> None:
    """And a person's limit keeps every byte."""
    committed(site, fair=policy("fair", "3Mbit"))
    made(site)
    person = written(site.pipeline.limits()["by-hand"])
    committed(site, fair=None)
    shell.eventually("its limit is gone", lambda: not site.pipeline.made("fair"))
    assert written(site.pipeline.limits()["by-hand"]) == person
