"""A pair is made whole in one step, is known again, and is set right whatever was done to it."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_api import names
from bandwidth_lab.namespaces import Namespace
from kernel.bpf.node import Node

pytestmark = pytest.mark.root

WHOLE, BROKEN = {0: objects.Pair(healthy=True)}, {0: objects.Pair(healthy=False)}
DAMAGES: dict[str, Callable[[Namespace], None]] = {
    "down": lambda server: server.ip("link set cblv0 down"),
    "the other end down": lambda server: server.ip("link set cblp0 down"),
    "a smaller MTU": lambda server: server.ip("link set cblv0 mtu 1500"),
    "asks for neighbours": lambda server: server.ip("link set cblp0 arp on"),
    "a short queue": lambda server: server.ip("link set cblv0 txqueuelen 1"),
    "another alias": lambda server: server.ip("link set cblv0 alias other"),
    "no program": lambda server: server.tc("filter del dev cblp0 ingress"),
    "no hook": lambda server: server.tc("qdisc del dev cblp0 clsact"),
    "another filter first": lambda server: (
        server.tc("filter del dev cblp0 ingress"),
        server.tc("filter add dev cblp0 ingress pref 1 protocol all u32 match u32 0 0"),
    )[0],
}


def links(node: Node) -> dict[str, dict[str, object]]:
    return {each["ifname"]: each for each in json.loads(node.namespace.run(["ip", "-j", "-d", "link"]).stdout)}


def test_a_pair_is_made_and_removed(node: Node) -> None:
    """With the indexes that programs know, and no address of its own that would be taken for one of the node's."""
    node.apply(objects.PutPair(0))
    assert node.pairs == WHOLE
    found = links(node)
    assert (found["cblv0"]["ifindex"], found["cblp0"]["ifindex"]) == (names.PAIR_INDEX, names.PEER_INDEX)
    assert "cblv0" not in node.control.surroundings().interfaces
    for device in ("cblv0", "cblp0"):
        assert found[device]["mtu"] == 65_535
        assert node.namespace.run(["ip", "address", "show", device]).stdout.count("inet") == 0
    node.apply(objects.DeletePair(0))
    assert node.pairs == {}
    assert not links(node).keys() & {"cblv0", "cblp0"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_done_to_it_is_seen_and_set_right(node: Node, damage: str) -> None:
    """Without making it anew: its classes are still there."""
    node.apply(objects.PutPair(0), objects.PutRoot("cblv0", 0))
    DAMAGES[damage](node.namespace)
    assert node.pairs == BROKEN
    node.apply(objects.PutPair(0))
    assert node.pairs == WHOLE
    assert node.control.observe().trees.keys() == {"cblv0"}


@pytest.mark.parametrize(
    "commands",
    [
        ("link del cblv0",),
        ("link set cblp0 down", "link set cblp0 name other"),
        ("link del cblv0", "link add cblv0 group 31921 type veth peer name other"),
        ("link del cblv0", "link add cblv0 group 31921 type veth peer name cblp0 group 31921"),
    ],
)
def test_one_that_leads_nowhere_is_made_anew(node: Node, commands: tuple[str, ...]) -> None:
    """An end that is gone, that has another name, or that programs do not lead to."""
    node.apply(objects.PutPair(0))
    for command in commands:
        node.namespace.ip(command)
    assert node.pairs != WHOLE
    node.apply(objects.PutPair(0))
    assert node.pairs == WHOLE


@pytest.mark.parametrize("name", ["cblv0", "cblp0"])
def test_a_device_of_another_program_is_left_alone(node: Node, name: str) -> None:
    """Making a pair over it is refused, and removing the pair removes nothing."""
    node.namespace.ip(f"link add {name} type veth peer name other")
    outcome = node.attempt(objects.PutPair(0))
    assert outcome.failure is not None
    assert outcome.failure.errno == errno.EEXIST
    node.apply(objects.DeletePair(0))
    assert node.pairs == {}
    assert name in links(node)


def test_several_pairs(node: Node) -> None:
    """Each shard has its own."""
    node.apply(objects.PutPair(0), objects.PutPair(61))
    assert node.pairs == {0: objects.Pair(True), 61: objects.Pair(True)}
    node.apply(objects.DeletePair(0))
    assert node.pairs == {61: objects.Pair(True)}
