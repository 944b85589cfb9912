"""What an agent found bypassed, over its end: by kill -9, with nothing sent afterwards, and with a mended datapath."""

from __future__ import annotations

import pathlib

import pytest

from bandwidth_lab import TcpFlow
from bandwidth_lab.ebpf_datapath import NODE_PORT, POD4, POD_PORT, DatapathNode
from bandwidth_lab.node import Node
from kernel.behaviour.past_limits import FOUND_SECONDS, bypassed_node, ended, found, from_pod

pytestmark = pytest.mark.root


def killed_after_the_finding(made: DatapathNode, node: Node) -> None:
    """An agent that found the limit `slow` bypassed, wrote it down, and is killed."""
    node.limit("slow", [made.clients[0].address4], "8Mbit")
    node.start()
    node.until_rate(made.clients[0].address4, 8_000_000)
    with from_pod(made):
        node.until(lambda: found(node), FOUND_SECONDS)
    node.until(lambda: (node.state / "bypassed.json").exists())
    node.kill()
    node.log.write_text("")


def mend(made: DatapathNode) -> None:
    """Let the node's own stack translate and forward what its programs did before."""
    made.node.tc(
        "filter del dev eth0 ingress", "filter del dev eth0 egress pref 1", f"filter del dev {made.pod_device} ingress"
    )
    made.node.sysctl({"ipv4.ip_forward": 1})
    rule = f"PREROUTING -p tcp --dport {NODE_PORT} -j DNAT --to-destination {POD4}:{POD_PORT}"
    made.node.run(["iptables", "-t", "nat", "-A", *rule.split()])


def test_it_is_known_before_any_packet_and_until_packets_are_held(tmp_path: pathlib.Path) -> None:
    """Nothing is sent after the start, and it is said at once; then the datapath is mended, and packets end it."""
    with bypassed_node(tmp_path, "--placement", "ifb", way="cls_bpf", ends_walk=False) as (made, node):
        killed_after_the_finding(made, node)
        for _ in range(2):
            node.start()
            node.until(lambda: found(node))
            node.kill()
            assert not ended(node)
            node.log.write_text("")
        mend(made)
        node.start()
        node.until(lambda: found(node))
        with from_pod(made):
            node.until(lambda: ended(node), 15.0)
        node.kill()
        node.log.write_text("")
        node.start()
        with from_pod(made):
            node.until(lambda: '"started"' in node.log.read_text() and "eth0" in node.kernel().hooks)
        assert not node.alarms()
        node.stop()


def test_one_pass_says_it_too(tmp_path: pathlib.Path) -> None:
    """`run --once` after the end of the agent reports the limit as it was left."""
    with bypassed_node(tmp_path) as (made, node):
        killed_after_the_finding(made, node)
        report = node.once(check=False)
        assert [(each["name"], each["reason"]) for each in report["failing"]] == [("slow", "Bypassed")]
        node.cleanup()
        assert not (node.state / "bypassed.json").exists()


def test_a_limit_that_changed_meanwhile_is_judged_by_what_is_seen(tmp_path: pathlib.Path) -> None:
    """Its first pass says nothing of it; traffic does."""
    with bypassed_node(tmp_path) as (made, node):
        killed_after_the_finding(made, node)
        node.limit("slow", [made.clients[0].address4], "4Mbit")
        node.start()
        node.until_rate(made.clients[0].address4, 4_000_000)
        assert not node.alarms()
        with from_pod(made):
            node.until(lambda: found(node), FOUND_SECONDS)
        node.stop()


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: pathlib.Path) -> None:
    """A bypass is found and told of where it cannot be written down, and ends like any other."""
    (tmp_path / "state" / "bypassed.json").mkdir(parents=True)
    with bypassed_node(tmp_path) as (made, node):
        client = made.clients[0]
        node.limit("slow", [client.address4], "8Mbit")
        node.start()
        node.until_rate(client.address4, 8_000_000)
        with from_pod(made):
            node.until(lambda: found(node), FOUND_SECONDS)
        with TcpFlow(made.network.server, client):
            node.until(lambda: ended(node), 15.0)
        assert "cannot be kept over a restart" in node.log.read_text()
        assert node.stop() == 0
