"""What limits with ports cost a packet: of a client without a limit, and of one that is limited.

The packets of `packets`, but replies of a port that one of the limits is for: only those are asked for their port.
CPU time of the sender per packet, which does not depend on who else is on the machine. A rule that matches a port makes
the kernel track connections, so the bare link comes in two kinds, without and with tracking.
"""

from __future__ import annotations

import contextlib
import pathlib

from bandwidth_bench import limits, plain, stage
from bandwidth_bench.figures import Figure, ratios
from bandwidth_bench.rows.packets import Path

ROUNDS = 9
RANGES = 7  # of ports, of each limit: as many as a limit may have
COUNTS = (1, 1_000)
REACH = 0.88  # of the bare link with connections tracked, for a client without a limit
NEVER_SLOW = "100Gbit"  # for the client whose packets are counted: what its look-up costs, not what its limit does

BARE, TRACKED = "no rule, no qdisc", "no limit, connections tracked"
UNLIMITED = f"unlimited client, {RANGES} port ranges each"
LIMITED = f"limited client, {RANGES} port ranges each"
WITHOUT = "limited client, no ports"


def measure(extent: stage.Extent) -> list[Figure]:
    """CPU time per packet, and the packets that the same CPU time sends, over those of a bare link."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(stage.folder())
        stages: dict[tuple[str, int], Path] = {(BARE, 0): Path(stack), (TRACKED, 0): Path(stack)}
        _track(stages[TRACKED, 0])
        made = stages[WITHOUT, 1] = Path(stack)
        made.limit(directory / "without", "ifb", [limits.Limit("whole", (made.client,), NEVER_SLOW)])
        _track(made)
        for count in COUNTS:
            stage.say(f"{count} limits with {RANGES} ranges of ports each")
            _install(stack, directory, stages, count)
        rounds = {key: path.work for key, path in stages.items()}
        named = {f"{design}|{count}": work for (design, count), work in rounds.items()}
        nanoseconds = stage.in_turns(named, extent.rounds(ROUNDS))
        return _figures({key: nanoseconds[f"{key[0]}|{key[1]}"] for key in stages})


def _install(
    stack: contextlib.ExitStack, directory: pathlib.Path, stages: dict[tuple[str, int], Path], count: int
) -> None:
    """Two paths with so many limits: one whose client has none, and one whose client has the one in the middle."""
    wanted = limits.with_ports(count, RANGES)
    middle = wanted[count // 2]
    port = middle.ports[RANGES // 2][0]
    made = stages[UNLIMITED, count] = Path(stack, port)
    made.limit(directory / f"unlimited-{count}", "ifb", wanted)
    made = stages[LIMITED, count] = Path(stack, port)
    its_own = middle._replace(clients=(made.client,), rate=NEVER_SLOW)
    made.limit(directory / f"limited-{count}", "ifb", [its_own if each is middle else each for each in wanted])


def _track(path: Path) -> None:
    """Have the kernel track connections, as it does on every node of Kubernetes."""
    rule = "-A POSTROUTING -o lo -m conntrack --ctstate INVALID -j ACCEPT"
    path.network.server.namespace.run(["iptables-restore", "--noflush"], stdin=plain.rules([rule]))


def _figures(nanoseconds: dict[tuple[str, int], list[float]]) -> list[Figure]:
    found = []
    bare, tracked = nanoseconds[BARE, 0], nanoseconds[TRACKED, 0]
    for (design, count), values in nanoseconds.items():
        case = {"packets to": design, "limits": f"{count:,}" if count else "–"}
        found.append(Figure(case, "CPU ns per packet", tuple(values), ""))
        if design != BARE:
            found.append(Figure(case, "÷ bare", ratios(bare, values), ""))
        if design not in (BARE, TRACKED):
            low = REACH if design == UNLIMITED else None
            found.append(Figure(case, "÷ bare, tracked", ratios(tracked, values), "", low=low))
    return found
