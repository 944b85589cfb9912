"""Beside other people's qdiscs, filters and marks: nothing of theirs is touched, and limits hold or say why not."""

from __future__ import annotations

import pathlib
import sys

import pytest

from bandwidth_lab import Network, TcpFlow, WireMeter, star
from bandwidth_lab.node import Node
from kernel.behaviour import holding

pytestmark = pytest.mark.root

TO_SINK = "u32 match ip dst 203.0.113.11/32 action mirred egress redirect dev sink"

ROOTS = {
    "tbf": ["qdisc add dev eth0 root handle 5: tbf rate 200mbit burst 256k latency 50ms"],
    "htb": [
        "qdisc add dev eth0 root handle 1: htb default 10",
        "class add dev eth0 parent 1: classid 1:10 htb rate 300mbit",
    ],
    "mq": ["qdisc add dev eth0 root handle 8: mq"],
}


@pytest.mark.parametrize("root", ["tbf", "htb"])
def test_foreign_root_stays_and_limits_hold_beside_it(network: Network, node: Node, root: str) -> None:
    """With another program's root on the interface the limit is in force through an ifb, and that root is as it was."""
    client = network.clients[0]
    node.namespace.tc(*ROOTS[root])
    before = node.snapshot()
    node.limit("slow", [client.address4], "4Mbit")
    report = node.once()
    (interface,) = report["interfaces"]
    assert interface["placement"] == "ifb"
    assert interface["rootQdisc"].startswith(root)
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        holding.assert_held(meter, 4_000_000)
    shown = node.snapshot()
    roots = [x for x in before["tc qdisc show"].splitlines() if "dev eth0" in x]
    assert [x for x in shown["tc qdisc show"].splitlines() if "dev eth0" in x and "clsact" not in x] == roots
    assert shown["tc class show dev eth0"] == before["tc class show dev eth0"]
    node.cleanup()
    assert node.snapshot() == before


@pytest.mark.parametrize("root", ["tbf", "htb"])
def test_foreign_root_is_refused_at_the_interface(network: Network, node: Node, root: str) -> None:
    """Under `placement: interface` a foreign root makes each limit fail with the reason, and nothing is changed."""
    node.options = ("--placement", "interface")
    node.namespace.tc(*ROOTS[root])
    before = node.snapshot()
    node.limit("slow", [network.clients[0].address4], "4Mbit")
    report = node.once(check=False)
    assert [(f["name"], f["reason"]) for f in report["failing"]] == [("slow", "ForeignQdisc")]
    assert root in report["failing"][0]["message"]
    assert (report["limits"]["programmed"], report["interfaces"][0]["placement"]) == (0, "none")
    assert node.snapshot() == before


def test_mq_root(tmp_path: pathlib.Path) -> None:
    """Another program's mq on a device with several queues stays under an ifb, and is refused as the interface's root.

    No client is reached by it, which is why the first report names a limit that is not in force.
    """
    with star(clients=1, prefix="kb-") as network:
        host = network.server.namespace
        # A pair of devices with four queues, as the second uplink.
        network.lab.namespace("far")
        host.ip(
            "link add eth9 numtxqueues 4 numrxqueues 4 type veth peer name far9",
            "link set far9 up",
            "link set eth9 up",
        )
        host.tc("qdisc add dev eth9 root handle 8: mq")
        node = Node(host, tmp_path, "--interface", "eth9", interface="eth9")
        before = node.snapshot()
        node.limit("slow", [network.clients[0].address4], "4Mbit")
        (interface,) = node.once(check=False)["interfaces"]
        assert (interface["placement"], interface["rootQdisc"]) == ("ifb", "mq 8:")
        node.cleanup()
        assert node.snapshot() == before
        node.options = ("--interface", "eth9", "--placement", "interface")
        assert [f["reason"] for f in node.once(check=False)["failing"]] == ["ForeignQdisc"]
        assert node.snapshot() == before


def test_foreign_egress_filter_is_not_disturbed(network: Network, node: Node) -> None:
    """Where another program filters on the egress hook, auto takes the interface's root, and its filter still works."""
    client = network.clients[0]
    node.namespace.ip("link add sink type veth peer name sinks", "link set sink up")
    node.namespace.tc("qdisc add dev eth0 clsact", f"filter add dev eth0 egress protocol ip pref 10 {TO_SINK}")
    before = node.snapshot()
    node.limit("slow", [client.address4], "4Mbit")
    report = node.once()
    assert report["interfaces"][0]["placement"] == "interface"
    assert "egress" in report["interfaces"][0]["message"]
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        holding.assert_held(meter, 4_000_000)
    pinged = network.clients[1].namespace.run(["ping", "-c", "1", "-W", "1", network.server.address4], check=False)
    assert pinged.returncode != 0, "the stranger's filter drops what goes to this client"
    node.cleanup()
    assert node.snapshot() == before


def running_at_4mbit(node: Node, client: str) -> None:
    """Start an agent that reads all back every 2 seconds, and wait until it holds the client."""
    node.limit("slow", [client], "4Mbit")
    node.start("--resync", "2")
    node.until_rate(client, 4_000_000)


