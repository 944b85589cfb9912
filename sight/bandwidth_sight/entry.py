"""A line of text that is being typed: the text and where the cursor is in it. Pure."""

from __future__ import annotations

from typing import NamedTuple

LENGTH_MAX = 400


class Entry(NamedTuple):
    text: str = ""
    place: int = 0  # letters before the cursor


def of(text: str) -> Entry:
    """Return a text with the cursor behind it."""
    return Entry(text, len(text))


def press(entry: Entry, key: str) -> Entry:
    """Return the entry after one key; keys that mean nothing here change nothing."""
    text, place = entry
    before, behind = text[:place], text[place:]
    match key:
        case "BACKSPACE":
            return Entry(before[:-1] + behind, max(0, place - 1))
        case "DELETE":
            return Entry(before + behind[1:], place)
        case "LEFT":
            return Entry(text, max(0, place - 1))
        case "RIGHT":
            return Entry(text, min(len(text), place + 1))
        case "HOME" | "CTRL-A":
            return Entry(text, 0)
        case "END" | "CTRL-E":
            return Entry(text, len(text))
        case "CTRL-U":
            return Entry(behind, 0)
        case "CTRL-K":
            return Entry(before, place)
        case "CTRL-W":
            kept = before.rstrip(" ")
            kept = kept[: kept.rfind(" ") + 1]
            return Entry(kept + behind, len(kept))
    if len(key) == 1 and key.isprintable() and len(text) < LENGTH_MAX:
        return Entry(before + key + behind, place + 1)
    return entry
