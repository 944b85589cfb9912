"""Draws the screen of a terminal as an SVG, letter for letter. Pure: lines with attributes → text of a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from rich.color import Color
from rich.style import Style
from rich.text import Text

COLUMN, LINE = 7.8, 18.0  # of one character, at 13 pixels
MARGIN, BAR = 14.0, 30.0
DARK, LIGHT, FRAME = "#0d1117", "#e6edf3", "#30363d"
# The terminal's own colours: black, red, green, yellow, blue, magenta, cyan, white; the bright ones look alike here.
COLOURS = ("#484f58", "#ff7b72", "#7ee787", "#ffa657", "#79c0ff", "#d2a8ff", "#76e3ea", "#e6edf3")


def draw(lines: Sequence[Text], title: str, columns: int) -> str:
    """Return the picture; `title` stands in the window's bar."""
    width, height = columns * COLUMN + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN + BAR
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}">',
        f"<title>{escape(title)}</title>",
        "<style>text { font: 13px ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', monospace; "
        "white-space: pre }</style>",
        f'<rect x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="8" fill="{DARK}" stroke="{FRAME}"/>',
        f'<text x="{width / 2:g}" y="20" text-anchor="middle" fill="#9198a1">{escape(title)}</text>',
    ]
    for number, line in enumerate(lines):
        top = BAR + MARGIN + number * LINE
        for start, end, style in _runs(line):
            parts += _run(line.plain[start:end], MARGIN + start * COLUMN, top, style)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _runs(line: Text) -> Iterator[tuple[int, int, Style]]:
    """Yield the stretches of a line that look alike."""
    styles = [Style()] * len(line.plain)
    for span in line.spans:
        assert isinstance(span.style, Style)
        for place in range(span.start, min(span.end, len(styles))):
            styles[place] += span.style
    start = 0
    for place in range(1, len(styles) + 1):
        if place == len(styles) or styles[place] != styles[start]:
            yield start, place, styles[start]
            start = place


def _run(text: str, left: float, top: float, style: Style) -> Iterator[str]:
    """Draw one stretch; each with its width, so that columns stand below each other in every font."""
    ink, paper = _colour(style.color), _colour(style.bgcolor)
    if style.reverse:
        ink, paper = paper or DARK, ink or LIGHT
    ink = ink or LIGHT
    width = len(text) * COLUMN
    if paper:
        yield f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{LINE:g}" fill="{paper}"/>'
    if text.strip():
        look = "".join(
            [' font-weight="700"' if style.bold else "", ' fill-opacity="0.65"' if style.dim else ""],
        )
        yield (
            f'<text x="{left:g}" y="{top + 13:g}" textLength="{width:g}" xml:space="preserve" fill="{ink}"{look}>'
            f"{escape(text)}</text>"
        )


def _colour(colour: Color | None) -> str | None:
    """Return the colour as SVG writes it; None where the terminal's own of letters or ground is meant."""
    if colour is None or colour.is_default:
        return None
    if colour.number is not None and colour.number < 2 * len(COLOURS):
        return COLOURS[colour.number % len(COLOURS)]
    return colour.get_truecolor().hex
