"""What other programs do to ours, and what ours must never do to theirs, with a running agent."""

from __future__ import annotations

import pytest

from bandwidth_agent.kernel import model
from bandwidth_lab import Network
from bandwidth_lab.node import Node
from kernel.behaviour import holding

pytestmark = pytest.mark.root

RATE = 4_000_000


@pytest.fixture
def running(network: Network, node: Node) -> Node:
    """An agent that holds the first client to 4 Mbit, reading all back every 2 seconds."""
    client = network.clients[0]
    node.limit("slow", [client.address4, client.address6], "4Mbit")
    node.start("--resync", "2", "--log-format", "json")
    node.until(lambda: '"in_force": 1' in node.log.read_text())
    assert node.rate_of(client.address4) == node.rate_of(client.address6) == RATE
    return node


FAULTS = {
    "root of the ifb replaced": "tc qdisc replace dev cbl0 root pfifo",
    "root of the ifb deleted": "tc qdisc del dev cbl0 root",
    "class deleted": "tc class del dev cbl0 classid 7cb1:1",
    "class sped up": "tc class change dev cbl0 classid 7cb1:1 htb rate 900mbit ceil 900mbit",
    "leaf replaced": "tc qdisc replace dev cbl0 parent 7cb1:1 handle 2: pfifo limit 5",
    "filter of the tree deleted": "tc filter del dev cbl0 parent 7cb1:",
    "clsact deleted": "tc qdisc del dev eth0 clsact",
    "egress filters deleted": "tc filter del dev eth0 egress",
    "ifb deleted": "ip link del cbl0",
    "ifb down": "ip link set cbl0 down",
    "mangle flushed": "iptables -t mangle -F",
    "mangle flushed v6": "ip6tables -t mangle -F",
    "jump deleted": "iptables -t mangle -F POSTROUTING",
    "our chain flushed": "iptables -t mangle -F CBL-POSTROUTING",
    "foreign rule above ours": "iptables -t mangle -I POSTROUTING -j ACCEPT",
    "set flushed": "ipset flush cbl-v4",
    "set entry deleted": "ipset del cbl-v4 203.0.113.10",
    "stranger's entry added": "ipset add cbl-v4 198.18.0.1 skbmark 0x10000/0xffff0000",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_repaired(network: Network, running: Node, fault: str) -> None:
    """Whatever is changed of ours is put back, and the limit holds again."""
    client = network.clients[0]
    before = running.kernel()
    running.namespace.run(FAULTS[fault].split())
    running.until(lambda: running.kernel() == before)
    holding.assert_client_held(network.server, client, RATE)


def test_chain_removed_and_set_destroyed(network: Network, running: Node) -> None:
    """Jump, chain and set taken away together come back together."""
    before = running.kernel()
    with running.suspended():  # or it may be faster with its repair than the stranger with the next step
        for command in (
            "iptables -t mangle -F POSTROUTING",
            "iptables -t mangle -F CBL-POSTROUTING",
            "iptables -t mangle -X CBL-POSTROUTING",
            "ipset destroy cbl-v4",
        ):
            running.namespace.run(command.split())
    running.until(lambda: running.kernel() == before)


def test_ruleset_flushed_by_nft(network: Network, running: Node) -> None:
    """`nft flush ruleset`, as firewall scripts do it, is repaired with everything else gone."""
    before = running.kernel()
    running.namespace.run(["nft", "flush", "ruleset"])
    running.until(lambda: running.kernel() == before)


def running_at_the_root(network: Network, node: Node) -> model.State:
    """Start an agent that shapes at the interface's own root; returns what it made of one limit."""
    node.options = ("--placement", "interface")
    node.limit("slow", [network.clients[0].address4], "4Mbit")
    node.start("--resync", "2", "--log-format", "json")
    node.until(lambda: '"in_force": 1' in node.log.read_text())
    return node.kernel()


def test_root_of_the_interface_deleted(network: Network, node: Node) -> None:
    """Under placement interface our root that another program deletes is put back with its classes."""
    before = running_at_the_root(network, node)
    node.namespace.tc("qdisc del dev eth0 root")
    node.until(lambda: node.kernel() == before)


def test_root_of_the_interface_replaced_by_a_stranger(network: Network, node: Node) -> None:
    """A stranger's root in the place of ours stays; each limit says so, and is in force again when that root goes."""
    before = running_at_the_root(network, node)
    node.namespace.tc("qdisc replace dev eth0 root handle 9: tbf rate 300mbit burst 256k latency 50ms")
    node.until(lambda: "ForeignQdisc" in node.log.read_text())
    node.until(lambda: not node.kernel().sets)
    assert "qdisc tbf 9: root" in node.namespace.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout
    node.namespace.tc("qdisc del dev eth0 root")
    node.until(lambda: node.kernel() == before)


def test_strangers_survive_faults_and_repairs(network: Network, node: Node) -> None:
    """Rules, sets, filters and qdiscs of others are exactly as before while limits come, drift, and go."""
    host = network.server.namespace
    for command in (
        "iptables -t mangle -A POSTROUTING -d 198.51.100.0/24 -j MARK --set-xmark 0x4000/0x4000",
        "iptables -t mangle -N SOMEBODY",
        "iptables -t mangle -A OUTPUT -j SOMEBODY",
        "ip6tables -t mangle -A FORWARD -j TCPMSS --set-mss 1200 -p tcp --tcp-flags SYN,RST SYN",
        "ipset create somebody hash:ip",
        "ipset add somebody 192.0.2.77",
        "ip link add strange0 type veth peer name strange1",
        "tc qdisc add dev strange0 root handle 1: htb default 7",
        "tc class add dev strange0 parent 1: classid 1:7 htb rate 10mbit",
    ):
        host.run(command.split())
    before = node.snapshot()
    client = network.clients[0]
    node.limit("slow", [client.address4, client.address6], "4Mbit")
    node.start("--resync", "2", "--log-format", "json")
    node.until(lambda: '"in_force": 1' in node.log.read_text())
    with_limit = node.snapshot()
    host.run(["ipset", "flush", "cbl-v4"])
    node.until_rate(client.address4, RATE)
    host.run(["ip", "link", "del", "cbl0"])
    node.until_rate(client.address4, RATE)
    for command in ("iptables-save", "ip6tables-save"):
        kept = [line for line in node.snapshot()[command].splitlines() if "CBL" not in line]
        assert kept == [line for line in with_limit[command].splitlines() if "CBL" not in line]
        assert [line for line in before[command].splitlines() if line not in kept] == []
    node.lift("slow")
    node.until(lambda: node.kernel() == model.EMPTY)
    assert node.stop() == 0
    assert node.snapshot() == before


def test_stubborn_writer_is_given_up_loudly(network: Network, running: Node) -> None:
    """A program that undoes each repair at once is left alone and named; the limit is back soon after it stops."""
    client = network.clients[0]
    undo = "while :; do iptables -t mangle -F POSTROUTING; sleep 0.05; done"
    stubborn = running.namespace.start(["sh", "-c", undo])
    running.until(lambda: "ConflictingWriter" in running.log.read_text())
    stubborn.kill()
    running.until(lambda: running.kernel().chains[4].jump_first)
    assert running.rate_of(client.address4) == running.rate_of(client.address6) == RATE
    holding.assert_client_held(network.server, client, RATE)


def test_a_firewall_reloaded_six_times_sets_nobody_free(network: Network, running: Node) -> None:
    """Each reload is followed by a repair, and no limit ever says that another program is fighting."""
    before = running.kernel()
    rules = running.namespace.run(["iptables-save"]).stdout
    rules = "".join(line for line in rules.splitlines(keepends=True) if "CBL" not in line)
    for _ in range(6):
        running.namespace.run(["iptables-restore"], stdin=rules)
        running.until(lambda: running.kernel() == before)
    assert "ConflictingWriter" not in running.log.read_text()
    holding.assert_client_held(network.server, network.clients[0], RATE)


def test_a_second_agent_is_refused(network: Network, running: Node) -> None:
    """In one network namespace a second agent, and a cleanup, say that one is running, and change nothing."""
    before = running.kernel()
    for program in ("run", "cleanup"):
        done = running.namespace.run(running.command(program), check=False)
        assert done.returncode == 1
        assert "running" in done.stderr
    assert running.kernel() == before
