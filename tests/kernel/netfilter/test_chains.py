"""Our chain in the real kernel, in both back ends: put, repaired, removed without a trace, beside all others'."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.netfilter import iptables, iptables_text
from bandwidth_agent.kernel.objects import chain_layout
from bandwidth_api import names
from bandwidth_api.plan import PortRange
from bandwidth_lab import Lab
from kernel.netfilter.nodes import Node, one_set, simple_chain

pytestmark = pytest.mark.root

BACKENDS: tuple[iptables.Backend, ...] = ("nft", "legacy")

FULL = (
    objects.Rule("cbl-v4", None, map_mark=True, map_priority=False),
    objects.Rule("cbl-v4", PortRange("TCP", 993, 993), map_mark=True, map_priority=True),
    objects.Rule("cbl-v4", PortRange("UDP", 1, 65535), map_mark=False, map_priority=True),
)

LOOK = ("-m", "set", "--match-set", "cbl-v4", "dst")

FOREIGN = """*mangle
:OTHERS - [0:0]
-A PREROUTING -m comment --comment "say \\"hi\\" -j CBL-POSTROUTING" -j MARK --set-xmark 0x80/0x80
-A POSTROUTING -d 198.51.100.7/32 -m comment --comment CBL-POSTROUTING -j OTHERS
-A POSTROUTING -o eth9 -j DSCP --set-dscp 0x0a
-A OTHERS -j RETURN
COMMIT
*filter
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
"""


@pytest.fixture(params=BACKENDS)
def tables(request: pytest.FixtureRequest, node: Node) -> Node:
    """A node whose sets are there, with each back end in turn."""
    if request.param == "legacy":  # once used, a legacy table stays listed: use it before the "before"
        for family in (4, 6):
            node.out(node.tool(family, "legacy"), "-t", "mangle", "-S")
            node.out(node.tool(family, "legacy"), "-t", "filter", "-S")
    node.restart(request.param)
    return node


def backend(node: Node) -> str:
    return node.tables(lambda tables: tables.backend)


def with_sets(node: Node) -> Node:
    node.apply(one_set(4, {}), one_set(6, {}))
    return node


def jump(node: Node) -> str:
    """Our jump as the program lists it, with its counters."""
    listing = node.out(node.tool(4, backend(node)), "-t", "mangle", "-S", "POSTROUTING", "-v")
    (line,) = (line for line in listing.splitlines() if line.endswith(f"-j {names.CHAIN}"))
    return line


@pytest.mark.parametrize("family", [4, 6])
def test_a_chain_is_read_back_as_it_was_put(tables: Node, family: int) -> None:
    """Every kind of rule comes back as the value that was written."""
    with_sets(tables)
    rules = tuple(rule._replace(set_name=f"cbl-v{family}") for rule in FULL)
    for chain in (simple_chain(family), objects.Chain(rules, True), objects.Chain((), True)):
        for _ in range(2):
            tables.apply(objects.PutChain(family, chain))
            assert tables.observed_chains() == {family: chain}


def test_the_program_prints_the_rules_of_the_contract(tables: Node) -> None:
    """What stands in the kernel is what the design says, to the letter."""
    with_sets(tables)
    tables.apply(objects.PutChain(4, objects.Chain(FULL, True)))
    saved = tables.out(tables.tool(4, backend(tables), "-save"), "-t", "mangle").splitlines()
    assert [line for line in saved if line.startswith("-A ")][1:] == [
        "-A CBL-POSTROUTING -m set --match-set cbl-v4 dst -j SET --map-set cbl-v4 dst --map-mark",
        "-A CBL-POSTROUTING -m conntrack --ctproto 6 --ctorigdstport 993 --ctdir REPLY"
        " -m set --match-set cbl-v4 dst -j SET --map-set cbl-v4 dst --map-mark --map-prio",
        "-A CBL-POSTROUTING -m conntrack --ctproto 6 --ctorigsrcport 993 --ctdir ORIGINAL"
        " -m set --match-set cbl-v4 dst -j SET --map-set cbl-v4 dst --map-mark --map-prio",
        "-A CBL-POSTROUTING -m conntrack --ctproto 17 --ctorigdstport 1:65535 --ctdir REPLY"
        " -m set --match-set cbl-v4 dst -j SET --map-set cbl-v4 dst --map-prio",
        "-A CBL-POSTROUTING -m conntrack --ctproto 17 --ctorigsrcport 1:32767 --ctdir ORIGINAL"
        " -m set --match-set cbl-v4 dst -j SET --map-set cbl-v4 dst --map-prio",
    ]


def test_cleanup_leaves_an_untouched_node_as_it_was(tables: Node) -> None:
    """On a node without rules nothing of the tables that iptables made for us stays behind, twice in a row."""
    before = tables.rulesets()
    with_sets(tables)
    tables.apply(objects.PutChain(4, simple_chain(4)), objects.PutChain(6, simple_chain(6)))
    tables.restart()
    remove = [objects.DeleteChain(4), objects.DeleteChain(6), objects.DeleteSet("cbl-v4"), objects.DeleteSet("cbl-v6")]
    for _ in range(2):
        tables.apply(*remove)
        assert tables.rulesets() == before


def test_cleanup_leaves_the_rules_of_others_as_they_were(tables: Node) -> None:
    """Foreign chains, rules and their order survive our coming, changing and going, byte by byte."""
    tables.out(tables.tool(4, backend(tables), "-restore"), stdin=FOREIGN)
    before = tables.rulesets()
    with_sets(tables)
    tables.apply(objects.PutChain(4, simple_chain(4)), objects.PutChain(6, simple_chain(6)))
    tables.apply(objects.PutChain(4, objects.Chain(FULL, True)))
    tables.restart()
    tables.apply(
        objects.DeleteChain(4), objects.DeleteChain(6), objects.DeleteSet("cbl-v4"), objects.DeleteSet("cbl-v6")
    )
    assert tables.rulesets() == before


@pytest.mark.parametrize(
    "existing",
    [
        "table ip mangle {\n}\n",
        "table ip mangle {\n chain POSTROUTING { type filter hook postrouting priority mangle; policy accept; }\n}\n",
        "table ip mangle {\n chain INPUT { type filter hook input priority mangle; policy accept; }\n}\n",
        "table ip mangle {\n chain POSTROUTING { type filter hook postrouting priority mangle; policy drop; }\n}\n",
        "table ip other {\n chain POSTROUTING { type filter hook postrouting priority mangle; policy accept; }\n}\n",
    ],
)
def test_cleanup_takes_only_what_exists_because_of_us(node: Node, existing: str) -> None:
    """A table or base chain that was there before us stays, empty as it was; what was not goes."""
    node.out("nft", "-f", "-", stdin=existing)
    before = node.rulesets()
    with_sets(node).apply(objects.PutChain(4, simple_chain(4)))
    node.restart()
    node.apply(objects.DeleteChain(4), objects.DeleteSet("cbl-v4"), objects.DeleteSet("cbl-v6"))
    assert node.rulesets() == before


def test_cleanup_leaves_what_others_have_come_to_use(node: Node) -> None:
    """A rule that another program put into the table that exists because of us keeps the table and its chain."""
    with_sets(node).apply(objects.PutChain(4, simple_chain(4)))
    node.out("iptables-nft", "-t", "mangle", "-A", "POSTROUTING", "-o", "eth9", "-j", "ACCEPT")
    node.apply(objects.DeleteChain(4))
    saved = node.out("iptables-nft-save", "-t", "mangle")
    assert [line for line in saved.splitlines() if line.startswith("-A")] == ["-A POSTROUTING -o eth9 -j ACCEPT"]
    assert names.CHAIN not in node.out("nft", "list", "ruleset")


def test_cleanup_after_somebody_flushed_leaves_nothing(node: Node) -> None:
    """The process that made the table remembers so when the comment that says it was flushed and put again."""
    before = node.rulesets()
    with_sets(node).apply(objects.PutChain(4, simple_chain(4)))
    node.out("iptables-nft", "-t", "mangle", "-F")
    node.apply(objects.PutChain(4, simple_chain(4)))
    node.restart()
    node.apply(objects.DeleteChain(4), objects.DeleteSet("cbl-v4"), objects.DeleteSet("cbl-v6"))
    assert node.rulesets() == before


DAMAGE: dict[str, list[list[str]]] = {
    "flushed": [["-F"]],
    "only POSTROUTING flushed": [["-F", "POSTROUTING"]],
    "our chain flushed": [["-F", names.CHAIN]],
    "all removed": [["-F"], ["-X"]],
    "a foreign rule above": [["-I", "POSTROUTING", "1", "-o", "eth9", "-j", "ACCEPT"]],
    "a second jump": [["-A", "POSTROUTING", "-j", names.CHAIN]],
    "a jump from elsewhere": [["-A", "OUTPUT", "-p", "tcp", "-j", names.CHAIN]],
    "a goto from elsewhere": [["-A", "FORWARD", "-g", names.CHAIN]],
    "a jump with a condition in place of ours": [
        ["-D", "POSTROUTING", "1"],
        ["-I", "POSTROUTING", "-o", "eth0", "-j", names.CHAIN],
    ],
    "a rule of ours gone": [["-D", names.CHAIN, "1"]],
    "a stranger's rule in our chain": [["-A", names.CHAIN, "-j", "ACCEPT"]],
    "a rule of ours with a further condition": [
        ["-R", names.CHAIN, "1", "-o", "eth0", *LOOK, "-j", "SET", "--map-set", "cbl-v4", "dst", "--map-mark"]
    ],
    "a rule of ours that takes without looking": [
        ["-R", names.CHAIN, "1", "-j", "SET", "--map-set", "cbl-v4", "dst", "--map-mark"],
    ],
    "a rule of ours on the source": [
        ["-R", names.CHAIN, "1", *LOOK, "-j", "SET", "--map-set", "cbl-v4", "src", "--map-mark"],
    ],
    "a rule of ours negated": [
        [
            *["-R", names.CHAIN, "1", "-m", "conntrack", "--ctproto", "tcp", "!", "--ctorigdstport", "993"],
            *["--ctdir", "REPLY", *LOOK, "-j", "SET", "--map-set", "cbl-v4", "dst", "--map-mark"],
        ]
    ],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_drift_is_seen_and_one_put_repairs_it(tables: Node, damage: list[list[str]]) -> None:
    """Whatever another program does to our chain or its jump, it reads as different, and the same put sets it right."""
    with_sets(tables)
    put = objects.PutChain(4, simple_chain(4))
    tables.apply(put)
    for arguments in damage:
        tables.out(tables.tool(4, backend(tables)), "-t", "mangle", *arguments)
    assert tables.observed_chains() != {4: put.chain}
    tables.apply(put)
    assert tables.observed_chains() == {4: put.chain}


# ── more ranges of ports than one chain has room for ───────────────────────────────────────────────────────────


def spread(*ports: PortRange) -> objects.Chain:
    """A chain whose rules for ports are spread over others."""
    rules = (objects.Rule("cbl-v4", each, map_mark=True, map_priority=False) for each in (None, *ports))
    return objects.Chain(chain_layout.canonical([*rules]), True, "cbl-v4")


ODD = spread(*(PortRange(protocol, port, port) for protocol in ("TCP", "UDP") for port in range(1, 300, 2)))
FEW = spread(*(PortRange("TCP", port, port) for port in range(1, 16, 2)))
# Every border of halving has rules on both sides, down to the lowest: as deep as it can be. Neighbours differ in what
# they take, so that they stay two rules.
DEEPEST = spread()._replace(
    rules=chain_layout.canonical(
        [
            objects.Rule("cbl-v4", PortRange("TCP", port, port), map_mark=True, map_priority=port % 2 == 1)
            for port in (*range(1, 16), *(1 << bit for bit in range(4, 16)))
        ]
    )
)


def counted_chains(node: Node) -> int:
    return node.out(node.tool(4, backend(node), "-save"), "-t", "mangle").count("\n:CBL-")


@pytest.mark.parametrize("family", [4, 6])
def test_many_ranges_are_read_back_as_they_were_put(tables: Node, family: int) -> None:
    """From few ranges to many, as deep as it goes, and back: always what was put, and no chain too many."""
    before = tables.rulesets()
    with_sets(tables)
    for chain in (FEW, ODD, DEEPEST, FEW, simple_chain(4), ODD, DEEPEST):
        here = objects.Chain(
            tuple(rule._replace(set_name=f"cbl-v{family}") for rule in chain.rules), True, f"cbl-v{family}"
        )
        for _ in range(2):
            tables.apply(objects.PutChain(family, here))
            tables.restart(backend(tables))
            assert tables.observed_chains() == {family: here}
    tables.apply(objects.DeleteChain(family), objects.DeleteSet("cbl-v4"), objects.DeleteSet("cbl-v6"))
    assert tables.rulesets() == before


def test_the_deepest_way_is_accepted(tables: Node) -> None:
    """From POSTROUTING to the lowest ports a packet can come through 16 chains, and no kernel refuses them."""
    with_sets(tables).apply(objects.PutChain(4, DEEPEST))
    assert tables.observed_chains() == {4: DEEPEST}
    assert counted_chains(tables) == 15


def test_every_port_by_itself_is_accepted(tables: Node) -> None:
    """As many rules and chains, and as deep, as ports can ever make of one protocol are taken, read and taken away."""
    before = tables.rulesets()
    with_sets(tables)
    every = (PortRange("TCP", port, port) for port in range(1, 32_768, 2))
    chain = spread(*every)
    tables.apply(objects.PutChain(4, chain))
    assert tables.observed_chains() == {4: chain}
    assert counted_chains(tables) > 2_000
    tables.apply(objects.DeleteChain(4), objects.DeleteSet("cbl-v4"), objects.DeleteSet("cbl-v6"))
    assert tables.rulesets() == before


def test_another_range_leaves_the_counters_of_other_chains(tables: Node) -> None:
    """Only the chain that the range belongs to is written again; what its rules counted is not forgotten."""
    with_sets(tables).apply(objects.PutChain(4, ODD))
    program = tables.tool(4, backend(tables))
    saved = tables.out(f"{program}-save", "-t", "mangle")
    lines = [line for line in saved.splitlines() if line.startswith("-A CBL-TCP-0-15 ")]
    text = "\n".join(["*mangle", ":CBL-TCP-0-15 - [0:0]", *(f"[7:70] {line}" for line in lines), "COMMIT", ""])
    tables.out(f"{program}-restore", "--noflush", "-c", stdin=text)
    assert tables.observed_chains() == {4: ODD}
    counted = 7 * len(lines)
    assert tables.tables(lambda each: each.counters()) == {4: counted}
    more = spread(*(rule.ports for rule in ODD.rules if rule.ports), PortRange("TCP", 40_000, 40_000))
    tables.apply(objects.PutChain(4, more))
    assert tables.observed_chains() == {4: more}
    assert tables.tables(lambda each: each.counters()) == {4: counted}
    tables.apply(objects.PutChain(4, FEW))
    assert tables.tables(lambda each: each.counters()) == {4: counted}, "what went on is no new beginning"


SPREAD_DAMAGE: dict[str, list[list[str]]] = {
    "a chain flushed": [["-F", "CBL-TCP-0-15"]],
    "a goto gone": [["-D", "CBL-TCP-0-65535", "1"]],
    "the first chain flushed": [["-F", names.CHAIN]],
    "all but the first chain flushed": [["-F", "CBL-UDP-0-65535"], ["-F", "CBL-TCP-0-65535"]],
    "a stranger's rule": [["-I", "CBL-TCP-0-15", "-j", "RETURN"]],
    "a stranger's jump into the middle": [["-A", "OUTPUT", "-j", "CBL-TCP-0-15"]],
    "a chain with a name of ours": [["-N", "CBL-TCP-7-8"]],
    "the jump and the first chain gone": [["-F", "POSTROUTING"], ["-F", names.CHAIN], ["-X", names.CHAIN]],
}


@pytest.mark.parametrize("damage", SPREAD_DAMAGE.values(), ids=SPREAD_DAMAGE.keys())
def test_drift_in_any_of_the_chains_is_seen_repaired_and_cleaned(tables: Node, damage: list[list[str]]) -> None:
    """Whatever another program does to one of them: one put sets it right, and one removal takes all away."""
    before = tables.rulesets()
    chosen = backend(tables)
    for repair in (True, False):
        with_sets(tables).apply(objects.PutChain(4, ODD))
        for arguments in damage:
            tables.out(tables.tool(4, chosen), "-t", "mangle", *arguments)
        assert tables.observed_chains() not in ({}, {4: ODD})
        if repair:
            tables.apply(objects.PutChain(4, ODD))
            assert tables.observed_chains() == {4: ODD}
        tables.apply(objects.DeleteChain(4), objects.DeleteSet("cbl-v4"), objects.DeleteSet("cbl-v6"))
    assert tables.rulesets() == before


def test_rules_of_others_are_untouched_by_repairs(tables: Node) -> None:
    """Putting our jump back first moves no other rule and resets no counter."""
    program = tables.tool(4, backend(tables))
    tables.out(f"{program}-restore", "-c", stdin=FOREIGN.replace("-A POSTROUTING -o", "[7:70] -A POSTROUTING -o"))
    with_sets(tables).apply(objects.PutChain(4, simple_chain(4)))
    tables.out(program, "-t", "mangle", "-I", "POSTROUTING", "1", "-o", "eth8", "-j", "ACCEPT")
    tables.apply(objects.PutChain(4, simple_chain(4)))
    saved = tables.out(f"{program}-save", "-c", "-t", "mangle").splitlines()
    rules = [line.partition("-A ")[2] for line in saved if "-A POSTROUTING" in line]
    assert [rule.split()[-1] for rule in rules] == [names.CHAIN, "ACCEPT", "OTHERS", "0x0a"]
    assert any(line.startswith("[7:70] -A POSTROUTING -o eth9") for line in saved)


def test_a_put_keeps_the_jump_and_its_counter(tables: Node) -> None:
    """Rewriting the chain leaves a jump that is right where it is; its counter goes on."""
    with_sets(tables).apply(objects.PutChain(4, objects.Chain(FULL, True)))
    tables.namespace.run(["ping", "-c", "1", "-W", "1", "192.0.2.1"], check=False)
    before = jump(tables)
    assert " -c 0 0 " not in before
    tables.apply(objects.PutChain(4, objects.Chain(FULL[1:], True)))
    assert jump(tables) == before
    assert tables.tables(lambda each: each.counters()) == {4: 0}


def test_the_jump_asks_the_only_set(tables: Node) -> None:
    """With one set the jump is for those in it alone; with rules for ports it is for all packets, and back again."""
    with_sets(tables).apply(objects.PutChain(4, simple_chain(4)))
    assert "-m set --match-set cbl-v4 dst -m comment" in jump(tables)
    for chain in (objects.Chain(FULL, True), simple_chain(4)):
        tables.apply(objects.PutChain(4, chain))
        assert ("--match-set" in jump(tables)) is (chain == simple_chain(4))
        assert tables.observed_chains() == {4: chain}


def test_nothing_of_ours_reads_as_nothing(tables: Node) -> None:
    """A node without our chain observes none, and looking makes no table."""
    before = tables.rulesets()
    assert tables.observed_chains() == {}
    assert tables.tables(lambda each: each.counters()) == {}
    assert tables.rulesets() == before


def test_a_rule_on_a_missing_set_is_a_failure_with_the_tools_words(tables: Node) -> None:
    """The transaction is refused whole; nothing half stands."""
    outcome = tables.tables(lambda each: each.put_chain(objects.PutChain(4, simple_chain(4))))
    assert outcome.failure is not None
    assert "cbl-v4" in outcome.failure.message
    assert tables.observed_chains() == {}


def test_a_chain_in_the_other_back_end_is_moved(node: Node) -> None:
    """After a change of the setting one put writes the chain here and takes it away there."""
    with_sets(node)
    node.restart("legacy")
    node.apply(objects.PutChain(4, simple_chain(4)))
    node.restart("nft")
    assert node.observed_chains() == {4: simple_chain(4)._replace(jump_first=False)}
    node.apply(objects.PutChain(4, simple_chain(4)))
    assert node.observed_chains() == {4: simple_chain(4)}
    assert names.CHAIN not in node.out("iptables-legacy-save")
    node.restart("legacy")
    node.apply(objects.PutChain(4, simple_chain(4)))
    assert names.CHAIN not in node.out("iptables-nft-save")


def test_a_table_that_iptables_cannot_print_is_seen_and_still_cleaned(node: Node) -> None:
    """nft rules in the mangle table blind iptables; ours reads as different, a put says why, a delete works."""
    with_sets(node).apply(objects.PutChain(4, simple_chain(4)))
    node.out("nft", "add", "chain", "ip", "mangle", "stranger")
    node.out("nft", "add", "set", "ip", "mangle", "numbers", "{ type inet_service; }")
    node.out("nft", "add", "rule", "ip", "mangle", "stranger", "tcp", "dport", "@numbers", "meta", "mark", "set", "1")
    observed = node.observed_chains()
    node.apply(objects.DeleteChain(4))
    assert names.CHAIN not in node.out("nft", "list", "ruleset")
    assert "@numbers" in node.out("nft", "list", "ruleset")
    assert observed in ({4: simple_chain(4)}, {4: objects.Chain((iptables_text.UNKNOWN_RULE,), False)})


CHOICES: dict[str, tuple[Callable[[Node], object], str]] = {
    "nothing anywhere": (lambda node: None, "nft"),
    "rules in legacy only": (lambda node: node.out("iptables-legacy", "-A", "INPUT", "-j", "ACCEPT"), "legacy"),
    "v6 rules in legacy only": (lambda node: node.out("ip6tables-legacy", "-A", "INPUT", "-j", "ACCEPT"), "legacy"),
    "legacy loaded but empty": (lambda node: node.out("iptables-legacy", "-S"), "nft"),
    "rules in both": (
        lambda node: (
            node.out("iptables-legacy", "-A", "INPUT", "-j", "ACCEPT"),
            node.out("iptables-nft", "-A", "INPUT", "-j", "ACCEPT"),
        ),
        "nft",
    ),
    "kubelet in legacy": (
        lambda node: (
            node.out("iptables-legacy", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"),
            node.out("iptables-nft", "-A", "INPUT", "-j", "ACCEPT"),
        ),
        "legacy",
    ),
    "kubelet in nft": (
        lambda node: (
            node.out("iptables-legacy", "-A", "INPUT", "-j", "ACCEPT"),
            node.out("ip6tables-nft", "-t", "mangle", "-N", "KUBE-KUBELET-CANARY"),
        ),
        "nft",
    ),
    "we in legacy": (
        lambda node: (
            with_sets(node).restart("legacy"),
            node.apply(objects.PutChain(4, simple_chain(4))),
            node.out("iptables-nft", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"),
        ),
        "legacy",
    ),
}


@pytest.mark.parametrize(("prepare", "expected"), CHOICES.values(), ids=CHOICES.keys())
def test_the_back_end_is_the_one_in_use(node: Node, prepare: Callable[[Node], object], expected: str) -> None:
    """`auto` goes where we are, kubelet is or the rules are; looking changes nothing."""
    prepare(node)
    node.restart("auto")
    before = node.rulesets()
    assert backend(node) == expected
    assert node.rulesets() == before


def test_the_choice_is_made_anew_while_nothing_of_ours_is_there(node: Node) -> None:
    """An agent that started before kubelet follows it; once our chain stands the choice stands."""
    assert backend(node) == "nft"
    node.out("iptables-legacy", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
    assert node.observed_chains() == {}
    assert backend(node) == "legacy"
    with_sets(node).apply(objects.PutChain(4, simple_chain(4)))
    node.out("iptables-nft", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
    assert node.observed_chains() == {4: simple_chain(4)}
    assert backend(node) == "legacy"


def test_sets_can_go_at_once_behind_their_chain(tables: Node) -> None:
    """The kernel has let go of the sets when the removal of the chain returns."""
    for _ in range(10):
        with_sets(tables)
        tables.apply(
            objects.PutChain(4, simple_chain(4)),
            objects.PutChain(6, simple_chain(6)),
            objects.DeleteChain(4),
            objects.DeleteChain(6),
            objects.DeleteSet("cbl-v4"),
            objects.DeleteSet("cbl-v6"),
        )


def test_writers_at_the_same_time_do_not_hurt_each_other(tables: Node) -> None:
    """While others write rules as fast as they can, each of our puts and deletes works and none of theirs is lost."""
    with_sets(tables)
    program = tables.tool(4, backend(tables))
    writers = [
        tables.namespace.start(["sh", "-ec", f"for n in $(seq 20); do {program} -w 10 -t mangle {command}; done"])
        for command in (
            "-I POSTROUTING -o a$n -j ACCEPT",
            "-A POSTROUTING -o b$n -j ACCEPT",
            "-A OUTPUT -o c$n -j ACCEPT",
        )
    ]
    while any(writer.poll() is None for writer in writers):
        tables.apply(objects.PutChain(4, simple_chain(4)), objects.PutChain(4, objects.Chain((), True)))
        tables.apply(objects.DeleteChain(4))
    assert [writer.returncode for writer in writers] == [0, 0, 0], [writer.communicate()[0] for writer in writers]
    tables.apply(objects.PutChain(4, simple_chain(4)))
    assert tables.observed_chains() == {4: simple_chain(4)}
    assert tables.out(f"{program}-save", "-t", "mangle").count("-j ACCEPT") == 60


KILLED = """
import os, signal, sys
from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.netfilter import iptables
from bandwidth_api.plan import PortRange

