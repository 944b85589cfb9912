"""Text in the cells of a terminal: how many it takes, cut to so many, with nothing that steers the terminal. Pure."""

from __future__ import annotations

import unicodedata

MORE = "…"


def clean(text: str) -> str:
    """Return the text in one line, with `?` for what cannot be printed."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def width(text: str) -> int:
    """Return how many cells a text takes: two for a wide letter, none for one that is put onto the last."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def clip(text: str, cells: int) -> str:
    """Return the text if it fits, else its beginning and `…`."""
    if width(text) <= cells:
        return text
    if cells <= 0:
        return ""
    taken, used = [], 0
    for letter in text:
        used += _cells(letter)
        if used > cells - 1:
            break
        taken.append(letter)
    return "".join(taken) + MORE


def left(text: str, cells: int) -> str:
    """Return the text clipped and filled with blanks on its right."""
    text = clip(text, cells)
    return text + " " * (cells - width(text))


def right(text: str, cells: int) -> str:
    """Return the text clipped and filled with blanks on its left."""
    text = clip(text, cells)
    return " " * (cells - width(text)) + text


def wrapped(text: str, cells: int) -> list[str]:
    """Break a text into lines of at most so many cells: at its blanks, and a longer word anywhere; nothing is lost."""
    indent = text[: len(text) - len(text.lstrip(" "))]
    lines, line = list[str](), indent
    for word in clean(text).strip(" ").split(" "):
        joined = f"{line} {word}" if line.strip(" ") else f"{line}{word}"
        if width(joined) > cells and line.strip(" "):
            lines.append(line)
            line = joined = word
        while width(joined) > max(1, cells):
            cut = max(1, len(clip(joined, cells + 1)) - 1) if width(joined) > cells + 1 else max(1, len(joined) - 1)
            lines.append(joined[:cut])
            joined = joined[cut:]
        line = joined
    return [*lines, line]


def _cells(letter: str) -> int:
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
