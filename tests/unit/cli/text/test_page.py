"""What is printed steers no terminal, whatever form it has."""

from __future__ import annotations

import json

import pytest

from bandwidth_cli.text import page

HOSTILE = {"reason": "a\x1b[31m\x9b31m\u202eb\u2066\U000e0001", "kept": "日本 é", "x": ["\x07\n"]}


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_objects_hold_nothing_that_a_terminal_obeys(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes of both control sets, and letters that turn the order of a line."""
    page.show_object(HOSTILE, form)
    text = capsys.readouterr().out
    assert all(line.isprintable() for line in text.splitlines())
    assert "日本 é" in text
    if form == "json":
        assert json.loads(text) == HOSTILE
