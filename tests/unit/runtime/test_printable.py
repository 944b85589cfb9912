"""Text of others, as a terminal may see it."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_runtime import logs, printable, result

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\nb\x9b31m\u202egnp.exe\u2066\u200b\x00\ud800"


@given(st.text())
def test_nothing_steers_a_terminal_or_begins_a_line(text: str) -> None:
    """What comes out is printable, whatever goes in; what is printable goes through as it is."""
    shown = printable.line(text)
    assert shown.isprintable()
    assert not text.isprintable() or shown == text


def test_what_is_hidden_is_shown_as_its_code() -> None:
    """So that a person sees what was there."""
    shown = r"a\x1b[2J\x1b]0;title\x07\r\nb\x9b31m\u202egnp.exe\u2066\u200b\x00\ud800"
    assert printable.line(HOSTILE) == shown
    assert printable.line("Grüße, 名前 ✓") == "Grüße, 名前 ✓"
    assert printable.lines("one\ntwo\x1b\n") == "one\ntwo\\x1b\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_of_the_log_steers_a_terminal(form: str) -> None:
    """Message, values, exceptions, and what libraries say: one line stays one, and JSON says what was there."""
    stream = io.StringIO()
    logs.configure(form, "info", stream)
    log = structlog.get_logger("x")
    log.warning(HOSTILE, limit=HOSTILE, many=[HOSTILE])
    logging.getLogger("library").warning("said %s", HOSTILE)
    written = stream.getvalue()
    assert written.count("\n") == 2
    assert all(line.isprintable() for line in written.splitlines())
    if form == "json":
        first, second = map(json.loads, written.splitlines())
        assert first["message"] == first["limit"] == HOSTILE
        assert second["message"] == f"said {HOSTILE}"
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.exception("failed")
    assert all(letter == "\n" or letter.isprintable() for letter in stream.getvalue())


def test_what_a_program_says_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout and on stderr."""
    result.show(HOSTILE)
    result.complain(HOSTILE)
    said = capsys.readouterr()
    assert said.out == said.err == printable.line(HOSTILE) + "\n"
