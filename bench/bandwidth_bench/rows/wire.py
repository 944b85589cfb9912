"""Bytes on the wire over the limit, one TCP flow each, 64 kbit to 10 Gbit.

Up to 100 Mbit all cases of a placement run at once, each in a class of its own: two clients per rate (bbr, cubic),
each with an IPv4 and an IPv6 flow. From 1 Gbit one flow at a time. The wire is counted by segments at the receiver.
Where a rate is near what the path itself can carry, the line "no limit" shows what that is.
"""

from __future__ import annotations

import contextlib
import itertools
import pathlib

from bandwidth_bench import agent, limits, stage
from bandwidth_bench.figures import Figure
from bandwidth_lab import Network, TcpFlow, WireMeter, bits_per_second, pair, star
from bandwidth_lab.node import Node

SLOW_BITS = (64_000, 256_000, 1_000_000, 5_000_000, 20_000_000, 100_000_000)
FAST_BITS = (1_000_000_000, 5_000_000_000, 10_000_000_000)
PLACEMENTS = ("ifb", "interface")
FLOWS = tuple((family, congestion) for family in (4, 6) for congestion in ("bbr", "cubic"))
ROUNDS = 3
SLOW_SETTLE_SECONDS, SLOW_SECONDS = 4.0, 8.0  # at 64 kbit a frame more or less is 2.4 % of 8 s
FAST_SETTLE_SECONDS, FAST_SECONDS = 0.7, 1.0
EXACT_BITS = (256_000, 5_000_000_000)  # from here to here 0.99–1.01, outside 0.95–1.05


def measure(extent: stage.Extent) -> list[Figure]:
    """The ratio of each rate, placement, family and congestion control."""
    found: list[Figure] = []
    for placement in PLACEMENTS:
        stage.say(f"{placement}, up to 100 Mbit")
        found += _slow(placement, extent)
    fast = FAST_BITS[:1] if extent.quick else FAST_BITS
    with pair(prefix=stage.PREFIX) as network, stage.folder() as folder:
        for placement in PLACEMENTS:
            node = agent.node(network.server.namespace, folder / placement, placement)
            for rate in fast:
                stage.say(f"{placement}, {name(rate)}")
                found += _fast(network, node, placement, rate, extent)
            agent.cleanup(node)
        stage.say("no limit")
        found += [
            Figure({"limit": "no limit", "placement": "–"}, _flow(family, congestion), rates, "Gbit/s")
            for family, congestion in FLOWS
            for rates in [tuple(r / 1e9 for r in _one_flow(network, family, congestion, extent))]
        ]
    order = [name(rate) for rate in (*SLOW_BITS, *FAST_BITS)] + ["no limit"]
    return sorted(found, key=lambda figure: order.index(figure.case["limit"]))


def name(rate: int) -> str:
    """As people write it."""
    for unit, size in (("Gbit", 10**9), ("Mbit", 10**6), ("kbit", 10**3)):
        if rate >= size:
            return f"{rate // size}{unit}"
    raise ValueError(rate)


def _flow(family: int, congestion: str) -> str:
    return f"v{family} {congestion}"


def _figure(rate: int, placement: str, family: int, congestion: str, ratios: tuple[float, ...]) -> Figure:
    exact = EXACT_BITS[0] <= rate <= EXACT_BITS[1]
    low, high = (0.99, 1.01) if exact else (0.95, 1.05)
    return Figure({"limit": name(rate), "placement": placement}, _flow(family, congestion), ratios, "", low, high)


def _slow(placement: str, extent: stage.Extent) -> list[Figure]:
    cases = [(rate, congestion) for rate in SLOW_BITS for congestion in ("bbr", "cubic")]
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(star(len(cases), prefix=stage.PREFIX))
        _limit_each(network, stack.enter_context(stage.folder()), placement, [rate for rate, _ in cases])
        for client, (_, congestion) in zip(network.clients, cases, strict=True):
            for family in (4, 6):
                stack.enter_context(TcpFlow(network.server, client, family=family, congestion=congestion))
        meters = [stack.enter_context(WireMeter(client, interval_seconds=3600.0)) for client in network.clients]
        stage.pause(SLOW_SETTLE_SECONDS)
        readings = [[meter.read() for meter in meters]]
        for _ in range(extent.rounds(ROUNDS)):
            stage.pause(SLOW_SECONDS)
            readings.append([meter.read() for meter in meters])
    found = []
    for position, (rate, congestion) in enumerate(cases):
        own = [reading[position] for reading in readings]
        for family in (4, 6):
            ratios = tuple(bits_per_second(a, b, family) / rate for a, b in itertools.pairwise(own))
            found.append(_figure(rate, placement, family, congestion, ratios))
    return found


def _limit_each(network: Network, folder: pathlib.Path, placement: str, rates: list[int]) -> None:
    """Every client's two addresses get a limit of their own."""
    wanted = [
        limits.Limit(f"client{number}-v{family}", (client.address(family),), name(rate))
        for number, (client, rate) in enumerate(zip(network.clients, rates, strict=True))
        for family in (4, 6)
    ]
    agent.once(agent.node(network.server.namespace, folder, placement, wanted))


def _fast(network: Network, node: Node, placement: str, rate: int, extent: stage.Extent) -> list[Figure]:
    (client,) = network.clients
    limits.write(
        node.manifests / "first.yaml", [limits.Limit("client", (client.address4, client.address6), name(rate))]
    )
    agent.once(node)
    return [
        _figure(rate, placement, family, congestion, tuple(r / rate for r in measured))
        for family, congestion in FLOWS
        for measured in [_one_flow(network, family, congestion, extent)]
    ]


def _one_flow(network: Network, family: int, congestion: str, extent: stage.Extent) -> list[float]:
    """Bits per second on the wire, round by round of one flow."""
    (client,) = network.clients
    with (
        TcpFlow(network.server, client, family=family, congestion=congestion),
        WireMeter(client, interval_seconds=3600.0) as meter,
    ):
        meter.measure(FAST_SETTLE_SECONDS)
        return [meter.measure(FAST_SECONDS, family) for _ in range(extent.rounds(ROUNDS))]
