"""Escapes text from outside before it goes to a terminal or into a text log. Pure.

Names, reasons and messages come from files, from the cluster, and from kernel objects of other programs. Characters
that control a terminal, change the direction of text or begin a new line are written as their codes.
JSON needs none of this: it has escapes of its own.
"""

from __future__ import annotations


def line(text: str) -> str:
    """Return the text as one line, all that is not printable written as `\\x1b`, `\\n`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _code(letter) for letter in text)


def lines(text: str) -> str:
    """Return text of several lines, such as a traceback, each line as `line` writes it."""
    return "\n".join(map(line, text.split("\n")))


def _code(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
