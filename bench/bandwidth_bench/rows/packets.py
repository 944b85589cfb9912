"""Packets per second of a client without a limit, beside 1 to 30,000 limits of others.

    server: sender ── netfilter ── qdisc ── veth ── client: a socket that takes what comes

64-byte UDP packets, one per system call, one thread. Every design has a pair of namespaces of its own and stays
installed, so that the rounds can take turns; "none" has no rule and no qdisc.
"""

from __future__ import annotations

import contextlib
import pathlib
import socket
from collections.abc import Sequence

from bandwidth_bench import agent, limits, machine, plain, stage
from bandwidth_bench.figures import Figure, ratios
from bandwidth_lab import Network, pair

PORT = "9"
PAYLOAD_BYTES = "22"  # with the headers of UDP, IPv4 and Ethernet: 64
ROUNDS = 9
ROUND_SECONDS = 0.5
COUNTS = (1, 1_000, 10_000, 30_000)
QUICK_COUNTS = (1, 1_000)
SCRIPT_COUNTS = (1, 1_000, 10_000)
REACH = 0.88  # with ifb, and flat in the number of limits


def measure(extent: stage.Extent) -> list[Figure]:
    """Packets per second of each design over those of a bare link."""
    counts = QUICK_COUNTS if extent.quick else COUNTS
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(stage.folder())
        stages: dict[tuple[str, int], Path] = {("none", 0): Path(stack)}
        for placement in ("ifb", "interface"):
            for count in counts:
                stage.say(f"{placement} with {count} limits")
                made = stages[placement, count] = Path(stack)
                made.limit(directory / f"{placement}-{count}", placement, limits.many(count))
        for count in set(SCRIPT_COUNTS) & set(counts):
            stage.say(f"a rule per client, {count} clients")
            made = stages["script", count] = Path(stack)
            plain.install_script(made.network.server.namespace, "eth0", limits.many(count))
        rounds = {f"{design} {count}": path.send for (design, count), path in stages.items()}
        nanoseconds = stage.in_turns(rounds, extent.rounds(ROUNDS))
        return _figures(nanoseconds)


class Path:
    """A sender, a link and a receiver, which may have dialled a port of the sender's before."""

    def __init__(self, stack: contextlib.ExitStack, dialled: int = 0) -> None:
        self.network: Network = stack.enter_context(pair(prefix=stage.PREFIX))
        client = self.network.clients[0]
        self.client = client.address4
        self._dialled = dialled
        self._sink = stack.enter_context(client.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._sink.bind(("", int(PORT)))
        self._command = [str(machine.sender()), client.address4, PORT, PAYLOAD_BYTES, f"{ROUND_SECONDS:g}"]
        self._command += ["1", str(dialled)] if dialled else []

    def limit(self, folder: pathlib.Path, placement: str, wanted: Sequence[limits.Limit]) -> None:
        agent.once(agent.node(self.network.server.namespace, folder, placement, wanted))

    def send(self) -> float:
        """Nanoseconds per packet."""
        packets, seconds, _ = self._sent()
        return seconds / packets * 1e9

    def work(self) -> float:
        """Nanoseconds of CPU that the sender spent per packet, which others on the machine do not add to."""
        packets, _, cpu_seconds = self._sent()
        return cpu_seconds / packets * 1e9

    def _sent(self) -> tuple[float, float, float]:
        """One round: packets, seconds, seconds of CPU."""
        if self._dialled:
            self._sink.sendto(b"hello", (self.network.server.address4, self._dialled))
        done = self.network.server.namespace.run(self._command)
        packets, seconds, cpu_seconds = map(float, done.stdout.split())
        return packets, seconds, cpu_seconds


def _figures(nanoseconds: dict[str, list[float]]) -> list[Figure]:
    bare = nanoseconds.pop("none 0")
    found = [Figure({"design": "no rule, no qdisc", "limits": "–"}, "ns per packet", tuple(bare), "")]
    for name, values in nanoseconds.items():
        design, count = name.split()
        case = {
            "design": "a rule per client" if design == "script" else f"agent, {design}",
            "limits": f"{int(count):,}",
        }
        low = REACH if design == "ifb" else None
        found.append(Figure(case, "ns per packet", tuple(values), ""))
        found.append(Figure(case, "packets per second ÷ bare", ratios(bare, values), "", low=low))
    return found
