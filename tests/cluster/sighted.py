"""Nodes that see known traffic, of a cluster whose operator leads."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence

from bandwidth_kube import connection
from bandwidth_lab.simulated_agents import SimulatedAgent
from bandwidth_lab.simulated_sight import SimulatedSight, Ticker
from cluster.world import STATES, World


@contextlib.contextmanager
def nodes(world: World, sent: Sequence[Mapping[bytes, float]]) -> Iterator[None]:
    """Start an operator, and a node for each part of `sent`: bits per second by client."""
    sights = [SimulatedSight(dict(rates), random.Random(number)) for number, rates in enumerate(sent)]
    ticker = Ticker(sights)
    try:
        world.operator()
        world.wait(world.holder, "the operator leads")
        for number, sight in enumerate(sights):
            name = f"node-{number}"
            world.nodes(name)
            where = connection.load(world.plane.kubeconfig("agent", token=world.agent_token(name)))
            world.agents[name] = SimulatedAgent(where, name, sight=sight)
            world.agents[name].start()
        world.wait(lambda: len(world.items(STATES)) == len(sights), "all nodes report")
        yield
    finally:
        ticker.close()
