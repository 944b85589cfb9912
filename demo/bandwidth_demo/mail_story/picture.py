"""The story as an SVG: how long reading mail took, and below it both clients' rates, over the same time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bandwidth_demo.mail_story.recording import Fetch, Recording
from bandwidth_demo.picture import STYLE
from bandwidth_demo.recording import Event
from bandwidth_lab.meter import Sample, bits_per_second

WIDTH, HEIGHT = 880, 560
LEFT, RIGHT = 64, 24
READING = (74, 270)  # top and bottom of the upper panel
RATES = (318, 514)
WINDOW = 10  # samples of 0.1 s
MEGABIT = 1e6
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

MORE_STYLE = """
  .fetch { fill: #0969da; fill-opacity: .8 } .failed { fill: #cf222e }
  .greedy { stroke: #cf222e } .quiet { stroke: #0969da } polyline.quiet { stroke-width: 1; stroke-opacity: .6 }
  text.greedy { fill: #cf222e; stroke: none } text.quiet { fill: #0969da; stroke: none }
  @media (prefers-color-scheme: dark) {
    .fetch { fill: #79c0ff } .failed { fill: #ff7b72 }
    .greedy { stroke: #ff7b72 } .quiet { stroke: #79c0ff }
    text.greedy { fill: #ff7b72 } text.quiet { fill: #79c0ff }
  }
"""


class _Panel:
    """Converts seconds of the story and a value to the picture's coordinates."""

    def __init__(self, recorded: Recording, edges: tuple[int, int], highest: float) -> None:
        self.started_at, self.seconds = recorded.started_at, recorded.ended_at - recorded.started_at
        self.top, self.bottom = edges
        self.step = next((step for step in STEPS if highest / step <= 6), highest)
        self.steps = int(highest / self.step) + 1

    def x(self, at: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (at - self.started_at) / self.seconds, 1)

    def y(self, value: float) -> float:
        return round(self.bottom - (self.bottom - self.top) * value / (self.steps * self.step), 1)

    def grid(self) -> list[str]:
        parts = []
        for number in range(self.steps + 1):
            value = number * self.step
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text class="quieter" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>')
        return parts


def draw(recorded: Recording) -> str:
    """Return the picture as the text of an SVG file."""
    fetches = [fetch for fetch in recorded.fetches if fetch.began >= recorded.started_at]
    curves = {name: _curve(recorded, samples) for name, samples in _clients(recorded)}
    reading = _Panel(recorded, READING, max((fetch.seconds for fetch in fetches), default=1.0))
    rates = _Panel(recorded, RATES, max((rate for curve in curves.values() for _, rate in curve), default=1.0))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f"<title>One client loops over its mailbox, another reads its mail</title><style>{STYLE}{MORE_STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="22">Reading mail: seconds for each 2 MB</text>',
        f'<text class="title" x="{LEFT}" y="{RATES[0] - 14}">What each client gets on the wire, Mbit/s</text>',
        *reading.grid(),
        *rates.grid(),
        *_clock(rates),
        *(_moment(event, reading, rates) for event in recorded.events),
        *_seen(recorded, reading, rates),
        *_limit(recorded, rates),
        *(_dot(fetch, reading) for fetch in fetches),
        *(_path(name, curve, rates) for name, curve in curves.items()),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _clients(recorded: Recording) -> tuple[tuple[str, Sequence[Sample]], ...]:
    return ("greedy", recorded.greedy), ("quiet", recorded.quiet)


def _curve(recorded: Recording, samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """Return (time, Mbit/s over the second before it), twice a second."""
    within = [sample for sample in samples if recorded.started_at <= sample.at <= recorded.ended_at]
    pairs = list(zip(within, within[WINDOW:], strict=False))[:: WINDOW // 2]
    return [(end.at, bits_per_second(start, end) / MEGABIT) for start, end in pairs]


def _clock(panel: _Panel) -> list[str]:
    y = panel.bottom + 20
    times = ((panel.x(panel.started_at + seconds), seconds) for seconds in range(0, int(panel.seconds) + 1, 20))
    return [f'<text class="quieter" x="{x}" y="{y}" text-anchor="middle">{seconds} s</text>' for x, seconds in times]


def _moment(event: Event, reading: _Panel, rates: _Panel) -> str:
    """Draw a line through both panels at an event, with its name above."""
    x = reading.x(event.at)
    return (
        f'<line class="event" x1="{x}" x2="{x}" y1="{reading.top - 12}" y2="{rates.bottom}"/>'
        f'<text class="quieter" x="{x + 4}" y="{reading.top - 16}">{escape(event.label or event.text)}</text>'
    )


def _seen(recorded: Recording, reading: _Panel, rates: _Panel) -> list[str]:
    """The same for the moment when it was seen who it is, with the word before it: the limit comes just after."""
    if not recorded.named_at:
        return []
    x = reading.x(recorded.named_at)
    return [
        f'<line class="event" x1="{x}" x2="{x}" y1="{reading.top - 12}" y2="{rates.bottom}"/>',
        f'<text class="quieter" x="{x - 4}" y="{reading.top - 16}" text-anchor="end">seen</text>',
    ]


def _limit(recorded: Recording, panel: _Panel) -> list[str]:
    """Draw the limit, from its event to the next."""
    ends = [event.at for event in recorded.events[1:]] + [recorded.ended_at]
    return [
        f'<line class="limit" x1="{panel.x(event.at)}" x2="{panel.x(end)}" y1="{y}" y2="{y}"/>'
        for event, end in zip(recorded.events, ends, strict=True)
        if event.limit_bits_per_second is not None
        for y in [panel.y(event.limit_bits_per_second / MEGABIT)]
    ]


def _dot(fetch: Fetch, panel: _Panel) -> str:
    kind = "fetch" if fetch.failure is None else "failed"
    return f'<circle class="{kind}" cx="{panel.x(fetch.began)}" cy="{panel.y(fetch.seconds)}" r="3"/>'


def _path(name: str, curve: Sequence[tuple[float, float]], panel: _Panel) -> str:
    points = " ".join(f"{panel.x(at)},{panel.y(rate)}" for at, rate in curve)
    return f'<polyline class="rate {name}" points="{points}"/>'


def _legend() -> list[str]:
    y, x = RATES[0] - 14, WIDTH - RIGHT
    return [
        f'<text class="greedy" x="{x - 110}" y="{y}" text-anchor="end">greedy client</text>',
        f'<text class="quiet" x="{x}" y="{y}" text-anchor="end">quiet client</text>',
    ]
