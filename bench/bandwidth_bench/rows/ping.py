"""Ping of a limited client whose limit is full, against HTB's default leaf (pfifo, 1000 packets).

server ── router ──┬─ client 0: 1 Mbit, bbr      every client has one TCP flow and a ping beside it;
                   ├─ client 1: 1 Mbit, cubic    the designs take turns, each in a star of its own
                   └─ …
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from bandwidth_bench import agent, limits, plain, stage
from bandwidth_bench.figures import Figure, ratios
from bandwidth_bench.kernel import has_fq_codel
from bandwidth_lab import Host, Network, TcpFlow, ping, star

ROUNDS = 3
SETTLE_SECONDS = 6.0  # a queue of a thousand packets takes its time to fill
PING_SECONDS = 4.0
REACH_MS = {1: 100.0, 5: 65.0, 20: 50.0, 100: 15.0}  # by Mbit
REACH_FQ_CODEL_MS = {1: 15.0, 5: 8.0, 20: 5.0}
DEFAULT_LEAF = "HTB's default leaf"


class Case(NamedTuple):
    """One client."""

    rate_mbit: int
    congestion: str


class Scope(NamedTuple):
    """What is measured, and how many flows at once the machine can carry."""

    rates_mbit: tuple[int, ...] = tuple(REACH_MS)
    placements: tuple[str, ...] = ("ifb", "interface")
    flows_at_once: int = 8

    @property
    def cases(self) -> tuple[Case, ...]:
        return tuple(Case(rate, congestion) for rate in self.rates_mbit for congestion in ("bbr", "cubic"))


def measure(extent: stage.Extent, scope: Scope | None = None) -> list[Figure]:
    """Average round trips, by rate, congestion control and design."""
    scope = scope or Scope()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(stage.folder())
        networks = {}
        for design in (*scope.placements, DEFAULT_LEAF):
            network = networks[design] = stack.enter_context(star(len(scope.cases), prefix=stage.PREFIX))
            if design == DEFAULT_LEAF:
                _limit_plainly(network, scope.cases)
            else:
                _limit(network, folder / design, design, scope.cases)
        found: dict[str, list[list[float]]] = {design: [] for design in networks}
        for number in range(extent.rounds(ROUNDS)):
            for design, network in networks.items():
                stage.say(f"{design}, round {number + 1}")
                found[design].append(_round(network, scope, extent))
        fq_codel = has_fq_codel(networks[DEFAULT_LEAF].clients[0].namespace)
        return _figures(scope, found, REACH_FQ_CODEL_MS if fq_codel else REACH_MS)


def _limit(network: Network, folder: pathlib.Path, placement: str, cases: tuple[Case, ...]) -> None:
    wanted = [
        limits.Limit(f"client{number}", (client.address4,), f"{case.rate_mbit}Mbit")
        for number, (client, case) in enumerate(zip(network.clients, cases, strict=True))
    ]
    agent.once(agent.node(network.server.namespace, folder, placement, wanted))


def _limit_plainly(network: Network, cases: tuple[Case, ...]) -> None:
    """The same rates and bursts, and no leaf but the one that HTB makes by itself."""
    server = network.server.namespace
    server.tc("qdisc add dev eth0 root handle 7cb1: htb default 0")
    for minor, (client, case) in enumerate(zip(network.clients, cases, strict=True), 1):
        server.tc(
            plain.htb_class("eth0", minor, case.rate_mbit * 1_000_000),
            f"filter add dev eth0 parent 7cb1: protocol ip pref 1 u32 match ip dst {client.address4}"
            f" flowid 7cb1:{minor:x}",
        )


def _round(network: Network, scope: Scope, extent: stage.Extent) -> list[float]:
    """One average round trip per case."""
    averages: list[float] = []
    pairs = list(zip(network.clients, scope.cases, strict=True))
    for start in range(0, len(pairs), scope.flows_at_once):
        averages += _together(network, pairs[start : start + scope.flows_at_once], extent)
    return averages


def _together(network: Network, loaded: list[tuple[Host, Case]], extent: stage.Extent) -> list[float]:
    """Fill the limits of these clients, and ping from all of them at once."""

    def one(client: Host) -> Callable[[], float]:
        return lambda: ping(client, network.server.address4, seconds=extent.seconds(PING_SECONDS)).average_ms

    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(len(loaded)) as threads:
        for client, case in loaded:
            stack.enter_context(TcpFlow(network.server, client, congestion=case.congestion))
        stage.pause(SETTLE_SECONDS)
        waiting = [threads.submit(one(client)) for client, _ in loaded]
        return [future.result() for future in waiting]


def _figures(scope: Scope, found: dict[str, list[list[float]]], reach_ms: dict[int, float]) -> list[Figure]:
    figures = []
    for position, (rate, congestion) in enumerate(scope.cases):
        case = {"limit": f"{rate} Mbit", "flow": congestion}
        of = {design: tuple(values[position] for values in rounds) for design, rounds in found.items()}
        figures += [
            Figure(case, f"agent, {placement}", of[placement], "ms", high=reach_ms.get(rate))
            for placement in scope.placements
        ]
        figures.append(Figure(case, DEFAULT_LEAF, of[DEFAULT_LEAF], "ms"))
        figures.append(Figure(case, "ifb ÷ default leaf", ratios(of["ifb"], of[DEFAULT_LEAF]), ""))
    return figures
