"""Rows and snapshots for tests of what is seen."""

from __future__ import annotations

from collections.abc import Iterable

from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from bandwidth_sight import drawing, keys, view
from bandwidth_sight.effects import Effect
from bandwidth_sight.rows import Hold, Port, Rate, Rates, Row, Snapshot
from bandwidth_sight.view import View

MBIT = 1e6


def rates(bits_per_second: float, samples: int = 100) -> Rates:
    """The same rate in each window."""
    one = Rate(bits_per_second, samples, bits_per_second**2 / max(1, samples))
    return one, one, one


def row(client: str, bits_per_second: float = MBIT, samples: int = 100, **more: object) -> Row:
    return Row(addresses.network(client), rates(bits_per_second, samples), bits_per_second / 8, **more)  # type: ignore[arg-type]


def snapshot(*rows: Row, **more: object) -> Snapshot:
    known: dict[str, object] = {"interfaces": ("eth0",), "capacity_bits_per_second": 10**9, **more}
    return Snapshot(1e9, 60.0, rows, **known)  # type: ignore[arg-type]


LIMITED = Hold("web-crawl", 60_000_000, at_limit=True, observes=False)
HOUSE = snapshot(
    row("192.0.2.100", 118.7e6, 900, ports=(Port("TCP", 993, 118e6),)),
    row("2001:db8:7::a0c9", 59.9e6, 600, ports=(Port("TCP", 443, 1.0), Port("UDP", 53, 0.5)), holds=(LIMITED,)),
    row("192.0.2.17", 17.3e6, 300),
    row("198.51.100.9", 12e6, 200, label="node worker-1"),
    row("203.0.113.4", 0.2e6, 3),
    sent=(208e6, 208.1e6, 208e6),
)


def many(count: int) -> Snapshot:
    """So many clients, each smaller than the one before."""
    made = (Row(Prefix(4, 0x0A000000 + n, 32), rates(1e9 / (n + 1)), 1e9 / (n + 1)) for n in range(count))
    return snapshot(*made)


def looked(at: Snapshot = HOUSE, width: int = 80, height: int = 24) -> View:
    """The view of a snapshot on a terminal of this size."""
    return settled(view.took(view.View(), at), width, height)


def settled(seen: View, width: int = 80, height: int = 24) -> View:
    return view.settled(seen, drawing.row_lines(seen, height), width)


def pressed(seen: View, *names: str) -> tuple[View, Effect | None]:
    """The view after these keys, and what the last one asks for; `"text:…"` types letters."""
    effect: Effect | None = None
    for each in _letters(names):
        seen, effect = keys.press(settled(seen, seen.width), each)
    return seen, effect


def _letters(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        if name.startswith("text:"):
            yield from name.removeprefix("text:")
        else:
            yield name


def texts(seen: View, width: int = 80, height: int = 24) -> list[str]:
    """The lines of the screen."""
    return [line.text for line in drawing.draw(settled(seen, width, height), width, height).lines]
