"""Which mark bits other programs use, as the real tools and the real kernel say it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.linux.netfilter import iptables
from bandwidth_api.plan import PortRange
from bandwidth_lab import Lab
from kernel.netfilter.nodes import PREFIX, Node, one_set, simple_chain

pytestmark = pytest.mark.root

ALL = 0xFFFFFFFF


def bits(node: Node) -> list[int]:
    return sorted(use.bits for use in node.mark_uses())


IPTABLES_RULES = {
    "POSTROUTING -j MARK --set-mark 0x5": [ALL],
    "POSTROUTING -j MARK --set-xmark 0x4000/0x4000": [0x4000],
    "POSTROUTING -j MARK --or-mark 0x8000": [0x8000],
    "POSTROUTING -j MARK --and-mark 0xfffffffe": [0x1],
    "POSTROUTING -j MARK --xor-mark 0x3": [0x3],
    "POSTROUTING -m mark --mark 0x2000/0x2000 -j ACCEPT": [0x2000],
    "POSTROUTING -m mark ! --mark 0x1/0x1 -j ACCEPT": [0x1],
    "POSTROUTING -m mark --mark 0 -j ACCEPT": [ALL],
    "POSTROUTING -m mark --mark 1/0xf -j MARK --set-xmark 0x10/0xf0": [0xFF],
    "POSTROUTING -m connmark --mark 0x80/0x80 -j ACCEPT": [],
    "POSTROUTING -m connmark --mark 0x80/0x80 -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80": [0x80],
    "POSTROUTING -j CONNMARK --restore-mark": [ALL],
    "POSTROUTING -j CONNMARK --save-mark": [ALL],
    "POSTROUTING -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xf00": [0xFF],
    "POSTROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xf00": [0xFFF],
    "POSTROUTING -j CONNMARK --set-mark 0x80/0x80": [],
    "PREROUTING -p tcp -j TPROXY --on-port 1 --tproxy-mark 0x200/0x200": [0x200],
    "PREROUTING -p tcp -j TPROXY --on-port 1": [],
    "POSTROUTING -j SET --map-set theirs dst --map-mark": [ALL],
    "POSTROUTING -j SET --map-set theirs dst --map-prio": [0],
    "PREROUTING -p tcp -m socket --transparent --restore-skmark -j ACCEPT": [ALL],
    "POSTROUTING -m comment --comment 'a -m mark --mark 0x1 -j MARK' -j ACCEPT": [],
    "PREROUTING -j CONNMARK --set-mark 1/1": [],
    "POSTROUTING -j CONNMARK --and-mark 1": [],
    "POSTROUTING -j CLASSIFY --set-class 1:1": [0],
}


@pytest.fixture(scope="module")
def workbench() -> Iterator[Node]:
    """One node for the many rules, each of which stands there alone."""
    with Lab(PREFIX) as lab:
        node = Node(lab.namespace("node"))
        node.out("ipset", "create", "theirs", "hash:net", "skbinfo")
        yield node


@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize(("rule", "expected"), IPTABLES_RULES.items())
def test_the_bits_of_an_iptables_rule(workbench: Node, backend: str, rule: str, expected: list[int]) -> None:
    """Every target and match that reads or writes packet marks gives exactly its bits, in both back ends."""
    program = workbench.tool(4, backend)
    workbench.out(f"{program}-restore", stdin=f"*mangle\n-A {rule}\nCOMMIT\n".replace("'", '"'))
    assert bits(workbench) == expected
    workbench.out(program, "-t", "mangle", "-F")


NFT_RULES = {
    "meta mark set meta mark or 0x4000": [0x4000],
    "meta mark and 0x4000 == 0x4000 accept": [0x4000],
    "meta mark set 1": [ALL],
    "meta mark 1 accept": [ALL],
    "ct mark set meta mark": [ALL],
    "meta mark set ct mark": [ALL],
    "meta mark set ct mark and 0xff": [ALL],
    "ct mark set meta mark and 0xff": [0xFF],
    "ct mark set 1": [],
    "ct mark 1 accept": [],
    "meta mark vmap { 1 : accept }": [ALL],
    "meta mark set meta mark and 0xffff0000 xor 0x1": [0xFFFF],
    "meta mark . tcp dport { 1 . 2 } accept": [ALL],
    "meta mark set meta mark << 1": [ALL],
    "tcp dport 3 meta mark and 0xf != 0 meta priority set 1:1": [0xF],
    "tcp dport 3 meta priority set 1:1 counter accept": [],
}


@pytest.mark.parametrize(("rule", "expected"), NFT_RULES.items())
@pytest.mark.parametrize("family", ["inet", "ip6"])
def test_the_bits_of_an_nftables_rule(workbench: Node, family: str, rule: str, expected: list[int]) -> None:
    """Rules of nft's own are decoded from the kernel, masks and all."""
    workbench.out("nft", "-f", "-", stdin=f"table {family} theirs {{\nchain c {{\n{rule}\n}}\n}}\n")
    assert bits(workbench) == expected
    workbench.out("nft", "delete", "table", family, "theirs")


