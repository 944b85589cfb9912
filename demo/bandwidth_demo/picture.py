"""Draws the rates of a demonstration over time as an SVG, light or dark like the reader's screen. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from bandwidth_demo.recording import Recording
from bandwidth_lab.meter import Sample, bits_per_second

WIDTH, HEIGHT = 880, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 58, 44
WINDOW = 5  # samples of 0.1 s
LETTER, LINE = 6.5, 14  # of a label: about the width of a letter, and the height of a line
MEGABIT = 1e6

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 }
  .quieter { fill: #57606a; font-size: 12px }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .event { stroke: #57606a; stroke-width: 1; stroke-dasharray: 2 3 }
  .limit { stroke: #57606a; stroke-width: 1.5; stroke-dasharray: 6 4 }
  .rate { fill: none; stroke-width: 2; stroke-linejoin: round }
  .greedy4 { stroke: #cf222e } .greedy6 { stroke: #bc4c00 } .quiet4 { stroke: #0969da } .quiet6 { stroke: #1a7f37 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quieter { fill: #9198a1 } .grid { stroke: #3d444d }
    .event, .limit { stroke: #9198a1 }
    .greedy4 { stroke: #ff7b72 } .greedy6 { stroke: #ffa657 } .quiet4 { stroke: #79c0ff } .quiet6 { stroke: #7ee787 }
  }
"""


def draw(recorded: Recording) -> str:
    """Return the picture as the text of an SVG file."""
    duration = recorded.ended_at - recorded.started_at
    curves = {
        f"{name} IPv{family}": _curve([s for s in samples if s.at <= recorded.ended_at], family, recorded.started_at)
        for name, samples in (("greedy", recorded.greedy), ("quiet", recorded.quiet))
        for family in (4, 6)
    }
    highest = max((rate for curve in curves.values() for _, rate in curve), default=1.0)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**5) if highest / step <= 8)
    frame = _Frame(duration, (int(highest / step) + 1) * step)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f"<title>Rates on the wire over time</title><style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="22">What each client gets on the wire, Mbit/s</text>',
        *_grid(frame, step),
        *_events(recorded, frame),
        *(_path(name, curve, frame) for name, curve in curves.items()),
        *_legend(curves),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Frame:
    """Converts seconds and Mbit/s to the picture's coordinates."""

    def __init__(self, seconds: float, megabits: float) -> None:
        self.seconds, self.megabits = seconds, megabits

    def x(self, seconds: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.seconds, 1)

    def y(self, megabits: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * megabits / self.megabits, 1)


def _curve(samples: Sequence[Sample], family: int, started_at: float) -> list[tuple[float, float]]:
    """Return (seconds, Mbit/s) of every second sample."""
    pairs = list(zip(samples, samples[WINDOW:], strict=False))[::2]
    return [(end.at - started_at, bits_per_second(start, end, family) / MEGABIT) for start, end in pairs]


def _grid(frame: _Frame, step: int) -> list[str]:
    parts = []
    for value in range(0, int(frame.megabits) + 1, step):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="quieter" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value}</text>')
    for seconds in range(0, int(frame.seconds) + 1, 5):
        x, y = frame.x(seconds), HEIGHT - BOTTOM + 18
        parts.append(f'<text class="quieter" x="{x}" y="{y}" text-anchor="middle">{seconds} s</text>')
    return parts


def _events(recorded: Recording, frame: _Frame) -> list[str]:
    """Draw a line at each event with its label above, and the limit from there to the next event.

    A label for which there is no room beside the one before it stands a line higher.
    """
    parts = []
    ends_at = [0.0, 0.0]  # where the last label ends, of the lower line and of the higher one
    ends = [event.at for event in recorded.events[1:]] + [recorded.ended_at]
    for event, end in zip(recorded.events, ends, strict=True):
        x, x_end = frame.x(event.at - recorded.started_at), frame.x(end - recorded.started_at)
        parts.append(f'<line class="event" x1="{x}" x2="{x}" y1="{TOP - 8}" y2="{HEIGHT - BOTTOM}"/>')
        if event.limit_bits_per_second is not None:
            y = frame.y(event.limit_bits_per_second / MEGABIT)
            parts.append(f'<line class="limit" x1="{x}" x2="{x_end}" y1="{y}" y2="{y}"/>')
        if event.label:
            line = 0 if ends_at[0] < x else 1
            ends_at[line] = x + 4 + LETTER * len(event.label)
            y = TOP - 4 - line * LINE
            parts.append(f'<text class="quieter" x="{x + 4}" y="{y}">{escape(event.label)}</text>')
    return parts


def _kind(name: str) -> str:
    return name.replace(" IPv", "")


def _path(name: str, curve: Sequence[tuple[float, float]], frame: _Frame) -> str:
    points = " ".join(f"{frame.x(seconds)},{frame.y(rate)}" for seconds, rate in curve)
    return f'<polyline class="rate {_kind(name)}" points="{points}"/>'


def _legend(names: Iterable[str]) -> list[str]:
    parts, x = [], WIDTH - RIGHT + 16
    for number, name in enumerate(names):
        y = TOP + 8 + 24 * number
        parts.append(f'<line class="rate {_kind(name)}" x1="{x}" x2="{x + 22}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{x + 30}" y="{y + 4}">{escape(name)}</text>')
    return parts
