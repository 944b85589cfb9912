"""What `cleanup` leaves behind, and the end of the last limit: the host as it was found, to the byte."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel import model
from bandwidth_lab import Lab, Network, star
from bandwidth_lab.node import Node
from kernel.behaviour.passes import Passes

pytestmark = pytest.mark.root

NOTHING = "nothing to remove\n"
COMBINATIONS = tuple(itertools.product(("ifb", "interface"), ("mark", "priority")))

TO_OTHER = "action mirred egress redirect dev other0"

# Of another program each, in every table and at every place that we use too.
STRANGERS = (
    "iptables-{} -t mangle -A POSTROUTING -d 198.51.100.0/24 -j MARK --set-xmark 0x4/0x4",
    "iptables-{} -t mangle -N SOMEBODY",
    "iptables-{} -t mangle -A SOMEBODY -m comment --comment somebody -j RETURN",
    "iptables-{} -t mangle -A POSTROUTING -j SOMEBODY",
    "iptables-{} -t mangle -P FORWARD DROP",
    "iptables-{} -t nat -A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE",
    "ip6tables-{} -t mangle -A OUTPUT -p tcp -m tcp --dport 9 -j ACCEPT",
    "ip6tables-{} -t raw -A PREROUTING -j ACCEPT",
    "nft add table inet somebody",
    "nft add chain inet somebody late { type filter hook postrouting priority mangle + 5 ; }",
    "nft add rule inet somebody late ip daddr 198.51.100.7 counter accept",
    "ipset create somebody hash:net family inet6",
    "ipset add somebody 2001:db8:77::/64",
    "ipset create cbl-like hash:ip",  # not ours, for all its name
    "ip link add other0 numtxqueues 2 type veth peer name other1 numtxqueues 2",
    "tc qdisc add dev other0 root handle 1: htb default 3",
    "tc class add dev other0 parent 1: classid 1:3 htb rate 9mbit",
    "tc qdisc add dev other1 root handle 9: mq",
    "tc qdisc add dev lo clsact",
    "tc qdisc add dev eth0 clsact",
    f"tc filter add dev eth0 ingress protocol ip pref 9 u32 match ip src 198.51.100.9/32 {TO_OTHER}",
    "ip link add ifb7 type ifb",
    "ip link set ifb7 up",
    "ip link add cblx type ifb",
)


@pytest.fixture
def network() -> Iterator[Network]:
    with star(clients=1, prefix="kz-") as made:
        yield made


def strangers(node: Node, backend: str) -> None:
    for command in STRANGERS:
        node.namespace.run(command.replace("-{}", f"-{backend}").split())


def snapshot(node: Node) -> dict[str, str]:
    """With the tables of both back ends of iptables."""
    taken = node.snapshot()
    for backend, family in itertools.product(("legacy", "nft"), ("iptables", "ip6tables")):
        text = node.namespace.run([f"{family}-{backend}-save"]).stdout
        lines = (line.split(" [")[0] for line in text.splitlines() if not line.startswith("#"))
        taken[f"{family} {backend}"] = "\n".join(lines)
    return taken


def limits(node: Node) -> None:
    """Everything that a limit can bring along: both families, ports, exceptions, Observe, one class per client."""
    node.limit("slow", ["203.0.113.10", "2001:db8:0:2::10"], "4Mbit")
    node.limit("imap", ["203.0.113.0/25"], "8Mbit", egress={"ports": [{"port": 993}, {"port": 53, "protocol": "UDP"}]})
    node.limit("watch", ["203.0.113.128/25"], "1Mbit", mode="Observe", **{"except": ["203.0.113.200/32"]})
    node.limit("each", ["2001:db8:7::1", "2001:db8:7::2"], "2Mbit", egress={"sharing": "PerEntry"})


def assert_same(after: dict[str, str], before: dict[str, str]) -> None:
    lines = [f"{name}: {line}" for name, text in before.items() for line in text.splitlines()]
    assert [f"{name}: {line}" for name, text in after.items() for line in text.splitlines()] == lines


@pytest.mark.parametrize("host", ["empty", "others"])
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_host_is_as_it_was(node: Node, passes: Passes, backend: str, host: str) -> None:
    """Wherever classes are and however packets find them: the last limit's end, and `cleanup`, leave no trace."""
    if host == "others":
        strangers(node, backend)
    elif backend == "legacy":
        for family in ("iptables", "ip6tables"):  # a table of this back end that was once asked for stays listed
            node.namespace.run([f"{family}-legacy", "-t", "mangle", "-L"])
    before = snapshot(node)
    for placement, classifier in COMBINATIONS:
        node.options = ("--placement", placement, "--classifier", classifier, "--iptables-backend", backend)
        for ending in ("lift", "cleanup"):
            limits(node)
            report = passes.once()
            assert [i["placement"] for i in report["interfaces"]] == [placement]
            assert report["classifier"] == classifier
            if ending == "cleanup":
                assert passes.cleanup() != NOTHING
            else:
                for file in node.manifests.glob("*.yaml"):
                    file.unlink()
                assert passes.once()["limits"]["desired"] == 0
            assert_same(snapshot(node), before)
    assert passes.cleanup() == NOTHING
    assert_same(snapshot(node), before)


