"""The form of log lines: for people at a terminal, for programs otherwise."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from bandwidth_runtime import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_piped_lines_are_json() -> None:
    """One object a line, with time, level and message."""
    stream = io.StringIO()
    logs.configure("auto", "info", stream)
    structlog.get_logger("x").info("changed the kernel", changes=3)
    line = json.loads(stream.getvalue())
    assert (line["message"], line["level"], line["changes"]) == ("changed the kernel", "info", 3)
    assert line["timestamp"].endswith("Z")


def test_lines_on_a_terminal_are_text() -> None:
    """In colours, for a person."""
    stream = Terminal()
    logs.configure("auto", "info", stream)
    structlog.get_logger("x").warning("careful", limit="mail")
    assert "careful" in stream.getvalue()
    assert "\033[" in stream.getvalue()


def test_the_form_can_be_asked_for() -> None:
    """Text into a file has no colours, JSON on a terminal is JSON."""
    stream, terminal = io.StringIO(), Terminal()
    logs.configure("text", "info", stream)
    structlog.get_logger("x").info("hello", limit="mail")
    assert stream.getvalue().endswith("[info] hello limit=mail\n")
    assert "\033" not in stream.getvalue()
    logs.configure("json", "info", terminal)
    structlog.get_logger("x").info("hello")
    assert json.loads(terminal.getvalue())["message"] == "hello"


@pytest.mark.parametrize(("level", "count"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)])
def test_the_level_bounds_what_is_said(level: str, count: int) -> None:
    """Nothing below the level appears."""
    stream = io.StringIO()
    logs.configure("json", level, stream)
    log = structlog.get_logger("x")
    log.debug("a")
    log.info("b")
    log.warning("c")
    assert len(stream.getvalue().splitlines()) == count


def test_an_exception_is_one_json_line() -> None:
    """With its traceback, and without the values of any variables."""
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    unspoken = "nobody's business"
    try:
        raise ValueError(f"{len(unspoken)} characters")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    [line] = stream.getvalue().splitlines()
    assert "17 characters" in json.loads(line)["exception"]
    assert unspoken not in line


def test_libraries_are_heard_from_warnings_on() -> None:
    """What a library warns of is not lost."""
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("trouble")
    assert "trouble" in stream.getvalue()
    assert "chatter" not in stream.getvalue()
