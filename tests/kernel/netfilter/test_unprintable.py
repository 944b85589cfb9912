"""Tables that iptables cannot print: what is ours there is read all the same, and nothing is written without need."""

from __future__ import annotations

import re
import shlex
import sys

import pytest

from bandwidth_agent.kernel import objects
from kernel.netfilter.nodes import HOLE, Node, marking, one_set, simple_chain

pytestmark = pytest.mark.root

CLAMP = "tcp flags syn tcp option maxseg size set rt mtu"
HOOKS = {
    "FORWARD": "type filter hook forward priority mangle; policy accept;",
    "POSTROUTING": "type filter hook postrouting priority mangle; policy accept;",
    "OUTPUT": "type route hook output priority mangle; policy accept;",
}
RULES = {
    "a clamp": CLAMP,
    "a set": "tcp dport @s accept",
    "a map of verdicts": "tcp dport vmap { 25 : accept, 26 : drop }",
    "a quota": "quota over 10 mbytes drop",
    "a copied mark": "ct mark set meta mark and 0xff",
}


def native(family: int, chain: str, rule: str) -> str:
    word = {4: "ip", 6: "ip6"}[family]
    body = f"chain {chain} {{\n{HOOKS[chain]}\n{rule}\n}}"
    return f"table {word} mangle {{\nset s {{\ntype inet_service\n}}\n{body}\n}}\n"


def still(node: Node) -> dict[str, str]:
    """The rule sets without what the node's own packets count in them."""
    return {name: re.sub(r" used \d+ \w+", "", text) for name, text in node.rulesets().items()}


def jumps(node: Node, family: int) -> int:
    return len(
        re.findall("jump CBL-POSTROUTING", node.out("nft", "list", "table", {4: "ip", 6: "ip6"}[family], "mangle"))
    )


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("chain", HOOKS)
@pytest.mark.parametrize("rule", RULES)
def test_ours_are_read_and_written_beside_native_rules(node: Node, family: int, chain: str, rule: str) -> None:
    """What was written reads back as written, by a new process too; a new chain takes its place; all of it goes."""
    node.out("nft", "-f", "-", stdin=native(family, chain, RULES[rule]))
    before = still(node)
    desired = simple_chain(family)
    node.apply(one_set(family, {}), objects.PutChain(family, desired))
    for _ in range(2):
        node.restart("nft")
        assert node.observed_chains() == {family: desired}
        assert jumps(node, family) == 1
    both = desired._replace(rules=tuple(each._replace(map_priority=True) for each in desired.rules))
    node.apply(objects.PutChain(family, both))
    assert (node.observed_chains(), jumps(node, family)) == ({family: both}, 1)
    node.apply(objects.DeleteChain(family), objects.DeleteSet(desired.rules[0].set_name))
    assert still(node) == before


@pytest.mark.parametrize("chain", HOOKS)
def test_a_native_rule_that_comes_while_ours_stand(node: Node, chain: str) -> None:
    """It is no drift: what stands reads as it did before."""
    desired = simple_chain(4)
    node.apply(one_set(4, {}), objects.PutChain(4, desired))
    node.out("nft", "-f", "-", stdin=f"table ip mangle {{\nchain {chain} {{\n{HOOKS[chain]}\n}}\n}}\n")
    node.out("nft", "add", "rule", "ip", "mangle", chain, *CLAMP.split())
    assert node.observed_chains() == {4: desired}
    node.out("nft", "insert", "rule", "ip", "mangle", chain, *CLAMP.split())
    behind = desired._replace(jump_first=False, guard="")
    assert node.observed_chains() == {4: behind if chain == "POSTROUTING" else desired}


