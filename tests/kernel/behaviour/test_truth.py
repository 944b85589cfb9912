"""Whether limits hold: found out on a node whose packets an eBPF datapath carries past netfilter, and nowhere else."""

from __future__ import annotations

import contextlib
import pathlib
import time

import pytest

from bandwidth_lab import Network, TcpFlow, UdpFlow, WireMeter, ebpf
from bandwidth_lab.ebpf_datapath import NODE_PORT, POD_PORT
from bandwidth_lab.node import Node
from kernel.behaviour import holding
from kernel.behaviour.past_limits import FOUND_SECONDS, bypassed_node, found, from_pod

pytestmark = pytest.mark.root

RATE = 8_000_000
LOOK_SECONDS = 2.5  # in which a limit that nobody has met is looked at

CILIUM = ("cil_from_container", "cil_from_netdev", "cil_to_netdev")


@pytest.mark.parametrize("way", ["tcx", "cls_bpf"])
@pytest.mark.parametrize(
    "options",
    [(), ("--classifier", "priority"), ("--placement", "interface"), ("--placement", "ifb", "--classifier", "mark")],
    ids=" ".join,
)
def test_a_bypass_is_found_within_seconds(tmp_path: pathlib.Path, way: ebpf.Way, options: tuple[str, ...]) -> None:
    """Of both families, wherever the classes are, after the first packets; the message says what helps."""
    with bypassed_node(tmp_path, *options, way=way) as (made, node):
        client = made.clients[0]
        node.limit("four", [client.address4], "8Mbit")
        node.limit("six", [client.address6], "8Mbit")
        node.start()
        node.until_rate(client.address4, RATE)
        time.sleep(LOOK_SECONDS)  # no traffic is seen, and nothing said
        assert not node.alarms()
        with from_pod(made), from_pod(made, 6), WireMeter(client) as meter:
            node.until(lambda: found(node, "four") and found(node, "six"), FOUND_SECONDS)
            assert meter.measure(0.5) > 10 * RATE
        message = node.alarms()[0]
        for part in (
            "eth0",
            "nothing came out of the limit's class",
            "the classifier ebpf would meet them",
            "the host's stack",
        ):
            assert part in message
        assert node.stop() == 0


@pytest.mark.parametrize("way", ["tcx", "cls_bpf"])
def test_a_bypass_at_a_few_times_the_limit_is_found(tmp_path: pathlib.Path, way: ebpf.Way) -> None:
    """A steady client of little more than its limit, by datagrams too."""
    with bypassed_node(tmp_path, way=way) as (made, node):
        client = made.clients[0]
        node.limit("slow", [client.address4], "1Mbit")
        node.start()
        node.until_rate(client.address4, 1_000_000)
        udp = UdpFlow(made.pod, client, rate_bits_per_second=3e6, port=POD_PORT, dial=made.dial(4))
        with udp:
            node.until(lambda: found(node), FOUND_SECONDS)
        node.stop()


def test_beside_an_explicit_mq_root_it_is_found(tmp_path: pathlib.Path) -> None:
    """As a bandwidth manager sets it: an ifb beside it holds nothing there."""
    with bypassed_node(tmp_path, way="cls_bpf") as (made, node):
        made.node.tc("qdisc add dev eth0 root handle 1: mq")
        node.limit("slow", [made.clients[0].address4], "8Mbit")
        node.options = ("--placement", "ifb", "--classifier", "mark")
        node.start()
        with from_pod(made):
            node.until(lambda: found(node), 2 * FOUND_SECONDS)
        node.stop()


