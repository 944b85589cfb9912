"""What a client without a limit pays where programs classify, beside what it pays where rules do.

    server: sender ── [rule and set | program and table] ── veth ── client: takes what comes, or drops it

Packets of 64 bytes to one address, and in turns to 100,000: a table looks cheap while one entry of it is asked for.
Every design has a pair of namespaces of its own and stays installed, so that the rounds can take turns. CPU time of the
sender for each packet, which does not depend on who else uses the machine.
"""

from __future__ import annotations

import contextlib
import pathlib

from bandwidth_bench import agent, limits, stage
from bandwidth_bench.figures import Figure, ratios
from bandwidth_bench.rows import packets, sight_packets
from bandwidth_lab import bpffs

COUNTS = (1_000, 30_000)
QUICK_COUNTS = (1_000,)
ROUNDS = 15
REACH = 0.92  # of a bare link, with programs
BARE, RULE, PROGRAM = "no rule, no program", "rule and set", "program and table"
ONE = "one"
MANY = f"{sight_packets.ADDRESSES:,}"
DESTINATIONS = (ONE, MANY)


def measure(extent: stage.Extent) -> list[Figure]:
    """Packets per CPU second of either design over those of a bare link, and of one over those of the other."""
    counts = QUICK_COUNTS if extent.quick else COUNTS
    with contextlib.ExitStack() as stack:
        folder, names = stack.enter_context(stage.folder()), stack.enter_context(bpffs.mounted())
        paths = {(BARE, 0): _path(stack)}
        for count in counts:
            for design in (RULE, PROGRAM):
                stage.say(f"{design}, {count:,} limits")
                made = paths[design, count] = _path(stack)
                _limit(made, design, count, folder / f"{design}-{count}", names)
        rounds = {
            f"{design}|{count}|{destinations}": path.work if destinations == ONE else path.work_for_many
            for destinations in DESTINATIONS
            for (design, count), path in paths.items()
        }
        nanoseconds = stage.in_turns(rounds, extent.rounds(ROUNDS))
    return [f for count in counts for destinations in DESTINATIONS for f in _figures(nanoseconds, count, destinations)]


class _Path(packets.Path):
    """A path that can be measured with many addresses too, all of them the client's."""

    def work_for_many(self) -> float:
        return sight_packets.nanoseconds(self.network, looked=False)


def _path(stack: contextlib.ExitStack) -> _Path:
    made = _Path(stack)
    sight_packets.to_all(made.network)
    return made


def _limit(path: _Path, design: str, count: int, folder: pathlib.Path, names: pathlib.Path) -> None:
    """Put limits of others in force; none of the addresses that are sent to has one."""
    options = () if design == RULE else ("--classifier", "ebpf", "--bpf-directory", str(names))
    agent.once(agent.node(path.network.server.namespace, folder, "ifb", limits.many(count), *options))


def _figures(nanoseconds: dict[str, list[float]], count: int, destinations: str) -> list[Figure]:
    case = {"limits": f"{count:,}", "addresses sent to": destinations}
    bare = nanoseconds[f"{BARE}|0|{destinations}"]
    rule, program = (nanoseconds[f"{design}|{count}|{destinations}"] for design in (RULE, PROGRAM))
    return [
        Figure(case, "CPU ns per packet, bare", tuple(bare), ""),
        Figure(case, RULE, tuple(rule), ""),
        Figure(case, PROGRAM, tuple(program), ""),
        Figure(case, f"packets, {RULE} ÷ bare", ratios(bare, rule), ""),
        Figure(case, f"packets, {PROGRAM} ÷ bare", ratios(bare, program), "", low=REACH),
        Figure(case, f"{PROGRAM} ÷ {RULE}", ratios(rule, program), "", low=1.0),
    ]