def test_damage_is_seen_and_repaired_beside_native_rules(node: Node) -> None:
    """A second jump, a jump from another chain, a rule above ours and a rule of a stranger in our chain."""
    desired = simple_chain(4)
    node.out("nft", "-f", "-", stdin=native(4, "POSTROUTING", CLAMP))
    node.apply(one_set(4, {"10.0.0.0/8": marking(1), "10.1.0.0/16": HOLE}), objects.PutChain(4, desired))
    for damage in (
        "add rule ip mangle POSTROUTING jump CBL-POSTROUTING",
        "add chain ip mangle other; add rule ip mangle other jump CBL-POSTROUTING",
        "insert rule ip mangle POSTROUTING counter",
        f"add rule ip mangle CBL-POSTROUTING {CLAMP}",
        "flush chain ip mangle CBL-POSTROUTING",
        "flush chain ip mangle POSTROUTING",
    ):
        node.out("nft", damage)
        assert node.observed_chains() != {4: desired}, damage
        node.apply(objects.PutChain(4, desired))
        assert node.observed_chains() == {4: desired}, damage
        assert jumps(node, 4) == 1


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "hook", ["", "type filter hook postrouting priority 0;", "type filter hook forward priority mangle;"]
)
def test_a_chain_that_only_has_the_name_is_left_alone(node: Node, family: int, hook: str) -> None:
    """Where POSTROUTING is another program's, ours is refused with its name and what helps, and nothing changes."""
    word = {4: "ip", 6: "ip6"}[family]
    node.out("nft", "-f", "-", stdin=f"table {word} mangle {{\nchain POSTROUTING {{\n{hook}\n}}\n}}\n")
    node.apply(one_set(family, {}))
    before = node.rulesets()
    step = objects.PutChain(family, simple_chain(family))
    failure = node.tables(lambda tables: tables.put_chain(step)).failure
    assert failure is not None
    assert f"{word} mangle POSTROUTING" in failure.message
    assert "a table of another name" in failure.message
    assert node.rulesets() == before
    assert node.observed_chains() == {}


PROGRAM = """
import sys
from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.netfilter import iptables
tables = iptables.IpTables(sys.argv[1])
chain = objects.Chain((objects.Rule("cbl-v4", None, map_mark=True, map_priority=False),), True, "cbl-v4")
for step in {"observe": [], "put": [objects.PutChain(4, chain)], "delete": [objects.DeleteChain(4)]}[sys.argv[2]]:
    outcome = tables.put_chain(step) if isinstance(step, objects.PutChain) else tables.delete_chain(step)
    assert outcome.failure is None, outcome
print(tables.observe())
"""

# Where the distributions keep the extensions; a mount over one of them hides it from the programs in that shell.
EXTENSION_FILES = "/usr/lib*/xtables/libxt_{0}.so /usr/lib/*/xtables/libxt_{0}.so"
HIDDEN = f"for file in $(ls {EXTENSION_FILES} 2>/dev/null); do mount --bind /dev/null $file; done; exec "


def without_extension(node: Node, backend: str, extension: str, what: str) -> str:
    """What a process prints that finds our chain, or writes or deletes it, with an iptables that lacks an extension."""
    script = HIDDEN.format(extension) + shlex.join([sys.executable, "-c", PROGRAM, backend, what])
    return node.out("unshare", "--mount", "sh", "-c", script).strip()


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_an_extension_that_iptables_lacks(node: Node, backend: str) -> None:
    """A rule made by an iptables with more extensions than ours: ours are read and written beside it."""
    node.restart(backend)  # type: ignore[arg-type]
    desired = simple_chain(4)
    node.out(f"iptables-{backend}", "-t", "mangle", "-A", "FORWARD", "-m", "cpu", "--cpu", "0", "-j", "ACCEPT")
    node.apply(one_set(4, {}), objects.PutChain(4, desired))
    assert without_extension(node, backend, "cpu", "observe") == repr({4: desired})
    assert without_extension(node, backend, "cpu", "put") == repr({4: desired})
    assert node.out(f"iptables-{backend}-save", "-t", "mangle").count("-j CBL-POSTROUTING") == 1
    assert without_extension(node, backend, "cpu", "delete") == "{}"
