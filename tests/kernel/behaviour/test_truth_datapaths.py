"""Whether limits hold, beside datapaths of other kinds: for some packets only, now and then, by another way."""

from __future__ import annotations

import contextlib
import pathlib
import time

import pytest

from bandwidth_lab import Network, TcpFlow, UdpFlow, WireMeter, ebpf
from bandwidth_lab.ebpf_datapath import DatapathNode
from bandwidth_lab.node import Node
from bandwidth_lab.traffic import Flow
from kernel.behaviour import holding
from kernel.behaviour.past_limits import FOUND_SECONDS, bypassed_node, ended, found, from_pod

pytestmark = pytest.mark.root

RATE = 30_000_000
PAST = 4_000_000  # so much less goes past the limit than is held
QUIET_SECONDS = 5.0


def limited(made: DatapathNode, node: Node) -> None:
    """One limit for both addresses of the client, in force."""
    client = made.clients[0]
    node.limit("slow", [client.address4, client.address6], "30Mbit")
    node.start()
    node.until_rate(client.address4, RATE)


def datagrams(made: DatapathNode, family: int = 4) -> UdpFlow:
    """From the pod, steadily."""
    client, dial = made.clients[0], made.dial(family)
    return UdpFlow(made.pod, client, family=family, rate_bits_per_second=PAST, port=made.port, dial=dial)


@pytest.mark.parametrize("kind", ["UDP", "IPv6", "a port"])
@pytest.mark.parametrize("classifier", ["mark", "priority"])
def test_what_goes_past_for_some_packets_only_is_found(tmp_path: pathlib.Path, kind: str, classifier: str) -> None:
    """Beside much more of another kind that is held; and it does not end because only that is left."""
    options = ("--placement", "ifb", "--classifier", classifier)
    with bypassed_node(tmp_path, *options, ends_walk=False) as (made, node):
        limited(made, node)
        client = made.clients[0]
        past: Flow = datagrams(made) if kind == "UDP" else from_pod(made, 6 if kind == "IPv6" else 4, PAST)
        with TcpFlow(made.network.server, client), WireMeter(client) as meter:
            holding.assert_held(meter, RATE)
            assert not node.alarms()
            with past:
                node.until(lambda: found(node), 2 * FOUND_SECONDS)
            time.sleep(QUIET_SECONDS)
            assert not ended(node)
        assert node.stop() == 0


@pytest.mark.parametrize("family", [4, 6])
def test_direct_server_return_is_found(tmp_path: pathlib.Path, family: int) -> None:
    """Nothing is translated: the pod answers under the address that was dialled."""
    with bypassed_node(tmp_path, direct=True) as (made, node):
        limited(made, node)
        with from_pod(made, family):
            node.until(lambda: found(node), FOUND_SECONDS)
        node.stop()


@pytest.mark.parametrize("pref", [2, 100, 49_152, 65_000])
def test_filters_at_any_preference_are_found_out(tmp_path: pathlib.Path, pref: int) -> None:
    """Before ours, and right before ours."""
    with bypassed_node(tmp_path, "--placement", "ifb", way="cls_bpf", pref=pref, ends_walk=False) as (made, node):
        limited(made, node)
        with from_pod(made):
            node.until(lambda: found(node), FOUND_SECONDS)
        node.stop()


def test_a_bypass_that_comes_and_goes_is_found_and_stays_found(tmp_path: pathlib.Path) -> None:
    """A second of it, a second without, beside much that is held."""
    with bypassed_node(tmp_path, "--placement", "ifb", ends_walk=False) as (made, node):
        limited(made, node)
        with TcpFlow(made.network.server, made.clients[0]):
            ends = time.monotonic() + 40.0
            while not found(node) and time.monotonic() < ends:
                with datagrams(made):
                    time.sleep(1.0)
                time.sleep(1.0)
            assert found(node)
            for _ in range(3):
                with datagrams(made):
                    time.sleep(1.0)
                time.sleep(1.0)
        assert not ended(node)
        node.stop()


def test_xdp_on_the_uplink_is_a_sign_and_no_bypass(tmp_path: pathlib.Path) -> None:
    """What is held beside it is verified; what goes past the limit is found."""
    with bypassed_node(tmp_path, "--placement", "ifb", ends_walk=False) as (made, node), ebpf.xdp(made.node, "eth0"):
        limited(made, node)
        with TcpFlow(made.network.server, made.clients[0]), WireMeter(made.clients[0]) as meter:
            holding.assert_held(meter, RATE)
            time.sleep(QUIET_SECONDS)
            assert not node.alarms()
        with from_pod(made):
            node.until(lambda: found(node), FOUND_SECONDS)
        node.stop()


def test_a_hook_that_was_deleted_and_repaired_is_no_bypass(tmp_path: pathlib.Path) -> None:
    """Packets go past while the agent stands still; one such look is not two, and the next one shows them held."""
    with bypassed_node(tmp_path, "--placement", "ifb", ends_walk=False) as (made, node):
        node.bypassed = False
        limited(made, node)
        client = made.clients[0]
        with TcpFlow(made.network.server, client), WireMeter(client) as meter:
            for _ in range(3):
                with node.suspended():
                    made.node.tc("qdisc del dev eth0 clsact")
                    time.sleep(0.3)
                node.until(lambda: "eth0" in node.kernel().hooks)
                time.sleep(QUIET_SECONDS)
            holding.assert_held(meter, RATE)
        assert node.stop() == 0


def test_what_drains_from_a_deep_queue_behind_the_limit_is_no_bypass(network: Network, node: Node) -> None:
    """It came out of its class long before it leaves, when its sender is gone and the class lets nothing out."""
    client = network.clients[0]
    node.namespace.tc("qdisc add dev eth0 root handle 1: tbf rate 4mbit burst 20k limit 8m")
    node.limit("slow", [client.address4], "100Mbit")
    node.limit("unmet", ["203.0.113.99"], "1Mbit")  # as long as nobody meets it, there are looks
    node.start("--placement", "ifb")
    node.until_rate(client.address4, 100_000_000)
    time.sleep(QUIET_SECONDS)
    with contextlib.ExitStack() as stack:
        for _ in range(30):  # each may have some hundred kilobytes on the way
            stack.enter_context(UdpFlow(network.server, client, rate_bits_per_second=2e6))
        time.sleep(1.5)
    time.sleep(2 * QUIET_SECONDS)
    assert node.stop() == 0
    assert not node.alarms()
