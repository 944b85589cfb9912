"""A policy on one host, from packets on the wire to a limit that holds them, without anybody at the keyboard."""

from __future__ import annotations

import json

import pytest

from bandwidth_lab import Network, UdpFlow, WireMeter
from bandwidth_lab.node import Node
from unit import documents

pytestmark = pytest.mark.root

STEP = 4_000_000
POLICY = """\
apiVersion: clientbandwidth.io/v1alpha1
kind: ClientBandwidthPolicy
metadata: {name: fair}
spec:
  when: {rate: {above: 8Mbit, forSeconds: 5}}
  then:
    mode: %s
    steps: [{rate: 4Mbit, ttlSeconds: 600}]
"""


def looks(network: Network) -> bool:
    """Whether a packet socket is open on the server."""
    return len(network.server.namespace.run(["cat", "/proc/net/packet"]).stdout.splitlines()) > 1


def decisions(node: Node) -> list[dict[str, str]]:
    """What `plan` tells of the one policy."""
    told = json.loads(node.namespace.run(node.command("plan", "-o", "json"), timeout=120).stdout)
    documents.check("plan", told)
    (policy,) = told["policies"]
    found: list[dict[str, str]] = policy["decisions"]
    return found


def whats(node: Node) -> list[str]:
    """The decisions by their names, the newest first."""
    return [each["decision"] for each in decisions(node)]


def starts(node: Node) -> int:
    """How often an agent began here."""
    return node.log.read_text().count("started")


def test_a_greedy_client_is_slowed_and_no_other(network: Network, node: Node) -> None:
    """Limited by what it gets on the wire, held over kill -9, pardoned by the deletion of the limit's file."""
    greedy, modest = network.clients
    made = node.state / "made"
    node.write("policy.yaml", POLICY % "Enforce")
    node.start()
    with (
        UdpFlow(network.server, greedy, rate_bits_per_second=30e6),
        UdpFlow(network.server, modest, rate_bits_per_second=3e6),
        WireMeter(greedy) as meter,
    ):
        node.until_rate(greedy.address4, STEP)
        node.until(lambda: made.is_dir() and any(made.glob("fair-*.json")) and "Limited" in whats(node))
        assert meter.measure(2.0) <= 1.1 * STEP
        assert node.rate_of(modest.address4) is None
        assert [each["policy"]["name"] for each in node.show()["limits"]] == ["fair"]
        who = node.namespace.run(node.command("who", greedy.address4, "--seconds", "1")).stdout
        assert "(made by the policy fair, step 1 of 1)" in who
        assert f"rm {next(made.glob('fair-*.json'))}; then it is left alone for 1d" in who
        node.kill()
        node.start()
        node.until(lambda: starts(node) == 2)
        assert node.rate_of(greedy.address4) == STEP
        (file,) = made.iterdir()
        reason = json.loads(file.read_text())["spec"]["reason"]
        assert "more than 8 Mbit over 5 s" in reason
        file.unlink()
        node.until_rate(greedy.address4, None)
    assert node.stop() == 0
    assert whats(node)[-2:] == ["Pardoned", "Limited"]


def test_a_limit_that_is_deleted_while_no_agent_runs(network: Network, node: Node) -> None:
    """Killed and stopped: the client is let go and not limited again, though it takes as much as before."""
    greedy = network.clients[0]
    made = node.state / "made"
    node.write("policy.yaml", POLICY % "Enforce")
    node.start()
    with UdpFlow(network.server, greedy, rate_bits_per_second=30e6):
        node.until(lambda: made.is_dir() and any(made.glob("fair-*.json")) and "Limited" in whats(node))
        node.kill()
        (file,) = made.iterdir()
        file.unlink()
        node.start()
        node.until(lambda: starts(node) == 2 and "Blocked" in whats(node))
        assert whats(node) == ["Blocked", "Pardoned", "Limited"]
        assert node.rate_of(greedy.address4) is None
        assert node.stop() == 0
        node.start()
        node.until(lambda: starts(node) == 3 and whats(node).count("Blocked") == 2)
    assert node.rate_of(greedy.address4) is None
    assert node.stop() == 0
    assert not list(made.iterdir())


def test_observe_slows_nobody_and_disabled_looks_at_nothing(network: Network, node: Node) -> None:
    """What would have been done is told by `plan`; the packet socket is there only while a policy looks."""
    greedy = network.clients[0]
    node.start()
    node.until(lambda: starts(node) == 1)
    assert not looks(network)
    node.write("policy.yaml", POLICY % "Observe")
    with UdpFlow(network.server, greedy, rate_bits_per_second=30e6):
        node.until(lambda: "Limited" in whats(node))
        assert node.rate_of(greedy.address4) is None
    node.write("policy.yaml", POLICY % "Disabled")
    node.until(lambda: not looks(network))
    assert node.stop() == 0
    assert not (node.state / "made").exists()