def test_foreign_filter_that_comes_later(network: Network, node: Node) -> None:
    """A filter that another program adds while we are there runs before ours, and the limit still holds."""
    client = network.clients[0]
    running_at_4mbit(node, client.address4)
    node.namespace.ip("link add sink type veth peer name sinks", "link set sink up")
    node.namespace.tc(f"filter add dev eth0 egress protocol ip {TO_SINK}")
    node.until(lambda: "eth0" in node.kernel().trees)
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        holding.assert_held(meter, 4_000_000)
    filters = node.namespace.run(["tc", "filter", "show", "dev", "eth0", "egress"]).stdout
    assert "redirect to device sink" in filters.lower()
    assert "bpf" not in filters, "ours are gone, it stays"
    node.stop()


def test_marks_of_others_choose_the_classifier(network: Network, node: Node) -> None:
    """A rule that uses our mark bits makes auto classify by priority, and its marks stay as they are."""
    client = network.clients[0]
    node.namespace.run(["iptables", "-t", "mangle", "-A", "OUTPUT", "-j", "MARK", "--set-xmark", "0x30000/0xff0000"])
    node.limit("slow", [client.address4], "4Mbit")
    report = node.once()
    assert report["classifier"] == "priority"
    assert "mangle chain OUTPUT" in report["classifierReason"]
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        holding.assert_held(meter, 4_000_000)


def test_kube_proxy_marks_leave_the_classifier_alone(network: Network, node: Node) -> None:
    """Rules on the bits that kube-proxy uses do not collide with the default mask."""
    node.namespace.run(
        ["iptables", "-t", "nat", "-A", "POSTROUTING", "-m", "mark", "--mark", "0x4000/0x4000", "-j", "MASQUERADE"]
    )
    node.limit("slow", [network.clients[0].address4], "4Mbit")
    assert node.once()["classifier"] == "mark"


REWRITING = {
    "iptables": ("-t mangle -A POSTROUTING -j MARK --set-mark 5", "-t mangle -F POSTROUTING"),
    "iptables-legacy": ("-t mangle -A POSTROUTING -j CONNMARK --restore-mark", "-t mangle -F POSTROUTING"),
    "nft": (
        "add table inet theirs; add chain inet theirs c { type filter hook postrouting priority 0; };"
        " add rule inet theirs c meta mark set ct mark",
        "delete table inet theirs",
    ),
}


@pytest.mark.parametrize("program", REWRITING)
def test_marks_that_are_rewritten_after_ours(network: Network, node: Node, program: str) -> None:
    """Where a rule takes every packet's mark away again, auto does without a mark until that rule is gone."""
    client = network.clients[0]
    comes, goes = REWRITING[program]
    node.limit("slow", [client.address4], "4Mbit")
    assert node.once()["interfaces"][0]["placement"] == "ifb"
    node.namespace.run([program, *comes.split()])
    report = node.once()
    (interface,) = report["interfaces"]
    assert (interface["placement"], interface["reason"]) == ("interface", "MarkConflict")
    assert report["classifier"] == "priority"
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        holding.assert_held(meter, 4_000_000)
    node.namespace.run([program, *goes.split()])
    report = node.once()
    assert (report["interfaces"][0]["placement"], report["classifier"]) == ("ifb", "mark")
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        holding.assert_held(meter, 4_000_000)


@pytest.mark.parametrize("family", ["ip", "ip6"])
@pytest.mark.parametrize("hook", ["forward", "postrouting"])
def test_a_rule_that_iptables_cannot_print(network: Network, node: Node, family: str, hook: str) -> None:
    """With an MSS clamp of nft in a mangle table limits hold, a second pass changes nothing, and nothing stays."""
    client = network.clients[0]
    clamp = "tcp flags syn tcp option maxseg size set rt mtu"
    chain = f"chain {hook.upper()} {{\ntype filter hook {hook} priority mangle; policy accept;\n{clamp}\n}}"
    node.namespace.run(["nft", "-f", "-"], stdin=f"table {family} mangle {{\n{chain}\n}}\n")
    before = node.snapshot()
    node.limit("slow", [client.address4, client.address6], "4Mbit")
    node.start("--resync", "2")
    node.until_rate(client.address4, 4_000_000)
    node.limit("more", ["203.0.113.99"], "1Mbit")
    node.until_rate("203.0.113.99", 1_000_000)
    holding.assert_client_held(network.server, client, 4_000_000, 6 if family == "ip6" else 4)
    node.stop()
    assert "ConflictingWriter" not in node.log.read_text()
    assert node.once()["changes"] == 0
    listed = node.namespace.run(["nft", "list", "table", family, "mangle"]).stdout
    assert listed.count("jump CBL-POSTROUTING") == 1
    node.cleanup()
    assert node.snapshot() == before


