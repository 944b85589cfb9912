"""Prometheus in the cluster: every alert that a cause can be made for fires by it and ends with it; panels have data.

Which alert is proven how is listed in tests/unit/chart/test_alert_proofs.py.
"""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bandwidth_lab.kind import monitoring, release, shell
from bandwidth_lab.kind.client import Client
from e2e.world import MBIT, World

GUARD_RAILS = "client-bandwidth-guard-rails"
OBSERVED, SENT = MBIT, 4 * MBIT
PANELS_SECONDS = 30.0
# One that observes: what its panels show is there from its first client on.
POLICY = {
    "apiVersion": "clientbandwidth.io/v1alpha1",
    "kind": "ClientBandwidthPolicy",
    "metadata": {"name": "seen"},
    "spec": {
        "when": {"rate": {"above": "2Mbit", "forSeconds": 10}},
        "then": {"steps": [{"rate": "1Mbit", "ttlSeconds": 600}]},
    },
}


@pytest.fixture(scope="module")
def prometheus(shared: World) -> Iterator[monitoring.Prometheus]:
    """Prometheus, and the chart with all that it has for it, a policy too."""
    monitoring.prepare(shared.cluster)
    shared.release.install(values=monitoring.VALUES)
    shared.cluster.apply(POLICY)
    with monitoring.running(shared.cluster) as made:
        made.await_targets(len(shared.release.pods("agent")) + len(shared.release.pods("operator")))
        yield made
    shared.cluster.kubectl("delete", "cbp", "seen", "--timeout=60s")


@contextlib.contextmanager
def replaced(world: World, name: str, change: Callable[[Any], None]) -> Iterator[None]:
    """A ClusterRole as `change` makes it, and afterwards as it was."""
    before = world.cluster.get("clusterrole", name)
    del before["metadata"]["resourceVersion"]
    changed = copy.deepcopy(before)
    change(changed)
    world.cluster.kubectl("replace", "-f", "-", stdin=json.dumps(changed))
    try:
        yield
    finally:
        world.cluster.kubectl("replace", "-f", "-", stdin=json.dumps(before))


def without(resource: str) -> Callable[[Any], None]:
    """Take the rights on a resource out of a role."""

    def change(role: Any) -> None:
        for rule in role["rules"]:
            rule["resources"] = [one for one in rule.get("resources", ()) if one != resource]
        role["rules"] = [rule for rule in role["rules"] if rule["resources"]]

    return change


