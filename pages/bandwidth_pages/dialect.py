"""Markdown as GitHub reads it, rewritten for the generator, whose parser asks for more blank lines and spaces. Pure."""

from __future__ import annotations

import re

_ITEM = re.compile(r"([-*+]|\d{1,3}[.)]) +(?=\S)")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_INSIDE = "    "  # how far what belongs to an item is indented


def rewritten(text: str) -> str:
    """The same text where a list begins behind a blank line, and what belongs to its items is indented by four."""
    made: list[str] = []
    fence, width, before = "", 0, ""
    for line in text.splitlines(keepends=True):
        blank = not line.strip()
        item = None if fence else _ITEM.match(line)
        if item:
            if before.strip() and (not width or _FENCE.match(before)):
                made.append("\n")
            width = len(item[0])
            made.append(line)
        elif width and not blank and line.startswith(" " * width):
            made.append(_INSIDE + line[width:])
        else:
            if width and not blank and not before.strip():
                width = 0  # a paragraph behind the list
            made.append(line)
            if opened := _FENCE.match(line):
                fence = "" if fence and line.strip() == fence else fence or opened[1]
        before = line
    return "".join(made)
