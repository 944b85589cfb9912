"""Finds the greedy client and slows it, as a person does: on the screen of `bandwidth-agent top`, with its keys.

What it knows of the client is what the screen says; the network is asked only whether that is right.
"""

from __future__ import annotations

import pathlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bandwidth_demo import recording, terminal
from bandwidth_demo.agent import Agent
from bandwidth_demo.observation import Observation
from bandwidth_demo.recording import Event, Rate
from bandwidth_demo.site import Site
from bandwidth_demo.terminal import Terminal

COLUMNS, ROWS = 112, 18  # of the terminal
LOOK_SECONDS = 3.0  # a glance: the rates of less are rough
DWELL_SECONDS = 1.2  # before a key that matters, so that those who watch can read what it is about
SECONDS = 15.0  # until a screen shows what is waited for
SETTLE_SECONDS = 1.0  # after the limits, until what was under way before them has arrived
REASON = "mailbox sync loop, ticket 4711"

_RATE = re.compile(r"([0-9.]+)([kMGT]?)")
_FACTOR = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


class Shown(NamedTuple):
    """One row of the screen."""

    client: str
    bits_per_second: float  # of the last ten seconds, or of those since the screen was opened
    share: str
    ports: str
    limit: str

    @property
    def family(self) -> int:
        return 6 if ":" in self.client else 4


def rows(screen: Sequence[str]) -> list[Shown]:
    """Return the rows below the line of column names; none where there is no such line yet."""
    for number, line in enumerate(screen):
        names = line.split()
        if "CLIENT" in names:
            return [row for line in screen[number + 1 :] if (row := _row(names, line.split()))]
    return []


def _row(names: Sequence[str], words: Sequence[str]) -> Shown | None:
    """Read one row by the names of its columns; None for a line that is no row."""
    last = len(names) - 1  # the column of limits, the one with words in it
    found = dict(zip(names, [*words[:last], " ".join(words[last:])], strict=False))
    rate = _RATE.fullmatch(found.get("10s", ""))
    if rate is None or not found.get("SHARE", "").endswith("%"):
        return None
    return Shown(
        found["CLIENT"],
        float(rate[1]) * _FACTOR[rate[2]],
        found["SHARE"],
        found.get("PORTS", ""),
        found.get("LIMIT", ""),
    )


def find_and_slow(here: Site, agent: Agent, folder: pathlib.Path, seen: Observation, rate: Rate) -> None:
    """Open `top`, read who is on top, and slow each of its addresses to a rate."""
    seen.say("The quiet one gets less than it asks for. Who is it?     $ bandwidth-agent top --manifests limits")
    greedy = {here.greedy.address4, here.greedy.address6}
    with terminal.opened(here.server.namespace, folder, agent.command("top"), columns=COLUMNS, rows=ROWS) as top:

        def named(screen: Sequence[str]) -> bool:
            found = rows(screen)
            if found and not looked:
                looked.append((time.monotonic(), here.sent_to_greedy()))
            long_enough = bool(looked) and time.monotonic() - looked[0][0] >= LOOK_SECONDS
            return long_enough and {row.client for row in found[:2]} == greedy

        looked: list[tuple[float, int]] = []
        screen = top.until("the greedy client on top", named, SECONDS, seen.look)
        found = rows([line.plain for line in screen])[:2]
        (began, sent), (ended, sent_now) = looked[0], (time.monotonic(), here.sent_to_greedy())
        counted = (sent_now - sent) * 8 / (ended - began)
        seen.keep("top", screen)
        seen.note(" and ".join(f"{row.client} has {row.share}, port {row.ports}" for row in found), "seen")
        shown = sum(row.bits_per_second for row in found)
        seen.recorded.rows.append(recording.seen("greedy, both", "no limit", shown, counted))
        slowed: dict[int, int] = {}
        events: dict[int, Event] = {}
        for row in found:
            slowed[row.family] = rate.bits_per_second
            events[row.family] = _press_slow(top, agent, seen, row, rate, slowed)
        top.press("Escape")  # which ends the filter
        held = top.until("both at their limit", lambda screen: _at_limit(screen) >= greedy, SECONDS, seen.look)
        seen.keep("top-held", held)
    seen.settle(SETTLE_SECONDS, events)


def _at_limit(screen: Sequence[str]) -> set[str]:
    """Return the clients that the screen says are slowed now."""
    return {row.client for row in rows(screen) if ", at lim" in row.limit}


def _press_slow(
    top: Terminal, agent: Agent, seen: Observation, row: Shown, rate: Rate, slowed: Mapping[int, int]
) -> Event:
    """Press `l` on a row, fill in the form, look at the preview, and write the file with `y`."""
    before = set(agent.manifests.iterdir())
    if before:  # by the key `/`: the first row is another one's
        top.press("/")
        top.write(row.client)
        top.press("Enter")
    top.press("l")
    top.until("the form", lambda screen: any(f"Slow down {row.client}" in line for line in screen), SECONDS, seen.look)
    top.press("C-u")
    top.write(rate.text)
    top.press("Enter", "Enter")  # the duration stays as it is suggested
    top.write(REASON)
    _dwell(top, seen)
    top.press("Enter")
    preview = top.until("the preview", lambda screen: "y yes" in screen[-1], SECONDS, seen.look)
    _dwell(top, seen)
    if not before:
        seen.keep("top-slow", preview)
    top.press("y")
    label = "" if before else f"slowed to {rate}"
    event = seen.note(f"keys l and y: {row.client} gets {rate}", label, slowed)
    top.until("that the file is written", lambda _: set(agent.manifests.iterdir()) > before, SECONDS, seen.look)
    return event


def _dwell(top: Terminal, seen: Observation) -> None:
    """Let those who watch read the screen."""
    end = time.monotonic() + DWELL_SECONDS
    top.until("time to pass", lambda _: time.monotonic() >= end, SECONDS, seen.look)