def test_by_names_it_says_which_datapath_and_what_to_set(tmp_path: pathlib.Path) -> None:
    """The programs of Cilium, as filters, and a device of one of its pods."""
    with bypassed_node(tmp_path, way="cls_bpf", names=CILIUM, pod_device="lxc4f0a81") as (made, node):
        node.limit("slow", [made.clients[0].address4], "8Mbit")
        node.start()
        node.until_rate(made.clients[0].address4, RATE)
        with from_pod(made):
            node.until(lambda: found(node), FOUND_SECONDS)
        for part in ("device lxc4f0a81", "egress filter cil_to_netdev on eth0", "bpf.hostLegacyRouting=true"):
            assert part in node.alarms()[0]
        node.stop()


def test_a_limit_for_a_node_port_is_judged_by_the_port_as_dialled(tmp_path: pathlib.Path) -> None:
    """The pod listens on another port; a limit for that one is not meant, and not blamed."""
    with bypassed_node(tmp_path) as (made, node):
        client = made.clients[0]
        for name, port in (("dialled", NODE_PORT), ("inside", POD_PORT)):
            node.limit(name, [client.address4], "8Mbit", egress={"ports": [{"protocol": "TCP", "port": port}]})
        node.start()
        node.until(lambda: len(node.kernel().sets) >= 2)
        with from_pod(made):
            node.until(lambda: found(node, "dialled"), FOUND_SECONDS)
            time.sleep(LOOK_SECONDS)
        assert not found(node, "inside")
        node.stop()


def test_what_the_node_itself_sends_is_held_beside_it(tmp_path: pathlib.Path) -> None:
    """One limit is verified by packets through netfilter, another fails beside it; that ends when its packets pass."""
    with bypassed_node(tmp_path, "--placement", "interface", clients=2) as (made, node):
        slow, held = made.clients
        node.limit("slow", [slow.address4], "8Mbit")
        node.limit("held", [held.address4], "8Mbit")
        node.start()
        node.until_rate(slow.address4, RATE)
        with TcpFlow(made.network.server, held), WireMeter(held) as meter:
            with from_pod(made):
                node.until(lambda: found(node), FOUND_SECONDS)
                holding.assert_held(meter, RATE)
            time.sleep(LOOK_SECONDS)
            assert "no longer failing" not in node.log.read_text()
            with TcpFlow(made.network.server, slow):
                node.until(lambda: "no longer failing" in node.log.read_text(), 15.0)
        assert not found(node, "held")
        node.stop()


def test_an_agent_that_starts_again_finds_it_again(tmp_path: pathlib.Path) -> None:
    """Also where it cannot know it from before; traffic shows it within seconds."""
    with bypassed_node(tmp_path) as (made, node), from_pod(made):
        node.limit("slow", [made.clients[0].address4], "8Mbit")
        for times in (1, 2):
            node.start()
            node.until(lambda times=times: node.log.read_text().count('"started"') == times)  # type: ignore[misc]
            node.until(lambda times=times: len(node.alarms()) == times, FOUND_SECONDS)  # type: ignore[misc]
            node.kill()
            (node.state / "bypassed.json").unlink(missing_ok=True)


def test_limits_that_hold_are_never_called_bypassed(network: Network, node: Node) -> None:
    """While rates change, limits come and go, clients too, and others send at full speed beside them."""
    client, other = network.clients
    node.limit("over", ["203.0.113.0/28"], "40Mbit")
    node.start()
    with contextlib.ExitStack() as stack:
        stack.enter_context(TcpFlow(network.server, other, family=6))
        stack.enter_context(UdpFlow(network.server, client, rate_bits_per_second=20e6, payload_bytes=100))
        for turn, rate in enumerate(("64kbit", "1Gbit", "8Mbit", "256kbit", "100Mbit", "64kbit", "20Mbit", "5Mbit")):
            mode = "Observe" if turn % 3 == 2 else "Enforce"
            node.limit("slow", [client.address4, client.address6], rate, mode=mode, priority=turn % 2)
            with TcpFlow(network.server, client, family=4 if turn % 2 else 6):
                time.sleep(1.3)
            if turn % 4 == 3:
                node.lift("slow")
    assert node.stop() == 0
    assert not node.alarms()