READING = {
    "iptables": [
        "iptables -t mangle -A OUTPUT -j MARK --set-mark 1",
        "iptables -t nat -A POSTROUTING -m mark --mark 1 -j SNAT --to-source 192.0.2.77",
    ],
    "iptables-legacy": [
        "iptables-legacy -t mangle -A OUTPUT -j MARK --set-mark 1",
        "iptables-legacy -t nat -A POSTROUTING -m mark --mark 1 -j SNAT --to-source 192.0.2.77",
    ],
    "nft": [
        "nft add table ip theirs; add chain ip theirs out { type route hook output priority -150; };"
        " add rule ip theirs out meta mark set 1; add chain ip theirs nat { type nat hook postrouting priority 100; };"
        " add rule ip theirs nat meta mark 1 snat to 192.0.2.77"
    ],
}


def source_seen_by(network: Network, number: int) -> str:
    """The address from which a new connection of the server comes to this client."""
    client = network.clients[number]
    listen = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10);"
        f" s.bind(('{client.address4}', 7007)); print('ready', flush=True); print(s.recvfrom(99)[1][0], flush=True)"
    )
    listener = client.namespace.start([sys.executable, "-c", listen])
    assert listener.stdout is not None
    assert listener.stdout.readline() == "ready\n"
    send = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('{client.address4}', 7007))"
    network.server.namespace.run([sys.executable, "-c", send])
    return str(listener.stdout.readline().strip())


@pytest.mark.parametrize("program", READING)
def test_a_limited_client_is_masqueraded_by_mark_like_the_others(network: Network, node: Node, program: str) -> None:
    """A rule after ours that compares the whole mark finds the packets to a limited client as it finds all others."""
    client = network.clients[0]
    node.namespace.ip("address add 192.0.2.77/32 dev lo")
    for command in READING[program]:
        node.namespace.run(command.split(maxsplit=1) if command.startswith("nft") else command.split())
    node.limit("slow", [client.address4, client.address6], "4Mbit")
    report = node.once()
    (interface,) = report["interfaces"]
    assert (interface["placement"], interface["reason"]) == ("interface", "MarkConflict")
    assert (report["classifier"], report["warnings"], report["limits"]["programmed"]) == ("priority", [], 1)
    assert [source_seen_by(network, number) for number in (0, 1)] == ["192.0.2.77"] * 2
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        holding.assert_held(meter, 4_000_000)
    assert node.once()["changes"] == 0


def test_no_bit_of_ours_is_saved_into_connections(network: Network, node: Node) -> None:
    """A rule after ours that saves the whole mark saves what it saved without us, so that answers keep their uplink."""
    client = network.clients[0]
    for rule in (
        "PREROUTING -j CONNMARK --restore-mark",
        "PREROUTING -m mark --mark 0 -j MARK --set-mark 2",
        "PREROUTING -j CONNMARK --save-mark",
        "PREROUTING -m mark ! --mark 2 -m comment --comment spoiled",
        "OUTPUT -j CONNMARK --restore-mark",
        "POSTROUTING -j CONNMARK --save-mark",
    ):
        node.namespace.run(["iptables", "-t", "mangle", "-A", *rule.split()])
    node.limit("slow", [client.address4], "4Mbit")
    (interface,) = node.once()["interfaces"]
    assert (interface["placement"], interface["reason"]) == ("interface", "MarkConflict")
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        holding.assert_held(meter, 4_000_000)
    (spoiled,) = (
        line
        for line in node.namespace.run(["iptables-save", "-c", "-t", "mangle"]).stdout.splitlines()
        if "spoiled" in line
    )
    assert spoiled.startswith("[0:0]")


@pytest.mark.parametrize("root", ["tbf", "mq"])
def test_where_no_way_is_harmless_the_limit_says_so(network: Network, node: Node, root: str) -> None:
    """With another program's root on the interface as well, no packet is marked, and the message says what helps."""
    node.namespace.tc(*ROOTS[root])
    for command in READING["iptables"]:
        node.namespace.run(command.split())
    before = node.snapshot()
    node.limit("slow", [network.clients[0].address4], "4Mbit")
    (failing,) = node.once(check=False)["failing"]
    assert failing["reason"] == "ForeignQdisc"
    assert "nat chain POSTROUTING" in failing["message"]
    assert "mask without 0x1000" in failing["message"]
    assert node.snapshot() == before


@pytest.mark.parametrize(
    ("commands", "unmarked"),
    [
        ([command.split() for command in READING["iptables"]], True),
        ([["iptables", *REWRITING["iptables"][0].split()]], False),
    ],
    ids=["reading", "rewriting"],
)
def test_a_rule_on_the_mark_that_comes_under_traffic(
    network: Network, node: Node, commands: list[list[str]], unmarked: bool
) -> None:
    """A running agent finds it at the next reading, and the flow is at its limit again; where the rule reads marks, the
    agent's own are gone."""
    client = network.clients[0]
    running_at_4mbit(node, client.address4)
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        holding.assert_held(meter, 4_000_000)
        for command in commands:
            node.namespace.run(command)
        node.until(lambda: "eth0" in node.kernel().trees)
        if unmarked:
            node.until(lambda: not any(e.mask for s in node.kernel().sets.values() for e in s.entries.values()))
        holding.assert_held(meter, 4_000_000)
    node.stop()
