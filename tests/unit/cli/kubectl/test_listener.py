"""What of a kubectl's stderr is handed on, and what is kept."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_cli.kubectl.process import MESSAGE_MAX_BYTES, Listener

LOG = 'E1129 02:30:34.836433   26600 memcache.go:265] "Unhandled Error" err="x"'


def heard(*parts: str, verbose: bool = False) -> tuple[str, str]:
    told: list[str] = []
    listener = Listener(verbose, told.append)
    for part in parts:
        listener.take(part)
    return "".join(told), listener.failure


def test_a_question_without_an_end_of_line_is_told_at_once() -> None:
    """A program that asks for a password is waiting for the answer."""
    assert heard("Password: ") == ("Password: ", "")


def test_a_message_of_failure_is_kept_to_the_end() -> None:
    """It goes on over several lines, and nothing of it is printed before it is read."""
    told, failure = heard("Warning: old\n", "error: no", "pe\nSee help\n")
    assert told == "Warning: old\n"
    assert failure == "error: nope\nSee help"


def test_the_log_is_shown_only_where_it_is_asked_for() -> None:
    """With -v it is what the user wants to see."""
    assert heard(f"{LOG}\n") == ("", "")
    assert heard(f"{LOG}\n", verbose=True) == (f"{LOG}\n", "")


@given(cuts=st.lists(st.integers(0, 90), max_size=6))
def test_it_does_not_matter_how_the_text_comes(cuts: list[int]) -> None:
    """In one piece or in many: the same is told, and the same is kept."""
    text = f"{LOG}\nOpen https://login\nCode: 12\nEnd\nerror: nope\nmore\n"
    places = sorted({0, *cuts, len(text)})
    parts = [text[a:b] for a, b in itertools.pairwise(places)]
    assert heard(*parts) == heard(text) == ("Open https://login\nCode: 12\nEnd\n", "error: nope\nmore")


@pytest.mark.parametrize("line", ["x", "error: x"])
def test_an_endless_message_takes_no_endless_room(line: str) -> None:
    """What is kept is bounded."""
    listener = Listener(False, lambda _text: None)
    for _ in range(100):
        listener.take(line * 1000)
        listener.take("\n")
    assert len(listener.failure) <= MESSAGE_MAX_BYTES + 200
