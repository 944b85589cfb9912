"""Events about others' changes to the chains that we stand in."""

from __future__ import annotations

import selectors

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.netfilter import nfevents
from bandwidth_api import names
from bandwidth_api.plan import PortRange
from kernel.netfilter.nodes import Node, one_set, simple_chain

pytestmark = pytest.mark.root

TELLING = {
    "a flush": [["iptables-nft", "-t", "mangle", "-F"]],
    "our jump removed": [["iptables-nft", "-t", "mangle", "-D", "POSTROUTING", "1"]],
    "a rule above ours": [["iptables-nft", "-t", "mangle", "-I", "POSTROUTING", "-j", "ACCEPT"]],
    "our chain flushed": [["iptables-nft", "-t", "mangle", "-F", names.CHAIN]],
    "a chain behind ours flushed": [["iptables-nft", "-t", "mangle", "-F", "CBL-TCP-0-65535"]],
    "the table deleted": [["nft", "delete", "table", "ip", "mangle"]],
    "the ruleset flushed": [["nft", "flush", "ruleset"]],
}
SILENT = {
    "another table": [["iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-j", "ACCEPT"]],
    "another chain": [["iptables-nft", "-t", "mangle", "-A", "INPUT", "-j", "ACCEPT"]],
    "another family": [["nft", "add", "table", "inet", "mangle"]],
    "a reading": [["nft", "list", "ruleset"], ["iptables-nft-save"]],
    "a set": [["ipset", "create", "theirs", "hash:net"]],
}


def events(node: Node) -> nfevents.NetfilterEvents:
    node.apply(one_set(4, {}), objects.PutChain(4, with_ports()))
    return node.namespace.call(nfevents.NetfilterEvents)


def with_ports() -> objects.Chain:
    """Ours with more ranges of ports than one chain has room for."""
    plain = simple_chain(4)
    ranges = (PortRange("TCP", port, port) for port in range(1, 40, 2))
    return plain._replace(rules=(*plain.rules, *(plain.rules[0]._replace(ports=ports) for ports in ranges)))


@pytest.mark.parametrize("commands", TELLING.values(), ids=TELLING.keys())
def test_what_touches_ours_wakes_the_loop(node: Node, commands: list[list[str]]) -> None:
    """The socket becomes readable and the drain says so, once."""
    with events(node) as heard, selectors.DefaultSelector() as selector:
        selector.register(heard, selectors.EVENT_READ)
        for command in commands:
            node.out(*command)
        assert selector.select(timeout=5)
        assert heard.drain() is True
        assert selector.select(timeout=0) == []
        assert heard.drain() is False


@pytest.mark.parametrize("commands", SILENT.values(), ids=SILENT.keys())
def test_what_does_not_touch_ours_is_drained_silently(node: Node, commands: list[list[str]]) -> None:
    """A busy node's other rules are no reason to read everything again."""
    with events(node) as heard:
        for command in commands:
            node.out(*command)
        assert heard.drain() is False


def test_our_own_changes_are_heard_and_can_be_drained_away(node: Node) -> None:
    """Behind an apply there is something to drain, and then nothing."""
    with events(node) as heard:
        node.apply(objects.PutChain(4, simple_chain(4)))
        assert heard.drain() is True
        assert heard.drain() is False


def test_a_flood_is_not_missed(node: Node) -> None:
    """When more came than the socket could hold the answer is yes."""
    with events(node) as heard:
        rules = "".join(f"add rule inet flood c tcp dport {n % 65535 + 1} accept\n" for n in range(30_000))
        node.out("nft", "-f", "-", stdin=f"add table inet flood\nadd chain inet flood c\n{rules}")
        assert heard.drain() is True
        assert heard.drain() is False