what, backend, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
plain = objects.Rule("cbl-v4", None, True, False)
ranges = [objects.Rule("cbl-v4", PortRange("TCP", port, port), True, False) for port in range(1, int(sys.argv[4]), 2)]
chain = objects.Chain((plain, *ranges), True, "cbl-v4")

def die(frame, event, argument):
    global left
    if event == "c_call" and getattr(argument, "__name__", "") in ("send", "fork_exec"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

tables = iptables.IpTables(backend)
sys.setprofile(die)
outcome = tables.put_chain(objects.PutChain(4, chain)) if what == "put" else tables.delete_chain(objects.DeleteChain(4))
assert outcome.failure is None
"""


@pytest.mark.parametrize("ranges", [0, 30])
def test_a_kill_at_any_step_leaves_all_or_nothing(tables: Node, ranges: int) -> None:
    """Between any two messages or processes of a put or a delete all chains stand whole or not one of them."""
    before = tables.rulesets()
    with_sets(tables)
    chosen = backend(tables)
    whole = simple_chain(4)
    rules = (PortRange("TCP", port, port) for port in range(1, 2 * ranges, 2))
    whole = whole._replace(rules=(*whole.rules, *(whole.rules[0]._replace(ports=ports) for ports in rules)))
    for what in ("put", "delete"):
        for steps in range(30):
            command = [sys.executable, "-c", KILLED, what, chosen, str(steps), str(2 * ranges)]
            done = tables.namespace.run(command, check=False, timeout=120)
            assert tables.observed_chains() in ({}, {4: whole})
            if done.returncode == 0:
                break
            tables.apply(objects.DeleteChain(4) if what == "put" else objects.PutChain(4, whole))
        else:
            pytest.fail(f"a {what} needs fewer steps")
        assert steps >= 2, "the kills did not fall between the steps"
    tables.apply(objects.DeleteSet("cbl-v4"), objects.DeleteSet("cbl-v6"))
    assert tables.rulesets() == before


def test_the_golden_transactions_are_accepted(tables: Node) -> None:
    """What we would write is what iptables-restore takes, tested by itself."""
    with_sets(tables)
    program = tables.tool(4, backend(tables), "-restore")
    text = iptables_text.put(objects.Chain(FULL, True), iptables_text.NOTHING, ("mangle",))
    tables.out(program, "--test", "--noflush", stdin=text)
    assert tables.observed_chains() == {}


def test_two_nodes_do_not_meet(lab: Lab, node: Node) -> None:
    """Everything belongs to the namespace of the calling thread."""
    other = Node(lab.namespace("other"))
    with_sets(node).apply(objects.PutChain(4, simple_chain(4)))
    assert other.observed_chains() == {}
    assert other.observed_sets() == {}
