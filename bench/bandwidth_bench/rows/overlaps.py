"""Time to decide who wins where, for limits of the shapes that cost most: one process, no kernel, no root.

What one author can write at most is 64 clients, 16 exceptions and 7 ranges of ports in each limit; every shape below is
made of such limits. `left out` says how many of them go without, because the budget of overlaps is used up.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Sequence

from bandwidth_api import addresses
from bandwidth_api.compiler.overlap import resolve
from bandwidth_api.plan import Mode, PlanEntry, PortRange, Prefix, Sharing
from bandwidth_bench import stage
from bandwidth_bench.figures import Figure

COUNT = 1_000
ROUNDS = 5
SECONDS_MAX = 1.0
_TEN = 10 << 24


def measure(extent: stage.Extent) -> list[Figure]:
    """Seconds of processor time of a resolution without any memory of the last one."""
    found: list[Figure] = []
    for name, shape in _SHAPES.items():
        stage.say(name)
        entries = [shape(number) for number in range(COUNT)]
        seconds = []
        for _ in range(extent.rounds(ROUNDS)):
            gc.collect()
            start = time.process_time()
            resolution = resolve.resolve(entries)
            seconds.append(time.process_time() - start)
        case = {"shape": name, "limits": f"{COUNT:,}"}
        held = sum(len(table.entries) for table in resolution.tables)
        found.append(Figure(case, "resolution", tuple(seconds), "s", high=SECONDS_MAX))
        found.append(Figure(case, "left out", (float(len(resolution.left_out)),), ""))
        found.append(Figure(case, "table entries", (float(held),), ""))
    return found


def _entry(
    number: int,
    clients: Sequence[Prefix],
    ports: Sequence[PortRange] = (),
    excepted: Sequence[Prefix] = (),
    priority: int = 0,
    sharing: Sharing = Sharing.SHARED,
) -> PlanEntry:
    return PlanEntry(
        limit=f"limit-{number:05}",
        uid="",
        generation=1,
        clients=tuple(clients),
        excepted=tuple(excepted),
        ports=tuple(ports),
        rate_bits_per_second=64_000,
        burst_bytes=None,
        mode=Mode.ENFORCE,
        sharing=sharing,
        priority=priority,
        created_at=float(number),
        expires_at=None,
        node_selector=(),
    )


def _prefix(family: int, address: int, length: int) -> Prefix:
    bits = addresses.BITS[family]
    return Prefix(family, address >> (bits - length) << (bits - length), length)


def _crossing(choose: random.Random) -> list[PortRange]:
    """Seven ranges that do not touch, so that each has borders of its own."""
    starts = [1 + 9_000 * k + choose.randrange(5_000) for k in range(7)]
    return [PortRange(choose.choice(("TCP", "UDP")), first, first + choose.randrange(4_000)) for first in starts]


def _nested(family: int, lengths: Sequence[int], number: int, *, dialled: bool) -> PlanEntry:
    """Networks of many lengths in one another, PerEntry or not, with holes, at any priority."""
    choose = random.Random(number)
    bits = addresses.BITS[family]
    outer = _TEN if family == 4 else 0x2001 << 112
    below = bits - lengths[0]
    clients: dict[Prefix, None] = {}
    while len(clients) < 64:
        clients[_prefix(family, outer | choose.getrandbits(below), choose.choice(lengths))] = None
    holes = {_prefix(family, outer | choose.getrandbits(below), lengths[0] + 16) for _ in range(16)}
    ports = _crossing(choose) if dialled else ()
    return _entry(number, [*clients], ports, [*holes], choose.randrange(1001), choose.choice(list(Sharing)))


def _halved(number: int) -> PlanEntry:
    """Networks that the next longer ones cover whole."""
    clients = [Prefix(4, _TEN + (k << (24 - d)), 8 + d) for d in range(6) for k in range(1 << d)]
    choose = random.Random(number)
    return _entry(number, clients, _crossing(choose), (), choose.randrange(1001))


_NETWORKS = [Prefix(4, _TEN + (k << 16), 16) for k in range(64)]


def _single(number: int) -> list[Prefix]:
    return [Prefix(4, _TEN + number * 64 + k, 32) for k in range(64)]


_SHAPES: dict[str, Callable[[int], PlanEntry]] = {
    "nested networks, crossing ports": lambda n: _nested(4, (8, 9, 10, 11, 12, 16, 20, 24, 28, 32), n, dialled=True),
    "nested networks, every port": lambda n: _nested(4, (8, 9, 10, 11, 12, 16, 20, 24, 28, 32), n, dialled=False),
    "nested 112 deep, crossing ports": lambda n: _nested(6, range(16, 129), n, dialled=True),
    "nested 112 deep, every port": lambda n: _nested(6, range(16, 129), n, dialled=False),
    "networks covered by longer ones": _halved,
    "addresses apart, crossing ports": lambda n: _entry(n, _single(n), _crossing(random.Random(n))),
    "the same networks, a staircase of ports": lambda n: _entry(
        n, _NETWORKS, [PortRange("TCP", 1 + 20 * n, 30_000 + 20 * n)]
    ),
    "the same networks, ports apart": lambda n: _entry(
        n, _NETWORKS, [PortRange("TCP", 1 + 2 * (7 * n + k), 1 + 2 * (7 * n + k)) for k in range(7)]
    ),
    "ports around limits without": lambda n: (
        _entry(n, [Prefix(4, _TEN, 8)], [PortRange("TCP", 1 + n, 1 + n)]) if n % 2 else _entry(n, _single(n))
    ),
}