REWRITERS = {
    "-A POSTROUTING -j MARK --set-mark 0x5": ALL,
    "-A POSTROUTING -m mark --mark 0x1/0x1 -j MARK --set-xmark 0x10/0xf0": 0xF0,
    "-A POSTROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff": 0xFF,
    "-A POSTROUTING -j CONNMARK --save-mark": 0,
    "-A POSTROUTING -j SET --map-set theirs dst --map-mark": ALL,
    "-A POSTROUTING -m mark --mark 0x2000/0x2000 -j ACCEPT": 0,
    "-A POSTROUTING -j first\n-A first -g second\n-A second -j MARK --set-mark 5": ALL,
    "-A first -j MARK --set-mark 5": 0,
    "-A PREROUTING -j first\n-A first -j MARK --set-mark 5": 0,
    "-A OUTPUT -j MARK --set-mark 5": 0,
}


def bits_of(node: Node, use: str) -> int:
    """The bits that others have `rewritten` after our rule, or `read` (compared or copied)."""
    found = 0
    for each in node.mark_uses():
        found |= getattr(each, use)
    return found


@contextlib.contextmanager
def restored(workbench: Node, backend: str, table: str, rules: str) -> Iterator[None]:
    """The table with these rules, as an iptables of this backend writes them; empty again afterwards."""
    program = workbench.tool(4, backend)
    text = f"*{table}\n:first - [0:0]\n:second - [0:0]\n{rules}\nCOMMIT\n".replace("'", '"')
    workbench.out(f"{program}-restore", stdin=text)
    try:
        yield
    finally:
        workbench.out(program, "-t", table, "-F")
        workbench.out(program, "-t", table, "-X")


@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize(("rules", "expected"), REWRITERS.items())
def test_what_iptables_writes_after_our_rule(workbench: Node, backend: str, rules: str, expected: int) -> None:
    """Only what is written counts, and only where packets on their way out come to it, through jumps too."""
    with restored(workbench, backend, "mangle", rules):
        assert bits_of(workbench, "rewritten") == expected


@pytest.mark.parametrize(
    ("what", "arriving"),
    [("fib saddr . mark oif missing drop", True), ("fib saddr . mark oif missing meta mark set 1", False)],
)
def test_a_reverse_path_filter_is_known_as_one(workbench: Node, what: str, arriving: bool) -> None:
    """What asks for the way back of arriving packets, as firewalld does, is told apart from what sees our bits."""
    rule = f"type filter hook prerouting priority -140\n{what}"
    workbench.out("nft", "-f", "-", stdin=f"table inet theirs {{\nchain c {{\n{rule}\n}}\n}}\n")
    (use,) = workbench.mark_uses()
    workbench.out("nft", "delete table inet theirs")
    assert (use.bits, use.arriving) == (ALL, arriving)


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy", "nft"])
def test_priorities_that_are_written_after_our_rule(workbench: Node, program: str) -> None:
    """They are told where packets come to them after our rule, and not where they are written before."""
    for chain, hook, expected in (("POSTROUTING", "postrouting", True), ("FORWARD", "forward", False)):
        if program == "nft":
            rule = f"type filter hook {hook} priority 0; meta priority set 1:10"
            workbench.out("nft", "-f", "-", stdin=f"table inet theirs {{\nchain c {{\n{rule}\n}}\n}}\n")
        else:
            workbench.out(program, "-t", "mangle", "-A", chain, "-j", "CLASSIFY", "--set-class", "1:10")
        found = workbench.mark_uses()
        assert [(use.bits, use.priority) for use in found] == ([(0, True)] if expected else [])
        workbench.out(*(["nft", "delete table inet theirs"] if program == "nft" else [program, "-t", "mangle", "-F"]))


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_what_the_first_packet_of_a_connection_meets_is_no_rewriting(workbench: Node, backend: str) -> None:
    """Rules for NAT see that one only."""
    program = workbench.tool(4, backend)
    workbench.out(program, "-t", "nat", "-A", "POSTROUTING", "-j", "MARK", "--set-mark", "5")
    try:
        assert (bits(workbench), bits_of(workbench, "rewritten")) == ([ALL], 0)
    finally:
        workbench.out(program, "-t", "nat", "-F")


