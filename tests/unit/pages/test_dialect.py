"""Markdown as GitHub reads it, for a parser that asks for more."""

from __future__ import annotations

from pathlib import Path

import pytest

from bandwidth_pages import dialect

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("Text:\n- a\n- b\n", "Text:\n\n- a\n- b\n"),
        ("Text:\n\n- a\n- b\n", "Text:\n\n- a\n- b\n"),
        ("1. a\n\n   more of a\n2. b\n", "1. a\n\n    more of a\n2. b\n"),
        ("- a\n\n  ```\n  code\n  ```\n- b\n", "- a\n\n    ```\n    code\n    ```\n\n- b\n"),
        ("- a\n  goes on\n\nText\n\n    code\n", "- a\n    goes on\n\nText\n\n    code\n"),
        ("```\nText\n- no item\n```\n", "```\nText\n- no item\n```\n"),
        ("    - code\n", "    - code\n"),
        ("a\n-b is no item\n", "a\n-b is no item\n"),
    ],
)
def test_lists_are_written_so_that_both_read_them(written: str, wanted: str) -> None:
    """A list begins behind a blank line, what belongs to an item is indented by four; all else is as it was."""
    assert dialect.rewritten(written) == wanted


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_no_word_is_lost(path: Path) -> None:
    """Only white space differs."""
    text = path.read_text()
    assert dialect.rewritten(text).split() == text.split()
