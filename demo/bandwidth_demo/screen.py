"""Shows a demonstration: moving bars on a terminal, one line a second elsewhere. Decides and measures nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.box import ROUNDED
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bandwidth_demo import recording
from bandwidth_demo.recording import Recording

BAR_COLUMNS = 40
PLAIN_SECONDS = 1.0


class Reading(NamedTuple):
    """One client's rate at this moment."""

    client: str
    bits_per_second: float
    limit_bits_per_second: int | None
    style: str


class Screen:
    """The only writer to standard output."""

    def __init__(self, uplink_bits_per_second: int) -> None:
        self.console = Console(highlight=False)
        self._uplink = uplink_bits_per_second
        self._live: Live | None = None
        self._printed_at = 0.0

    def line(self, text: str, style: str = "bold") -> None:
        """Print a line that stays."""
        self.console.print(Text(text, style), soft_wrap=True)
        sys.stdout.flush()

    @contextlib.contextmanager
    def moving(self) -> Iterator[None]:
        """Within the block, `show` moves the bars."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    def show(self, elapsed_seconds: float, readings: list[Reading]) -> None:
        """Show the rates of this moment."""
        if self._live is not None:
            clock = Text(
                f"{elapsed_seconds:5.1f} s   (each bar is the uplink of {self._uplink // 10**6} Mbit/s)", "dim"
            )
            self._live.update(Group(self._bars(readings), clock), refresh=True)
        elif time.monotonic() - self._printed_at >= PLAIN_SECONDS:
            self._printed_at = time.monotonic()
            rates = "   ".join(f"{r.client} {recording.megabits(r.bits_per_second):>5}" for r in readings)
            self.line(f"{elapsed_seconds:5.1f} s   {rates}   Mbit/s", "")

    def show_terminal(self, lines: Sequence[Text]) -> None:
        """Show the screen of a program in place of the bars, as it moves; nothing where there is no terminal."""
        if self._live is not None:
            inside = Text("\n", no_wrap=True, overflow="crop").join(lines)
            self._live.update(Panel(inside, box=ROUNDED, expand=False), refresh=True)

    def keep_terminal(self, lines: Sequence[Text]) -> None:
        """Print the screen of a program, to stay."""
        for line in lines:
            self.console.print(Text("  │ ", "dim").append_text(line), soft_wrap=True)
        sys.stdout.flush()

    def _bars(self, readings: list[Reading]) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=12)
        table.add_column(min_width=BAR_COLUMNS)
        table.add_column(justify="right", min_width=11)
        table.add_column(min_width=16)
        for reading in readings:
            limit = reading.limit_bits_per_second
            table.add_row(
                Text(reading.client, f"bold {reading.style}"),
                _bar(reading.bits_per_second / self._uplink, reading.style),
                f"{recording.megabits(reading.bits_per_second)} Mbit/s",
                Text(f"limit {limit / 1e6:g} Mbit/s" if limit else "", "dim"),
            )
        return table

    def table(self, recorded: Recording) -> None:
        """Print the result: what was asked for and what was measured."""
        table = Table()
        table.add_column("client")
        table.add_column("")
        table.add_column("")
        table.add_column("Mbit/s", justify="right")
        table.add_column("measured", justify="right")
        table.add_column("ratio", justify="right")
        table.add_column("")
        for row in recorded.rows:
            expected, ratio = row.expected_bits_per_second, row.ratio
            table.add_row(
                row.client,
                row.situation,
                row.word,
                "" if expected is None else recording.megabits(expected),
                recording.megabits(row.measured_bits_per_second),
                "" if ratio is None else f"{ratio:.3f}",
                Text("ok", "green") if row.good else Text("NO", "bold red"),
            )
        self.console.print()
        self.console.print(table)
        self.line("quiet: payload received; greedy: on the wire at the client, headers included;", "dim")
        if any(row.word == "top shows" for row in recorded.rows):
            self.line(
                "what top shows is compared with what the next router counted, before the uplink drops any", "dim"
            )


def _bar(share: float, style: str) -> Text:
    """Draw a bar in eighths of a column."""
    eighths = round(min(max(share, 0.0), 1.0) * BAR_COLUMNS * 8)
    full, part = divmod(eighths, 8)
    bar = "█" * full + ("▏▎▍▌▋▊▉"[part - 1] if part else "")
    return Text(bar, style).append("·" * (BAR_COLUMNS - len(bar)), "bright_black")
