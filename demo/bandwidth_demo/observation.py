"""Watches a demonstration while it runs: shows what moves, notes what happens, measures how each client fares.

Changes nothing of what it watches. Its recording holds what has been measured so far, also when a scene fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from rich.text import Text

from bandwidth_demo import recording
from bandwidth_demo.agent import Agent
from bandwidth_demo.recording import Event, Recording, Row
from bandwidth_demo.screen import Reading, Screen
from bandwidth_lab.meter import WireMeter, bits_per_second
from bandwidth_lab.traffic import TcpFlow

PATIENCE_SECONDS = 20.0  # for a limit to work
REFRESH_SECONDS = 0.2
SECOND = 1.0
WINDOW = 4  # samples of 0.1 s over which a moving rate is shown

Verdict = Callable[[str, str, float, float], Row]  # client, situation, asked, measured


class Observation:
    """What is seen from the outside: the meters at both clients, and the screen in front of the audience."""

    def __init__(self, screen: Screen, agent: Agent, greedy: WireMeter, quiet: WireMeter) -> None:
        self._screen = screen
        self._agent = agent
        self._limits: dict[int, int] = {}  # of the greedy client, by family
        self.recorded = Recording(time.monotonic(), greedy=greedy.samples, quiet=quiet.samples)

    # ── what is said ───────────────────────────────────────────────────────────────────────────────────────────

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._screen.line(text)

    def note(self, text: str, label: str, limits: Mapping[int, int] | None = None) -> Event:
        """Record and print that something happened just now; `limits` of the greedy client are in force from now on."""
        if limits is not None:
            self._limits = dict(limits)
        limit = max(self._limits.values()) if self._limits else None
        event = Event(time.monotonic(), text, limit, label)
        self.recorded.events.append(event)
        self._screen.line(f"{event.at - self.recorded.started_at:5.1f} s   {text}")
        return event

    def remark(self, text: str) -> None:
        """Record a line for the end."""
        self.recorded.remarks.append(text)

    def quote(self, printed: str) -> None:
        """Print what a program printed."""
        self._screen.keep_terminal([Text(line) for line in printed.rstrip().splitlines()])

    def keep(self, name: str, shown: Sequence[Text]) -> None:
        """Record and print the screen of a program."""
        self.recorded.screens[name] = tuple(shown)
        self._screen.keep_terminal(shown)

    # ── what moves ─────────────────────────────────────────────────────────────────────────────────────────────

    def watch(self, seconds: float) -> None:
        """Show the rates move for some seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(REFRESH_SECONDS, left))
            self.look()

    def look(self, shown: Sequence[Text] = ()) -> None:
        """Show this moment's rates, or on a terminal what a program shows. Raises AgentError if the agent ended."""
        self._agent.check()
        if shown and self._screen.console.is_terminal:
            self._screen.show_terminal(shown)
        else:
            self._screen.show(time.monotonic() - self.recorded.started_at, self._readings())

    def _readings(self) -> list[Reading]:
        readings = []
        for name, samples, limits, style in (
            ("greedy", self.recorded.greedy, self._limits, "red"),
            ("quiet", self.recorded.quiet, {}, "cyan"),
        ):
            for family in (4, 6):
                rate = bits_per_second(samples[-1 - WINDOW], samples[-1], family) if len(samples) > WINDOW else 0.0
                readings.append(Reading(f"{name} IPv{family}", rate, limits.get(family), style))
        return readings

    # ── what is measured ───────────────────────────────────────────────────────────────────────────────────────

    def measure(
        self,
        situation: str,
        seconds: float,
        quiet: Mapping[int, TcpFlow],
        verdict: Verdict,
        *,
        together: bool = False,
    ) -> None:
        """Watch for so long; record how the quiet client fared, and the greedy one where it has limits.

        `together`: both families of the quiet client in one row.
        """
        start, at = self.recorded.greedy[-1], time.monotonic()
        before = {family: flow.progress() for family, flow in quiet.items()}
        self.watch(seconds)
        end, elapsed = self.recorded.greedy[-1], time.monotonic() - at
        after = {family: flow.progress() for family, flow in quiet.items()}
        for family, limit in self._limits.items():
            rate = bits_per_second(start, end, family)
            self.recorded.rows.append(recording.limited(f"greedy IPv{family}", situation, limit, rate))
        asked = {family: (after[family].asked_bytes - before[family].asked_bytes) * 8 / elapsed for family in quiet}
        got = {family: (after[family].arrived_bytes - before[family].arrived_bytes) * 8 / elapsed for family in quiet}
        if together:
            self.recorded.rows.append(verdict("quiet, both", situation, sum(asked.values()), sum(got.values())))
            return
        for family in quiet:
            self.recorded.rows.append(verdict(f"quiet IPv{family}", situation, asked[family], got[family]))

    def settle(self, seconds: float, events: Mapping[int, Event], since: str = "the file was written") -> None:
        """Watch for so long, and on a busy machine until the limit of each family's event is seen on the wire.

        `since`: what happened at these events, in words.
        """
        patience = time.monotonic() + PATIENCE_SECONDS
        self.watch(seconds)
        while (slowest := self._slowest(events)) is None and time.monotonic() < patience:
            self.watch(REFRESH_SECONDS)
        if slowest is not None:
            limit = recording.megabits(min(self._limits.values(), default=0))
            self.remark(f"{limit} Mbit/s on the wire {slowest:.1f} s after {since}")

    def recover(self, asked_bits_per_second: float) -> None:
        """Watch until the quiet client has what it asks for; a starved connection waits before it tries again."""
        patience = time.monotonic() + PATIENCE_SECONDS
        while self._least_quiet() < asked_bits_per_second and time.monotonic() < patience:
            self.watch(REFRESH_SECONDS)
        self.watch(SECOND)  # what it is behind comes at once

    def _least_quiet(self) -> float:
        samples = self.recorded.quiet
        return min(bits_per_second(samples[-1 - WINDOW], samples[-1], family) for family in (4, 6))

    def _slowest(self, events: Mapping[int, Event]) -> float | None:
        """Return the longest time from an event until its family was limited; None while one is not."""
        took = [recording.seconds_until(self.recorded.greedy, event, family) for family, event in events.items()]
        known = [seconds for seconds in took if seconds is not None]
        return max(known) if len(known) == len(took) else None
