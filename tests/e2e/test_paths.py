"""The ways on which a client's download leaves a node, IPv4 and IPv6: each is slowed, and no other is."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from bandwidth_lab.kind.client import Client
from e2e.world import LIMIT, MBIT, NEVER_ABOVE, QUIET, World, fastest, free, slowed

SEEN = 8 * MBIT  # of each download that is only looked at


def test_every_path_is_slowed_and_freed_again(world: World, clients: dict[str, Client]) -> None:
    """NodePort with the pod on the dialled node, on another one, policy Local, hostNetwork: all keep to the limit."""
    paths = dict(zip(("near", "far", "local", "host"), clients.values(), strict=False))
    with (
        world.downloading(paths["near"], four=world.flow("near", 4), six=world.flow("near", 6)) as near,
        world.downloading(paths["far"], four=world.flow("far", 4), six=world.flow("far", 6)) as far,
        world.downloading(paths["local"], four=world.flow("local", 4), six=world.flow("local", 6)) as local,
        world.downloading(paths["host"], four=world.flow("host", 4), six=world.flow("host", 6)) as host,
        world.downloading(clients["quiet"], q4=world.flow("near", 4, QUIET), q6=world.flow("far", 6, QUIET)) as quiet,
    ):
        flows = [(stream, family) for stream in (near, far, local, host) for family in (4, 6)]
        for stream, family in flows:
            stream.await_rate(family, free)
        began = quiet.now
        addresses = [one.address(family) for one in paths.values() for family in (4, 6)]
        world.limit("greedy", addresses, sharing="PerEntry", reason="downloads without end")
        world.in_force("greedy")
        since = {(stream, family): stream.await_rate(family, slowed) for stream, family in flows}
        quiet.wait(5)
        for stream, family in flows:
            assert fastest(stream, family, since[stream, family]) <= NEVER_ABOVE * LIMIT, (stream.container, family)
        for family in (4, 6):
            assert free(quiet.rate(family, began), QUIET), family

        world.cluster.kubectl("delete", "cbl", "greedy")
        for stream, family in flows:
            stream.await_rate(family, free)


def test_the_true_client_and_its_port_are_seen_on_every_path(world: World, clients: dict[str, Client]) -> None:
    """On the dialled node `top` and `who` name the client and the port that it dialled; where the pod is, a node."""
    paths = dict(zip(("near", "far", "local", "host"), clients.values(), strict=False))
    expected = {one.address(family): world.uploads[name].port for name, one in paths.items() for family in (4, 6)}
    with contextlib.ExitStack() as stack:
        for name, one in paths.items():
            flows = {"four": world.flow(name, 4, SEEN), "six": world.flow(name, 6, SEEN)}
            stream = stack.enter_context(world.downloading(one, **flows))
            for family in (4, 6):
                stream.await_rate(family, lambda rate: free(rate, SEEN))
        front, back = (world.told(node, "top", "--once", "3") for node in (world.front, world.back))

        seen = {row["client"]: row for row in front["clients"]}
        assert seen.keys() >= expected.keys()
        for address, port in expected.items():
            assert (seen[address]["label"], _largest_port(seen[address]["ports"])) == ("", port), address
            assert 0.7 * SEEN <= seen[address]["rates"]["2s"]["bitsPerSecond"] <= 1.4 * SEEN, address

        nodes = {row["client"]: row["label"] for row in back["clients"]}
        assert not nodes.keys() & expected.keys(), "the node of the pod sends to the node that was dialled"
        for family in (4, 6):
            assert nodes[world.front.address(family)].startswith("next hop of "), nodes

        world.limit("seen", list(expected), rate=SEEN // 2, sharing="PerEntry")
        world.in_force("seen")
        with concurrent.futures.ThreadPoolExecutor(4) as asking:
            answers = asking.map(lambda address: world.told(world.front, "who", address, "--seconds", "1"), expected)
        for (address, port), told in zip(expected.items(), answers, strict=True):
            assert (told["verdict"], told["limits"][0]["name"]) == ("Held", "seen"), told
            assert _largest_port(told["seen"]["ports"]) == port, address


def _largest_port(ports: Sequence[Mapping[str, Any]]) -> int:
    """The port from which most was sent."""
    return int(max(ports, key=lambda port: port["bitsPerSecond"])["port"])


def test_the_status_counts_every_node(world: World, clients: dict[str, Client]) -> None:
    """A limit in force says so of all nodes, and each node's state says how it shapes."""
    world.limit("counted", [clients["one"].address(4)])
    world.in_force("counted")
    nodes = world.cluster.get("cbl", "counted")["status"]["nodes"]
    assert nodes["desired"] == nodes["programmed"] == len(world.cluster.nodes)
    states = world.cluster.get("nodebandwidthstates")["items"]
    assert {state["metadata"]["name"] for state in states} == {node.name for node in world.cluster.nodes}
