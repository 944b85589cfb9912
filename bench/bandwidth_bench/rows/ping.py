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

from bandwidth_bench import agent, limits, plain, stage
from bandwidth_bench.figures import Figure, ratios
from bandwidth_bench.kernel import has_fq_codel
from bandwidth_lab import Host, Network, TcpFlow, ping, star

ROUNDS = 3
SETTLE_SECONDS = 6.0  # a queue of a thousand packets takes its time to fill
PING_SECONDS = 4.0
CONGESTIONS = ("bbr", "cubic")
REACH_MS = {1: 100.0, 5: 65.0, 20: 50.0, 100: 15.0}  # by Mbit
REACH_FQ_CODEL_MS = {1: 15.0, 5: 8.0, 20: 5.0}
BASELINE = "HTB's default leaf"


def measure(extent: stage.Extent, rates_mbit: tuple[int, ...] = tuple(REACH_MS)) -> list[Figure]:
    """Average round trips, by rate, congestion control and design."""
    cases = [(rate, congestion) for rate in rates_mbit for congestion in CONGESTIONS]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(stage.folder())
        networks = {
            name: stack.enter_context(star(len(cases), prefix=stage.PREFIX)) for name in ("ifb", "interface", BASELINE)
        }
        for placement in ("ifb", "interface"):
            _limit(networks[placement], folder, placement, cases)
        _limit_plainly(networks[BASELINE], cases)
        found: dict[str, list[list[float]]] = {name: [] for name in networks}
        for number in range(extent.rounds(ROUNDS)):
            for name, network in networks.items():
                stage.say(f"{name}, round {number + 1}")
                found[name].append(_round(network, cases, extent))
        fq_codel = has_fq_codel(networks[BASELINE].router or networks[BASELINE].server.namespace)
        return _figures(cases, found, REACH_FQ_CODEL_MS if fq_codel else REACH_MS)


def _limit(network: Network, folder: pathlib.Path, placement: str, cases: list[tuple[int, str]]) -> None:
    node = agent.Agent(network.server.namespace, folder / placement, "--interface", "eth0", "--placement", placement)
    wanted = [
        limits.Limit(f"client{n}", (client.address4,), f"{rate}Mbit")
        for n, (client, (rate, _)) in enumerate(zip(network.clients, cases, strict=True))
    ]
    limits.fill(node.manifests, wanted)
    node.once()


def _limit_plainly(network: Network, cases: list[tuple[int, str]]) -> None:
    """The same rates and bursts, and no leaf but the one that HTB makes by itself."""
    server = network.server.namespace
    server.tc("qdisc add dev eth0 root handle 7cb1: htb default 0")
    for minor, (client, (rate, _)) in enumerate(zip(network.clients, cases, strict=True), 1):
        server.tc(
            plain.htb_class("eth0", minor, rate * 1_000_000),
            f"filter add dev eth0 parent 7cb1: protocol ip pref 1 u32 match ip dst {client.address4}"
            f" flowid 7cb1:{minor:x}",
        )


def _round(network: Network, cases: list[tuple[int, str]], extent: stage.Extent) -> list[float]:
    """One average round trip per case, all clients at once."""

    def one(client: Host) -> Callable[[], float]:
        return lambda: ping(client, network.server.address4, seconds=extent.seconds(PING_SECONDS)).average_ms

    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(len(cases)) as threads:
        for client, (_, congestion) in zip(network.clients, cases, strict=True):
            stack.enter_context(TcpFlow(network.server, client, congestion=congestion))
        stage.pause(SETTLE_SECONDS)
        waiting = [threads.submit(one(client)) for client in network.clients]
        return [future.result() for future in waiting]


def _figures(
    cases: list[tuple[int, str]], found: dict[str, list[list[float]]], reach_ms: dict[int, float]
) -> list[Figure]:
    figures = []
    for position, (rate, congestion) in enumerate(cases):
        case = {"limit": f"{rate} Mbit", "flow": congestion}
        of = {name: tuple(values[position] for values in rounds) for name, rounds in found.items()}
        figures += [
            Figure(case, f"agent, {placement}", of[placement], "ms", high=reach_ms.get(rate))
            for placement in ("ifb", "interface")
        ]
        figures.append(Figure(case, BASELINE, of[BASELINE], "ms"))
        figures.append(Figure(case, "ifb ÷ default leaf", ratios(of["ifb"], of[BASELINE]), ""))
    return figures
