"""What comes back from an ifb is sorted by the interface's own root as it was without us: filters by mark, bands."""

from __future__ import annotations

import re

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.rtnl import filter_marks
from bandwidth_lab import Network
from kernels.forked import ForkedNode

pytestmark = [pytest.mark.root, pytest.mark.kernels]

CLASSES = [
    "qdisc add dev eth0 root handle 5: htb default 20",
    "class add dev eth0 parent 5: classid 5:1 htb rate 300mbit",
    "class add dev eth0 parent 5:1 classid 5:10 htb rate 100mbit",
    "class add dev eth0 parent 5:1 classid 5:20 htb rate 100mbit",
]
FILTERS = {
    "fw": "filter add dev eth0 parent 5: protocol ip handle {mark} fw classid 5:10",
    "fw of a class": "filter add dev eth0 parent 5: protocol ip matchall classid 5:1",
    "u32": "filter add dev eth0 parent 5: protocol ip u32 match mark {mark} 0xffffffff flowid 5:10",
    "basic": "filter add dev eth0 parent 5: protocol ip basic match 'meta(nf_mark eq {mark})' classid 5:10",
}
BELOW = "filter add dev eth0 parent 5:1 protocol ip handle {mark} fw classid 5:10"


def pinged(network: Network, *options: str) -> None:
    (client,) = network.clients
    network.server.namespace.run(["ping", "-c", "3", "-i", "0.2", *options, client.address4])


def sent(node: ForkedNode, classid: str) -> int:
    """The packets that a class of eth0's own root has sent."""
    printed = node.namespace.run(["tc", "-s", "class", "show", "dev", "eth0"]).stdout
    found = re.search(rf"class \w+ {classid} .*\n Sent \d+ bytes (\d+) pkt", printed)
    return int(found[1]) if found is not None else 0


@pytest.mark.parametrize(("mark", "classifier"), [("0x1/0xff", "mark"), ("0x10001/0xff00ff", "priority")])
@pytest.mark.parametrize("kind", FILTERS)
def test_filters_by_mark_see_the_mark_that_others_wrote(
    network: Network, node: ForkedNode, kind: str, mark: str, classifier: str
) -> None:
    """Packets to a limited client pass their class on the ifb, and then the class at the root that their mark names."""
    (client,) = network.clients
    value = mark.partition("/")[0]
    node.namespace.tc(*CLASSES)
    for filtering in [FILTERS[kind], *([BELOW] if kind == "fw of a class" else [])]:
        node.namespace.run(["sh", "-c", f"tc {filtering.format(mark=value)}"])
    node.namespace.run(["iptables", "-t", "mangle", "-A", "OUTPUT", "-p", "icmp", "-j", "MARK", "--set-xmark", mark])
    pinged(network)
    assert sent(node, "5:10") == 3
    node.limit("slow", [client.address4], "1Mbit")
    report = node.once()
    assert (report["interfaces"][0]["placement"], report["classifier"]) == ("ifb", classifier)
    pinged(network)
    assert sent(node, "5:10") == 6
    tree = node.kernel().trees["cbl0"]
    assert tree.filter == (objects.MarkFilter(0xFFFF0000, clears=True) if classifier == "mark" else None)
    assert node.kernel().hooks["eth0"].clears is (classifier == "priority")
    assert node.once()["changes"] == 0


def test_bands_by_priority(network: Network, node: ForkedNode) -> None:
    """By mark a packet keeps its band; where the class would have to travel as the priority, the limit says no."""
    (client,) = network.clients
    node.namespace.tc("qdisc add dev eth0 root handle 5: prio")
    node.limit("slow", [client.address4], "1Mbit")
    assert node.once()["interfaces"][0]["placement"] == "ifb"
    before = sent(node, "5:1")
    pinged(network, "-Q", "0x10")
    assert sent(node, "5:1") == before + 3
    node.namespace.run(["iptables", "-t", "mangle", "-A", "OUTPUT", "-j", "MARK", "--set-xmark", "0x30000/0xff0000"])
    report = node.once(check=False)
    (failing,) = report["failing"]
    assert failing["reason"] == "ForeignQdisc"
    assert "sorts by the priority" in failing["message"]
    before = sent(node, "5:1")
    pinged(network, "-Q", "0x10")
    assert sent(node, "5:1") == before + 3


@pytest.mark.parametrize(
    ("root", "filtering", "marks"),
    [
        ("htb", "handle 1 fw classid 5:1", filter_marks.ALL_BITS),
        ("htb", "handle 0x10/0xf0 fw classid 5:1", 0xF0),
        ("htb", "fw", filter_marks.ALL_BITS),
        ("htb", "u32 match mark 0x10 0x30 flowid 5:1", 0x30),
        ("htb", "u32 match ip dst 192.0.2.1 flowid 5:1", 0),
        ("htb", "basic match 'meta(nf_mark gt 7)' classid 5:1", filter_marks.ALL_BITS),
        ("htb", "basic match 'meta(priority eq 7)' classid 5:1", 0),
        ("htb", "handle 1 flow map key mark baseclass 5:1", filter_marks.ALL_BITS),
        ("htb", "handle 1 flow map key dst baseclass 5:1", 0),
        ("htb", "flower dst_ip 192.0.2.1 classid 5:1", 0),
        ("htb", "matchall classid 5:1", 0),
        ("cake fwmark 0xf0", "", 0xF0),
        ("cake", "", 0),
    ],
)
def test_what_a_root_looks_at(node: ForkedNode, root: str, filtering: str, marks: int) -> None:
    """Each kind of filter by mark is known by its bits, and no other filter counts as one."""
    node.namespace.tc(f"qdisc add dev eth0 root handle 5: {root}")
    if filtering:
        node.namespace.run(["sh", "-c", f"tc filter add dev eth0 parent 5: protocol ip pref 1 {filtering}"])
    found = node.facts().interfaces["eth0"].root
    assert found.marks == marks
    assert bool(found.filters) is bool(filtering)
