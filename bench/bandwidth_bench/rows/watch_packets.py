"""What the others pay while a policy watches all the time: shortest packets to 100,000 addresses, and the reader's CPU.

    server: spray ── netfilter ── qdisc ── [packet socket, a part of the time] ── veth ── client: drops it

As the row `sight-packets`, in rounds long enough for its pauses.
"""

from __future__ import annotations

import contextlib

from bandwidth_bench import looking, stage
from bandwidth_bench.figures import Figure, ratios
from bandwidth_bench.rows import sight_packets
from bandwidth_lab import Network

ROUNDS = 5
ROUND_SECONDS = 6.0
REACH = 0.92


def measure(extent: stage.Extent) -> list[Figure]:
    """Packets per CPU second while a policy watches, over those while nobody does; and CPU of the thread that does."""
    cores: list[float] = []

    def watched(network: Network) -> float:
        with looking.Looking(network.server.namespace, sparing=True) as look:
            found = sight_packets.nanoseconds(network, looked=False, seconds=ROUND_SECONDS)
            cores.append(looking.core_percent(look.seconds))
        return found

    with contextlib.ExitStack() as stack:
        network = sight_packets.path(stack)
        rounds = {
            "alone": lambda: sight_packets.nanoseconds(network, looked=False, seconds=ROUND_SECONDS),
            "watched": lambda: watched(network),
        }
        found = stage.in_turns(rounds, extent.rounds(ROUNDS))
    case = {"path": "no rule, no qdisc"}
    return [
        Figure(case, "CPU ns per packet, nobody looks", tuple(found["alone"]), ""),
        Figure(case, "a policy watches", tuple(found["watched"]), ""),
        Figure(case, "packets, watched ÷ nobody", ratios(found["alone"], found["watched"]), "", low=REACH),
        Figure(case, "reader, percent of a core", tuple(cores), "%", high=1.5),
    ]