HOOKED = {
    "type filter hook postrouting priority 0; meta mark set ct mark": ALL,
    "type filter hook postrouting priority mangle; meta mark set meta mark or 0x10": 0x10,
    "type filter hook postrouting priority -200; meta mark set ct mark": 0,
    "type filter hook postrouting priority 0; ct mark set meta mark": 0,
    "type filter hook postrouting priority 0; tcp dport 25 jump other": ALL,
    "type filter hook prerouting priority 0; jump other": 0,
    "type filter hook output priority 0; meta mark set 1": 0,
}


@pytest.mark.parametrize(("chain", "expected"), HOOKED.items())
@pytest.mark.parametrize("family", ["inet", "ip6"])
def test_what_nft_writes_after_our_rule(workbench: Node, family: str, chain: str, expected: int) -> None:
    """A chain's hook and priority tell whether its rules come after ours."""
    text = f"table {family} theirs {{\nchain other {{\nmeta mark set 1\n}}\nchain c {{\n{chain}\n}}\n}}\n"
    workbench.out("nft", "-f", "-", stdin=text)
    try:
        assert bits_of(workbench, "rewritten") == expected
    finally:
        workbench.out("nft", "delete", "table", family, "theirs")


READERS = {
    "-A POSTROUTING -m mark --mark 1 -j ACCEPT": ("mangle", ALL),
    "-A POSTROUTING -m mark ! --mark 0x1000/0x1000 -j ACCEPT": ("mangle", 0x1000),
    "-A POSTROUTING -j CONNMARK --save-mark": ("mangle", ALL),
    "-A POSTROUTING -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff": ("mangle", 0xFF),
    "-A POSTROUTING -j CONNMARK --restore-mark": ("mangle", 0),
    "-A POSTROUTING -j MARK --set-mark 5": ("mangle", 0),
    "-A POSTROUTING -j first\n-A first -m mark --mark 5 -j RETURN": ("mangle", ALL),
    "-A OUTPUT -m mark --mark 5 -j RETURN": ("mangle", 0),
    "-A PREROUTING -j CONNMARK --save-mark": ("mangle", 0),
    "-A POSTROUTING -m mark --mark 1 -j MASQUERADE": ("nat", ALL),
    "-A POSTROUTING -j first\n-A first -m mark --mark 0x4000/0x4000 -j MASQUERADE": ("nat", 0x4000),
    "-A POSTROUTING -m bpf --bytecode '1,6 0 0 1' -j ACCEPT": ("mangle", ALL),
}


@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize(("rules", "where"), READERS.items())
def test_what_iptables_reads_after_our_rule(workbench: Node, backend: str, rules: str, where: tuple[str, int]) -> None:
    """What is compared or saved behind ours counts, in every table that has POSTROUTING, through jumps too."""
    table, expected = where
    with restored(workbench, backend, table, rules):
        assert bits_of(workbench, "read") == expected


READING = {
    "type filter hook postrouting priority 0; meta mark 1 accept": ALL,
    "type filter hook postrouting priority mangle; meta mark and 0xf0 == 0x10 accept": 0xF0,
    "type filter hook postrouting priority -200; meta mark 1 accept": 0,
    "type filter hook postrouting priority 0; ct mark set meta mark": ALL,
    "type filter hook postrouting priority 0; ct mark set meta mark and 0xff": 0xFF,
    "type filter hook postrouting priority 0; meta mark set meta mark or 0x10": 0,
    "type filter hook postrouting priority 0; meta mark @marks accept": ALL,
    "type filter hook postrouting priority 0; tcp dport vmap { 25 : jump other }": ALL,
    "type filter hook postrouting priority 0; tcp dport 25 goto other": ALL,
    "type nat hook postrouting priority srcnat; meta mark 1 masquerade": ALL,
    "type nat hook postrouting priority srcnat; meta mark set 5": 0,
    "type filter hook output priority 0; meta mark 1 accept": 0,
    "type route hook output priority 0; ct mark set meta mark": 0,
}


