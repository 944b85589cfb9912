"""Tables as kubectl prints them: upper-case headers, columns three spaces apart, no trailing blanks. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from bandwidth_runtime import printable

GAP = "   "


def lines(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; an empty cell is `<none>`, and nothing that steers a terminal is in one."""
    cells = [[printable.line(cell) or "<none>" for cell in row] for row in rows]
    table = [list(headers), *cells]
    widths = [max(width(row[column]) for row in table) for column in range(len(headers))]
    return [GAP.join(_filled(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in table]


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def shortened(text: str, most: int) -> str:
    """Return the text, cut with an ellipsis where it has more than so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _filled(cell: str, size: int) -> str:
    return cell + " " * (size - width(cell))
