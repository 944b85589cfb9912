"""An administrator's `kubectl cbl` against the cluster: the client is found, slowed, looked up and let go."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import pytest

from bandwidth_lab.kind import shell
from bandwidth_lab.kind.client import Client
from e2e.plugin import Plugin
from e2e.world import LIMIT, MBIT, NEVER_ABOVE, OFFERED, QUIET, World, fastest, free, slowed

LOOKED = "ClientTrafficQuery and NodeClientTraffic"
OBJECTS = "clienttrafficqueries,nodeclienttraffics"
ENDED_SECONDS = 60.0  # after whoever asked was killed, nothing of the question is left
NOTICED_SECONDS = 10.0  # for a busy machine, and for the calls that look


@pytest.fixture(scope="module")
def plugin(shared: World, tmp_path_factory: pytest.TempPathFactory) -> Plugin:
    """The single file, as `make plugin` makes it."""
    return Plugin(shared.cluster, tmp_path_factory.mktemp("plugin"))


def test_a_greedy_client_is_found_slowed_and_let_go(world: World, clients: dict[str, Client], plugin: Plugin) -> None:
    """Over NodePorts of both families: `top` shows it first, `slow` slows it alone, `who` knows it, `lift` frees it."""
    greedy, quiet = clients["one"], clients["quiet"]
    ports = {greedy.address(4): world.uploads["far"].port, greedy.address(6): world.uploads["near"].port}
    with (
        world.downloading(greedy, four=world.flow("far", 4), six=world.flow("near", 6)) as stream,
        world.downloading(quiet, q4=world.flow("near", 4, QUIET)) as beside,
    ):
        for family in (4, 6):
            stream.await_rate(family, free)
        first = plugin.run("top", "--once", "1", "-o", "json")
        world.tell(f"kubectl cbl top: its first rows {first.seconds:.1f} s after its start (4 s are promised)")

        seen = json.loads(plugin.run("top", "--once", "5", "-o", "json").text)
        assert (seen["nodesAsked"], len(seen["nodes"])) == (len(world.cluster.nodes),) * 2, seen["notes"]
        rows = [row for row in seen["clients"] if not row["label"]]
        assert {row["client"] for row in rows[:2]} == ports.keys()
        for row in rows[:2]:
            assert (row["nodes"], row["ports"][0]["port"]) == ([world.front.name], ports[row["client"]]), row
            assert 0.7 * OFFERED <= row["rates"]["10s"]["bitsPerSecond"] <= 1.4 * OFFERED, row

        began = beside.now
        words = ("--rate", f"{LIMIT // MBIT}Mbit", "--for", "30m", "--reason", "downloads without end", "-y")
        since: dict[int, float] = {}
        for family in (4, 6):
            slow = plugin.run("slow", greedy.address(family), *words, "--name", f"greedy-{family}")
            since[family] = stream.await_rate(family, slowed)
            late = since[family] - slow.began
            world.tell(f"kubectl cbl slow: IPv{family} slowed {late:.1f} s after its start (3 s are promised)")
        beside.wait(3)
        for family in (4, 6):
            assert fastest(stream, family, since[family]) <= NEVER_ABOVE * LIMIT, family
        assert free(beside.rate(4, began), QUIET)

        for address in ports:
            _is_held(json.loads(plugin.run("who", address, "-o", "json").text), world)
        assert json.loads(plugin.run("status", "-o", "json").text)["problems"] == []

        for family in (4, 6):
            plugin.run("lift", f"greedy-{family}", "-y")
            stream.await_rate(family, free)


def _is_held(told: Mapping[str, object], world: World) -> None:
    """`who` says that all nodes have the limit, and that the one that the client dials holds it to it."""
    nodes = {node["name"]: node for node in told["nodes"]}  # type: ignore[attr-defined]
    assert {name: node["state"] for name, node in nodes.items()} == dict.fromkeys(
        (node.name for node in world.cluster.nodes), "InForce"
    ), told
    front = nodes[world.front.name]
    assert front["held"] == "held", front
    assert front["limitBitsPerSecond"] == LIMIT


def test_a_killed_question_ends_by_itself(world: World, plugin: Plugin) -> None:
    """Nobody takes it back: within a minute no agent looks at packets, and no question and no report is left."""
    before = _packet_sockets(world)
    asking = plugin.started("top", "--once", "300")
    try:
        shell.eventually(
            "all nodes report", lambda: len(_left(world, "nodeclienttraffics")) == len(world.cluster.nodes)
        )
        assert all(count > before[name] for name, count in _packet_sockets(world).items())
    finally:
        asking.kill()
        asking.wait()
    killed = time.monotonic()
    shell.eventually(
        f"there is no {LOOKED} any more", lambda: not _left(world, OBJECTS), seconds=ENDED_SECONDS + NOTICED_SECONDS
    )
    shell.eventually("no socket is left", lambda: _packet_sockets(world) == before, seconds=NOTICED_SECONDS)
    world.tell(f"kubectl cbl top was killed: all of its question gone {time.monotonic() - killed:.0f} s later (60 s)")


def _left(world: World, kinds: str) -> list[str]:
    return world.cluster.kubectl("get", kinds, "-o", "name").split()


def _packet_sockets(world: World) -> dict[str, int]:
    """By node: the packet sockets in its network namespace."""
    return {node.name: node.run("cat", "/proc/net/packet").count("\n") - 1 for node in world.cluster.nodes}
