"""What it costs the agent while somebody looks, and what it does to a client that is limited.

CPU of the thread that reads the samples and keeps the tables of a screen: at 1 Gbit/s of TCP, of 1,400-byte packets to
100,000 addresses, and with as many samples as one wants to be able to bear.
"""

from __future__ import annotations

import contextlib
import os

from bandwidth_agent.kernel.linux.packet import period
from bandwidth_bench import agent, limits, looking, machine, stage
from bandwidth_bench.figures import Figure, ratios
from bandwidth_bench.rows import sight_packets
from bandwidth_lab import Network, TcpFlow, WireMeter, pair, star

SECONDS = 8
LIMIT_MBIT = 20
ROUNDS = 5
METER_SECONDS = 4.0
MANY_SAMPLES = 10_000  # a second
HELD_PERIOD = 1 << 12


def measure(extent: stage.Extent) -> list[Figure]:
    """Percent of a core, and the rate of a limited client with over without."""
    seconds = max(3, round(extent.seconds(SECONDS)))
    found = [*_nobody(), *_tcp(seconds)]
    found += _spray(f"UDP to {sight_packets.ADDRESSES:,} addresses, all alike", 85_000, 0, seconds, high=1.0)
    found += _many_samples(seconds)
    return found + _limited(extent)


def _figures(what: str, seen: list[looking.Second], high: float | None) -> list[Figure]:
    elapsed = seen[-1].stretch.ended - seen[0].stretch.ended
    samples = sum(each.samples for second in seen[1:] for each in second.stretch.clients.values())
    sent = sum(second.stretch.sent_bytes for second in seen[1:])
    case = {"what": what}
    return [
        Figure(case, "Mbit/s", (sent * 8 / elapsed / 1e6,), ""),
        Figure(case, "samples per second", (samples / elapsed,), ""),
        Figure(case, "measured", (looking.core_percent(seen),), "% of a core", high=high),
    ]


def _nobody() -> list[Figure]:
    """Somebody looks, and nothing is sent."""
    with pair(prefix=stage.PREFIX) as network, looking.Looking(network.server.namespace) as look:
        return _figures("nothing is sent", look.until(3), 0.3)


def _tcp(seconds: int) -> list[Figure]:
    with pair(prefix=stage.PREFIX) as network, contextlib.ExitStack() as stack:
        for family in (4, 6):
            flow = TcpFlow(network.server, network.clients[0], family=family, rate_bits_per_second=500e6)
            stack.enter_context(flow)
        stage.pause(1.0)
        look = stack.enter_context(looking.Looking(network.server.namespace))
        return _figures("TCP", look.until(seconds + 1)[1:], 1.0)


def _spray(what: str, per_second: int, exponent: int, seconds: int, high: float) -> list[Figure]:
    with pair(prefix=stage.PREFIX) as network, contextlib.ExitStack() as stack:
        sight_packets.to_all(network)
        _start(network, per_second, exponent, seconds)
        look = stack.enter_context(looking.Looking(network.server.namespace))
        return _figures(what, look.until(seconds + 1)[1:], high)


def _many_samples(seconds: int) -> list[Figure]:
    """With a period that does not follow the traffic: more samples than uplinks may bring, and as many as they may."""
    bounds = period.LEAST, period.LOW, period.HIGH
    period.LEAST, period.LOW, period.HIGH = HELD_PERIOD, 1 << 30, 1 << 30
    try:
        found = []
        for what, samples, exponent in (
            ("UDP to many, some of them far larger (Zipf), period held", MANY_SAMPLES, 1),
            ("UDP to many, all alike, period held", 2 * bounds[2], 0),
        ):
            found += _spray(what, samples * HELD_PERIOD // 1_428, exponent, seconds, high=3.0)
        return found
    finally:
        period.LEAST, period.LOW, period.HIGH = bounds


def _start(network: Network, per_second: int, exponent: int, seconds: int) -> None:
    command = [str(machine.spray()), sight_packets.BASE, str(sight_packets.ADDRESSES), str(exponent), "1400"]
    command += [str(seconds + 6), str(1 << 40), str(per_second), "0", os.devnull]
    network.server.namespace.start(command)


def _limited(extent: stage.Extent) -> list[Figure]:
    """The rate of a limited client on the wire while somebody looks, over the one before, in turns."""
    with star(clients=1, prefix=stage.PREFIX) as network, stage.folder() as folder, contextlib.ExitStack() as stack:
        limit = limits.Limit("slow", (network.clients[0].address4,), f"{LIMIT_MBIT}Mbit")
        agent.once(agent.node(network.server.namespace, folder, "ifb", [limit]))
        stack.enter_context(TcpFlow(network.server, network.clients[0]))
        meter = stack.enter_context(WireMeter(network.clients[0]))
        meter.measure(2.0)

        def looked() -> float:
            with looking.Looking(network.server.namespace):
                return meter.measure(METER_SECONDS)

        rates = stage.in_turns({"alone": lambda: meter.measure(METER_SECONDS), "looked": looked}, extent.rounds(ROUNDS))
    case = {"what": f"a client limited to {LIMIT_MBIT} Mbit/s, its rate on the wire"}
    return [
        Figure(case, "Mbit/s", tuple(rate / 1e6 for rate in rates["looked"]), ""),
        Figure(case, "while one looks ÷ before", ratios(rates["looked"], rates["alone"]), "", low=0.99, high=1.01),
    ]