def test_cleanup_of_nothing_changes_nothing(node: Node, passes: Passes) -> None:
    """On a host that never had a limit it says so, with exit code 0, twice."""
    before = snapshot(node)
    for _ in range(2):
        assert passes.cleanup() == NOTHING
        assert_same(snapshot(node), before)


SETTINGS = (
    "",
    "--placement interface --classifier priority --iptables-backend nft",
    "--placement ifb --classifier priority --redirect-mark 0x2 --iptables-backend legacy",
    "--placement ifb --mark-mask 0xfff --iptables-backend nft",
)


@pytest.mark.parametrize("removing", range(len(SETTINGS)))
def test_cleanup_with_other_settings(node: Node, passes: Passes, removing: int) -> None:
    """An agent that was configured otherwise, or not at all, removes what any other has installed."""
    for family in ("iptables", "ip6tables"):
        node.namespace.run([f"{family}-legacy", "-t", "mangle", "-L"])
    before = snapshot(node)
    for installing in range(len(SETTINGS)):
        if installing == removing:
            continue
        node.options = tuple(SETTINGS[installing].split())
        limits(node)
        passes.once()
        node.options = ("--interface", "nothing*", *SETTINGS[removing].split())
        passes.cleanup()
        assert_same(snapshot(node), before)


def test_cleanup_after_a_kill(node: Node, passes: Passes) -> None:
    """An agent killed while it works, and another one idle, leave nothing that `cleanup` does not find."""
    strangers(node, "nft")
    before = snapshot(node)
    for number in range(300):
        node.limit(f"l-{number}", [f"198.18.0.{number % 250}/32", f"2001:db8:9::{number + 1:x}"], "1Mbit")
    node.start()
    node.until(lambda: node.kernel() != model.EMPTY)
    node.kill()
    passes.cleanup()
    assert_same(snapshot(node), before)
    node.start()
    node.until_rate("198.18.0.7", 1_000_000)
    node.kill()
    passes.cleanup()
    assert_same(snapshot(node), before)
    assert passes.cleanup() == NOTHING


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_cleanup_killed_anywhere(node: Node, passes: Passes, placement: str) -> None:
    """Wherever a cleanup dies, other programs go on, the next one removes the rest, and `run` would bring all back."""
    node.options = ("--placement", placement)
    strangers(node, "nft")
    before = snapshot(node)
    limits(node)
    passes.once()
    whole = node.kernel()
    step = 0
    while passes.killed_cleanup(step):
        assert node.rate_of("198.51.100.1") is None
        if step % 2:
            passes.cleanup()
            assert_same(snapshot(node), before)
        passes.once()
        assert node.kernel() == whole
        step += 1
    assert step > 5
    assert_same(snapshot(node), before)


DAMAGE = (
    "tc qdisc del dev eth0 clsact",
    "ip link del cbl0",
    "ip link set cbl0 down",
    "tc qdisc replace dev cbl0 root pfifo",
    "iptables -t mangle -F",
    "ip6tables -t mangle -F CBL-POSTROUTING",
    "nft flush ruleset",
    "ipset flush",
    "ip link set cbl0 name strange",
    "ip link set eth0 down",
)

# What is not ours to put right.
MENDING = {
    # Who flushes a table by iptables makes it, and with our rule goes our memory that it was not there before.
    "iptables -t mangle -F": "nft delete table ip mangle",
    "ip link set cbl0 name strange": "ip link del strange",  # not ours any more
    "ip link set eth0 down": (
        "ip link set eth0 up && ip address add 2001:db8:0:1::10/64 dev eth0 nodad"
        " && ip route add default via 192.0.2.1 dev eth0 metric 100"
        " && ip route add default via 2001:db8:0:1::1 dev eth0 metric 100"
    ),
}


def test_cleanup_of_what_is_left(node: Node, passes: Passes) -> None:
    """Whatever another program has taken away or broken before, the rest goes."""
    before = snapshot(node)
    for damage in DAMAGE:
        limits(node)
        passes.once()
        node.namespace.run(damage.split())
        passes.cleanup()
        node.namespace.run(["sh", "-c", MENDING.get(damage, "true")])
        assert_same(snapshot(node), before)
        assert node.kernel() == model.EMPTY


def test_several_interfaces_and_default_roots(tmp_path: pathlib.Path) -> None:
    """The kernel's own roots come back: noqueue, pfifo_fast and mq with its queues, and whatever the default is."""
    with Lab("kz-") as lab:
        host = lab.namespace("server")
        host.ip(
            "link add up0 type ifb",
            "link add up1 numtxqueues 4 type ifb",
            "link add up2 type veth peer name down2",
            "link set up0 up",
            "link set up1 up",
            "link set up2 up",
            "link set down2 up",
        )
        node = Node(host, tmp_path, "--interface", "up*", interface="up0")
        roots = [line.split()[1] for line in node.snapshot()["tc qdisc show"].splitlines() if " dev up" in line]
        assert "mq" in roots
        before = snapshot(node)
        passes = Passes(node)
        for placement in ("ifb", "interface"):
            node.options = ("--interface", "up*", "--placement", placement)
            limits(node)
            report = passes.once()
            assert [(i["name"], i["placement"]) for i in report["interfaces"]] == [
                ("up0", placement),
                ("up1", placement),
                ("up2", placement),
            ]
            passes.cleanup()
            assert_same(snapshot(node), before)
