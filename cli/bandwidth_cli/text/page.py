"""Prints what a verb found: lines, JSON, YAML; and questions and notes, which go to stderr.

A reader that is gone (`| head`) is no error. Colours only on a terminal, and not with NO_COLOR or TERM=dumb.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from typing import IO, Any

from bandwidth_cli.text import yaml_text
from bandwidth_runtime import printable, result

RED, GREEN, YELLOW, BOLD = "31", "32", "33", "1"


def show(lines: Iterable[str]) -> None:
    """Print lines on stdout; they are printable already where they hold text from outside."""
    try:
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except OSError:
        result.abandon()


def show_json(value: Any) -> None:
    """Print a value as JSON, as kubectl does."""
    text = json.dumps(value, indent=4, ensure_ascii=False)
    show([_steering_nothing(line) for line in text.split("\n")])


def _steering_nothing(line: str) -> str:
    """Return a line of JSON with escapes for what a terminal may obey: JSON itself escapes only a part of that."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def show_object(value: Any, form: str) -> None:
    """Print a value as `json` or `yaml`."""
    if form == "json":
        show_json(value)
    else:
        show(yaml_text.lines(value))


def note(text: str) -> None:
    """Print one line on stderr, beside the result."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{printable.line(text)}\n")
        sys.stderr.flush()


def ask(question: str) -> str:
    """Ask on the terminal and return the answer without blanks around it; "" at the end of the input."""
    sys.stderr.write(f"{printable.line(question)} ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def interactive() -> bool:
    """Whether a person can be asked: stdin and stderr are a terminal."""
    return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)


def paint(text: str, colour: str) -> str:
    """Return text in a colour where stdout shows colours."""
    return f"\x1b[{colour}m{text}\x1b[0m" if _colours() else text


def _colours() -> bool:
    return _is_terminal(sys.stdout) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in (None, "dumb")


def _is_terminal(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False
