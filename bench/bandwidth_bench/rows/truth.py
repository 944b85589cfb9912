"""Whether an agent can be deceived about its limits: trials of many kinds at once, and real bypasses among them.

client 0 … n ── router ── node ── pod        each client plays one kind of trial, another one in the next round;
                           └ agent           the last one is served by the pod, whose packets skip netfilter
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import time

from bandwidth_bench import deceptions, disturbances, stage
from bandwidth_bench.figures import Figure
from bandwidth_lab import Host, TcpFlow, star
from bandwidth_lab.ebpf_datapath import POD_PORT, DatapathNode, datapath_node
from bandwidth_lab.node import Node

ROUNDS = 20
FOUND_SECONDS = 5.0
SETTLE_SECONDS = 0.5  # between two kinds of disturbance
SHARD_FILLER = 520  # limits: what comes after them is on another ifb


def measure(extent: stage.Extent) -> list[Figure]:
    """False alarms by kind of trial, and after how long real bypasses were found."""
    kinds = deceptions.KINDS
    alarms: dict[str, list[float]] = {kind.__name__: [] for kind in kinds}
    found: list[float] = []
    with (
        stage.folder() as folder,
        datapath_node(len(kinds) + 2, prefix=stage.PREFIX, way="cls_bpf", ends_walk=False) as made,
    ):
        node = Node(made.node, folder, "--placement", "ifb", "--resync", "5")
        node.start()
        for number in range(extent.rounds(ROUNDS)):
            stage.say(f"round {number + 1}: {sum(map(sum, alarms.values())):g} false alarms so far")
            found.append(_round(made, node, number, alarms))
        node.stop()
    trials = [
        Figure({"trial": name.replace("_", " ")}, "false alarms", tuple(values), "", high=0.0)
        for name, values in alarms.items()
    ]
    everything = tuple(value for values in alarms.values() for value in values)
    return [
        *trials,
        Figure({"trial": "all"}, "trials", (float(len(everything)),), ""),
        Figure({"trial": "all"}, "false alarms", (sum(everything),), "", high=0.0),
        Figure({"trial": "a real bypass beside them"}, "found after", tuple(found), "s", high=FOUND_SECONDS),
    ]


def measure_disturbed(extent: stage.Extent) -> list[Figure]:
    """False alarms by what happens to a node meanwhile."""
    alarms: dict[str, list[float]] = {kind.__name__: [] for kind in disturbances.KINDS}
    for number in range(extent.rounds(ROUNDS)):
        stage.say(f"round {number + 1}: {sum(map(sum, alarms.values())):g} false alarms so far")
        options = ("--placement", "ifb" if number % 2 else "interface") if number % 3 else ()
        with stage.folder() as folder, star(clients=3, prefix=stage.PREFIX) as network:
            node = Node(network.server.namespace, folder, *options, "--resync", "5")
            node.start()
            with disturbances.traffic(network, node):
                for kind in disturbances.KINDS:
                    before = len(node.alarms())
                    kind(disturbances.Stage(node, network, number))
                    stage.pause(SETTLE_SECONDS)
                    alarms[kind.__name__].append(float(len(node.alarms()) - before))
                    if alarms[kind.__name__][-1]:
                        stage.say(f"{kind.__name__}: {node.alarms()[before:]}")
            node.stop()
    trials = [
        Figure({"trial": name.replace("_", " ")}, "false alarms", tuple(values), "", high=0.0)
        for name, values in alarms.items()
    ]
    everything = [value for values in alarms.values() for value in values]
    return [
        *trials,
        Figure({"trial": "all of these"}, "trials", (float(len(everything)),), ""),
        Figure({"trial": "all of these"}, "false alarms", (sum(everything),), "", high=0.0),
    ]


def _round(made: DatapathNode, node: Node, number: int, alarms: dict[str, list[float]]) -> float:
    """Play every kind once, and one real bypass; how long that took to be found."""
    kinds, router = deceptions.KINDS, made.network.router
    assert router is not None
    *players, loud, bypassed = made.clients
    _surround(made, node, number)
    stages = [
        deceptions.Stage(
            node, made.network.server, players[(place + number) % len(players)], f"r{number}-{place}", number, router
        )
        for place in range(len(kinds))
    ]
    with (
        TcpFlow(made.network.server, loud, rate_bits_per_second=None if number % 3 == 0 else 500e6),
        concurrent.futures.ThreadPoolExecutor(len(kinds) + 1) as threads,
    ):
        playing = [threads.submit(kind, at) for kind, at in zip(kinds, stages, strict=True)]
        seconds = threads.submit(_bypass, made, node, bypassed, f"bypassed-{number}").result()
        for future in playing:
            future.result()
    said = _alarmed(node)
    for place, kind in enumerate(kinds):
        wrong = [name for name in said if name.startswith(f"r{number}-{place}-")]
        alarms[kind.__name__].append(float(len(wrong)))
        if wrong:
            stage.say(f"{kind.__name__}: {wrong}")
    for path in node.manifests.glob("*.yaml"):
        path.unlink()
    return seconds


def _surround(made: DatapathNode, node: Node, number: int) -> None:
    """What changes from round to round for all: another program's root with a deep queue, and a shard that is full."""
    with contextlib.suppress(Exception):
        made.node.tc("qdisc del dev eth0 root")
    if number % 4 == 1:
        made.node.tc("qdisc add dev eth0 root handle 1: tbf rate 200mbit burst 200k limit 20m")
    if number % 4 >= 2:
        for n in range(SHARD_FILLER):
            node.limit(f"filler-{n}", [f"198.18.{n // 250}.{n % 250}"], "1Mbit")
        node.until(lambda: any(len(ipset.entries) >= SHARD_FILLER for ipset in node.kernel().sets.values()))


def _bypass(made: DatapathNode, node: Node, client: Host, name: str) -> float:
    """Serve a limited client from the pod; the seconds until the agent says so, from the first packets on."""
    node.limit(name, [client.address4], "4Mbit")
    with TcpFlow(made.pod, client, port=POD_PORT, dial=made.dial(4), rate_bits_per_second=40e6):
        started = time.monotonic()
        node.until_rate(client.address4, 4_000_000)
        programmed = max(0.0, time.monotonic() - started)
        node.until(lambda: name in _alarmed(node), 20.0)
        return time.monotonic() - started - programmed


def _alarmed(node: Node) -> set[str]:
    return {json.loads(line)["limit"] for line in node.alarms()}