@pytest.mark.parametrize(("chain", "expected"), READING.items())
@pytest.mark.parametrize("family", ["inet", "ip", "ip6"])
def test_what_nft_reads_after_our_rule(workbench: Node, family: str, chain: str, expected: int) -> None:
    """Whatever compares, looks up or saves the mark, in chains of all kinds that a leaving packet comes to."""
    marks = "set marks {\ntype mark\n}\n"
    text = f"table {family} theirs {{\n{marks}chain other {{\nmeta mark 7 accept\n}}\nchain c {{\n{chain}\n}}\n}}\n"
    workbench.out("nft", "-f", "-", stdin=text)
    try:
        assert bits_of(workbench, "read") == expected
    finally:
        workbench.out("nft", "delete", "table", family, "theirs")


@pytest.mark.parametrize(
    "table",
    [
        "table netdev theirs {\nchain c {\ntype filter hook egress device lo priority 0; meta mark 1 accept\n}\n}\n",
        "table bridge theirs {\nchain c {\ntype filter hook output priority 0; meta mark 1 accept\n}\n}\n",
        "table bridge theirs {\nchain c {\ntype filter hook postrouting priority -300; meta mark 1 accept\n}\n}\n",
    ],
)
def test_what_is_read_below_ip(workbench: Node, table: str) -> None:
    """The egress hook of a device and the hooks of a bridge come after the families of IP."""
    workbench.out("nft", "-f", "-", stdin=table)
    try:
        assert bits_of(workbench, "read") == ALL
    finally:
        workbench.out("nft", "delete", *table.split()[:3])


def test_rules_in_a_table_that_iptables_cannot_print_count(node: Node) -> None:
    """nft rules inside a table named like one of iptables are not overlooked."""
    rule = "tcp dport @s meta mark set meta mark or 0x10"
    text = f"table ip mangle {{\nset s {{\ntype inet_service\n}}\nchain c {{\n{rule}\n}}\n}}\n"
    node.out("nft", "-f", "-", stdin=text)
    assert bits(node) == [0x10]


def test_policy_routing_by_mark_counts(node: Node) -> None:
    """`ip rule` with a mark, masked or whole, in both families."""
    node.namespace.ip("rule add fwmark 0x100/0x300 table 5", "rule add to 10.0.0.1 table 5")
    node.out("ip", "-6", "rule", "add", "fwmark", "7", "table", "5")
    assert bits(node) == [0x300, ALL]


def test_ours_do_not_count(node: Node) -> None:
    """Our own rules are no reason against the mark."""
    ranges = tuple(
        objects.Rule("cbl-v4", PortRange("TCP", port, port), map_mark=True, map_priority=True)
        for port in range(1, 40, 2)
    )
    backends: tuple[iptables.Backend, ...] = ("nft", "legacy")
    for backend in backends:
        node.restart(backend)
        node.apply(one_set(4, {}), one_set(6, {}), objects.PutChain(6, simple_chain(6)))
        for chain in (simple_chain(4), simple_chain(4)._replace(rules=ranges)):
            node.apply(objects.PutChain(4, chain))
            assert bits(node) == []


def test_the_report_names_the_rule(node: Node) -> None:
    """Of rules with the same bits one is named, as an administrator finds it."""
    for _ in range(3):
        node.out("ip6tables-nft", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "MARK", "--set-xmark", "0x8/0x8")
    node.out("nft", "-f", "-", stdin="table inet theirs {\nchain c {\nmeta mark set meta mark or 0x4000\n}\n}\n")
    node.out("iptables-legacy", "-t", "raw", "-A", "OUTPUT", "-m", "mark", "--mark", "0x10/0x10", "-j", "ACCEPT")
    assert set(node.mark_uses()) == {
        model.MarkUse(0x8, "nft ip6 table nat chain OUTPUT handle 2: MARK"),
        model.MarkUse(0x10, "iptables-legacy -t raw -A OUTPUT -m mark --mark 0x10/0x10 -j ACCEPT"),
        model.MarkUse(0x4000, "nft inet table theirs chain c handle 2: meta mark"),
    }


def test_a_reading_is_kept_until_nftables_changes(node: Node) -> None:
    """A use that comes or goes after the first reading is seen in the next."""
    assert bits(node) == []
    node.out("iptables-nft", "-A", "INPUT", "-j", "MARK", "--set-xmark", "0x8/0x8")
    assert bits(node) == [0x8]
    node.out("iptables-nft", "-F", "INPUT")
    assert bits(node) == []
    node.out("iptables-legacy", "-A", "INPUT", "-m", "mark", "--mark", "0x2/0x2", "-j", "ACCEPT")
    assert bits(node) == [0x2]


def test_looking_makes_nothing(node: Node) -> None:
    """Neither a table of nftables nor one of the legacy back end appears because of us."""
    before = node.rulesets()
    assert bits(node) == []
    assert node.rulesets() == before
    assert "legacy 4" not in before
