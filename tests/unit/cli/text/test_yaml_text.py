"""JSON values as YAML: what a reader of YAML makes of them is what they were."""

from __future__ import annotations

import string
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_cli.text import yaml_text

ODD = [
    "yes",
    "No",
    "on",
    "OFF",
    "null",
    "~",
    "1e3",
    "0x1f",
    "1_000",
    "12:30:45",
    "2030-01-01",
    ".inf",
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "`a",
    "5Mbit",
    "1.5Gbit",
    "=",
    "<<",
    "a:",
    "x,y",
    "[a]",
    "{a}",
    "|",
    ">",
    "'a'",
    '"a"',
    "y",
    "N",
]
ODDER = ["- x", "a: b", "a #b", "#a", " a", "a ", "", "a\nb", "\u2028", "\ufeff", "\x7f"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.text(max_size=20)
    | st.text(alphabet=string.printable, max_size=20)
    | st.sampled_from(ODD + ODDER)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_yaml_is_read_back_as_it_was(value: Any) -> None:
    """Whatever an object of the API server holds: text stays text, numbers stay numbers."""
    assert yaml.safe_load("\n".join(yaml_text.lines(value))) == value


@pytest.mark.parametrize("text", ["mail-loop", "5Mbit", "ticket 4711, again", "clientbandwidth.io/v1alpha1", "ä"])
def test_harmless_text_is_not_quoted_where_kubectl_does_not(text: str) -> None:
    """Names, rates and simple sentences are written plainly; other letters in quotes, unescaped."""
    line = yaml_text.lines({"reason": text})[0]
    assert line in (f"reason: {text}", f'reason: "{text}"')
    assert text.isascii() == (line == f"reason: {text}")


def test_lists_are_written_as_kubectl_writes_them() -> None:
    """At the same depth as the field that holds them."""
    assert yaml_text.lines({"a": [{"b": 1, "c": [2]}, []], "d": {}}) == [
        "a:",
        "- b: 1",
        "  c:",
        "  - 2",
        "- []",
        "d: {}",
    ]
