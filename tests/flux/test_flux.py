"""Limits and programs in Git, brought into a cluster by Flux itself: what it calls ready, and what it does when.

In the order of this file: each test stands on the one before.
"""

from __future__ import annotations

import json

import pytest

from bandwidth_lab.kind import release, shell
from flux.pipeline import LIMITS, OPERATOR, Pipeline, limit

HELD_BACK_LOOKS = 5


@pytest.fixture(scope="module")
def installed(pipeline: Pipeline) -> Pipeline:
    """The repository with the programs and one limit, followed by Flux until all of it is ready."""
    pipeline.commit_operator()
    made = pipeline.commit(greedy=limit("greedy", "6Mbit"))
    pipeline.follow()
    pipeline.flux.await_ready(OPERATOR, made, seconds=240)
    pipeline.flux.await_ready(LIMITS, made)
    return pipeline


def test_the_programs_and_then_the_limits(installed: Pipeline) -> None:
    """Ready means that every pod runs, and that every node has the limit in its kernel."""
    for program in ("operator", "agent"):
        pods = release.Release(installed.cluster).pods(program)
        assert pods
        assert all(one["status"]["phase"] == "Running" for one in pods)
    for node in installed.cluster.nodes:
        assert installed.rates(node) == {"6Mbit"}, node


def test_an_edit_is_not_ready_before_the_last_node(installed: Pipeline) -> None:
    """As long as one node has not taken an edit up, neither is the Kustomization ready; when it has, it is."""
    last = installed.cluster.workers[-1]
    others = [node for node in installed.cluster.nodes if node.name != last.name]
    last.kill("client-bandwidth-agent", "agent", "SIGSTOP")
    try:
        made = installed.commit(greedy=limit("greedy", "4Mbit"))
        shell.eventually("the others have it", lambda: all(installed.rates(node) == {"4Mbit"} for node in others))
        shell.eventually("Flux waits for it", lambda: installed.flux.kustomization(LIMITS).tried == made)
        for _ in range(HELD_BACK_LOOKS):
            assert not installed.flux.ready(LIMITS, made)
            assert installed.rates(last) == {"6Mbit"}
            installed.cluster.get("cbl", "greedy")
    finally:
        last.kill("client-bandwidth-agent", "agent", "SIGCONT")
    installed.flux.await_ready(LIMITS, made)
    assert {node.name: installed.rates(node) for node in installed.cluster.nodes} == {
        node.name: {"4Mbit"} for node in installed.cluster.nodes
    }


def test_limits_that_hold_nobody_keep_nothing_waiting(installed: Pipeline) -> None:
    """By the expressions of the file that we show, a disabled and an expired limit are ready."""
    made = installed.commit(
        off=limit("off", "5Mbit", ["203.0.113.8"], mode="Disabled"),
        over=limit("over", "5Mbit", ["203.0.113.9"], expiresAt="2020-01-01T00:00:00Z"),
    )
    installed.flux.await_ready(LIMITS, made)
    assert installed.limits().keys() == {"greedy", "off", "over"}


def test_an_edit_that_cannot_be_is_named_and_changes_nothing(installed: Pipeline) -> None:
    """The Kustomization says which object and field; the limit of before stays in force, and a right edit goes on."""
    wrong = installed.commit(greedy=limit("greedy", "4MB"))
    shell.eventually(
        "it is refused",
        lambda: (
            installed.flux.kustomization(LIMITS).ready == "False"
            and installed.flux.kustomization(LIMITS).tried == wrong
        ),
    )
    message = installed.flux.kustomization(LIMITS).message
    assert "greedy" in message
    assert "rate" in message
    assert all(installed.rates(node) == {"4Mbit"} for node in installed.cluster.nodes)
    right = installed.commit(greedy=limit("greedy", "3Mbit"))
    installed.flux.await_ready(LIMITS, right)
    assert all(installed.rates(node) == {"3Mbit"} for node in installed.cluster.nodes)


def test_nothing_is_written_without_a_commit(installed: Pipeline) -> None:
    """Flux reconciles all again and again, and every object of ours keeps the version that it has."""
    before = installed.versions()
    assert len(before) > 20
    for _ in range(3):
        for name in (OPERATOR, LIMITS):
            installed.flux.reconciled(name)
    assert installed.versions() == before


def test_what_is_changed_by_hand_is_put_right(installed: Pipeline) -> None:
    """A limit that somebody edits in the cluster is in force as edited, until Flux brings back what is in Git."""
    edited = json.dumps({"spec": {"egress": {"rate": "1Mbit"}}})
    installed.cluster.kubectl("patch", "cbl", "greedy", "--type=merge", "-p", edited)
    installed.flux.reconciled(LIMITS)
    assert installed.limits()["greedy"]["spec"]["egress"]["rate"] == "3Mbit"
    shell.eventually(
        "all nodes have it again", lambda: all(installed.rates(node) == {"3Mbit"} for node in installed.cluster.nodes)
    )


def test_what_is_deleted_in_git_is_lifted(installed: Pipeline) -> None:
    """A file that is gone is a limit that is gone, in the cluster and in every kernel; the others stay."""
    made = installed.commit(greedy=None)
    installed.flux.await_ready(LIMITS, made)
    assert installed.limits().keys() == {"off", "over"}
    shell.eventually("no node has it", lambda: not any(installed.rates(node) for node in installed.cluster.nodes))