@contextlib.contextmanager
def another_program(world: World) -> Iterator[None]:
    """A program on the front node that deletes our device whenever it is there."""
    loop = "while :; do ip link del cbl0 2>/dev/null; sleep 0.1; done"
    command = ["docker", "exec", "-i", world.front.name, "sh", "-c", f"({loop}) & cat >/dev/null; kill $!"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # it ends with its input
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(shell.TIMEOUT_SECONDS)


@contextlib.contextmanager
def agent_without_a_plan(world: World) -> Iterator[None]:
    """The agent of the control plane starts, finds no plan on its disk, and may not read the cluster's."""
    plane = world.cluster.control_plane
    with replaced(world, "client-bandwidth-agent", without("bandwidthplanslices")):
        plane.run("sh", "-c", "rm -rf /var/lib/client-bandwidth/*")
        plane.kill("client-bandwidth-agent", "agent")
        yield


@contextlib.contextmanager
def node_away(world: World) -> Iterator[None]:
    """The kubelet of the back node is stopped, and its agent answers nothing."""
    world.back.run("systemctl", "stop", "kubelet")
    world.back.kill("client-bandwidth-agent", "agent", "SIGSTOP")
    try:
        yield
    finally:
        world.back.kill("client-bandwidth-agent", "agent", "SIGCONT")
        world.back.run("systemctl", "start", "kubelet")


@contextlib.contextmanager
def no_guard_rails(world: World) -> Iterator[None]:
    """The binding of their policy is deleted."""
    binding = world.cluster.get("validatingadmissionpolicybinding", GUARD_RAILS)
    for field in ("resourceVersion", "uid"):
        del binding["metadata"][field]
    world.cluster.kubectl("delete", "validatingadmissionpolicybinding", GUARD_RAILS)
    try:
        yield
    finally:
        world.cluster.kubectl("create", "-f", "-", stdin=json.dumps(binding))


@contextlib.contextmanager
def no_operator(world: World) -> Iterator[None]:
    """The operator has no pods."""
    count = len(world.release.pods("operator"))
    scale = ("-n", release.NAMESPACE, "scale", "deployment/client-bandwidth-operator")
    world.cluster.kubectl(*scale, "--replicas=0")
    try:
        yield
    finally:
        world.cluster.kubectl(*scale, f"--replicas={count}")


def test_alerts_fire_by_their_causes_and_end_with_them(
    prometheus: monitoring.Prometheus, world: World, clients: dict[str, Client]
) -> None:
    """Several causes at once, each on another part; while none is there, nothing fires."""
    shell.eventually("nothing fires", lambda: not prometheus.firing())
    greedy = clients["one"]
    world.limit("seen", [greedy.address(4)], OBSERVED, mode="Observe")
    world.limit("other", ["203.0.113.7"])
    world.in_force("seen")
    with world.downloading(greedy, four=world.flow("near", 4, SENT)), contextlib.ExitStack() as slow:
        slow.enter_context(node_away(world))
        slow.enter_context(no_guard_rails(world))
        with (
            agent_without_a_plan(world),
            replaced(world, "client-bandwidth-operator", without("clientbandwidthlimits/status")),
        ):
            world.limit("other", ["203.0.113.7"], 2 * MBIT)
            with another_program(world):
                prometheus.await_firing(
                    "ClientBandwidthConflict", "ClientBandwidthDrift", "ClientBandwidthLimitsNotInForce"
                )
            prometheus.await_firing(
                "ClientBandwidthAgentNotReady", "ClientBandwidthNodesBehind", "ClientBandwidthWritesFail"
            )
        prometheus.await_firing("ClientBandwidthAgentDown", "ClientBandwidthGuardRailsOff")
        prometheus.await_firing("ClientBandwidthNodesTroubled")
    world.release.wait_ready()
    shell.eventually("nothing fires any more", lambda: not prometheus.firing(), seconds=120)


def test_no_operator_acting(prometheus: monitoring.Prometheus, world: World) -> None:
    """Without an operator that is said, and with one no more."""
    with no_operator(world):
        prometheus.await_firing("ClientBandwidthNoOperatorActing")
    prometheus.await_quiet("ClientBandwidthNoOperatorActing")


def test_a_client_that_is_sent_much_is_seen_at_the_uplink(
    prometheus: monitoring.Prometheus, world: World, clients: dict[str, Client]
) -> None:
    """The alert of the uplink names the node and the client's network, and ends when that is over."""
    alert = "ClientBandwidthUplinkBusierThanUsual"
    known = 'count(client_bandwidth:uplink_bits_per_second:same_hour{day="3"})'
    shell.eventually("three days are known", lambda: prometheus.now(known))
    assert alert not in prometheus.firing()
    greedy = clients["two"]
    with world.downloading(greedy, four=world.flow("near", 4), six=world.flow("host", 6)):
        prometheus.await_firing(alert)
        network = greedy.address(4).rpartition(".")[0] + ".0/24"
        shell.eventually("it names the client", lambda: network in prometheus.text(alert)["description"])
        text = prometheus.text(alert)
        assert f"eth0 of {world.front.name} sends" in text["summary"]
        assert f"kubectl cbl top --nodes {world.front.name}" in text["description"]
    prometheus.await_quiet(alert)


def test_every_panel_of_the_dashboard_has_data(prometheus: monitoring.Prometheus, world: World) -> None:
    """Each query of the dashboard in the cluster had a number at some time of the tests above."""
    maps = world.cluster.get("-n", release.NAMESPACE, "configmap", "client-bandwidth-dashboard")
    asked = monitoring.queries(json.loads(maps["data"]["client-bandwidth.json"]))
    assert len(asked) > 20

    def empty() -> list[tuple[str, str]]:
        return [(title, query) for title, query in asked if not prometheus.numbers(query)]

    try:
        shell.eventually("every panel has data", lambda: not empty(), seconds=PANELS_SECONDS)
    except TimeoutError:
        assert empty() == []
