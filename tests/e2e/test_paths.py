"""The ways on which a client's download leaves a node, IPv4 and IPv6: each is slowed, and nobody else's is."""

from __future__ import annotations

from bandwidth_lab.kind.client import Client
from e2e.world import LIMIT, NEVER_ABOVE, QUIET, World, fastest, free, slowed


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


def test_the_status_counts_every_node(world: World, clients: dict[str, Client]) -> None:
    """A limit in force says so of all nodes, and each node's state says how it shapes."""
    world.limit("counted", [clients["one"].address(4)])
    world.in_force("counted")
    nodes = world.cluster.get("cbl", "counted")["status"]["nodes"]
    assert nodes["desired"] == nodes["programmed"] == len(world.cluster.nodes)
    states = world.cluster.get("nodebandwidthstates")["items"]
    assert {state["metadata"]["name"] for state in states} == {node.name for node in world.cluster.nodes}
