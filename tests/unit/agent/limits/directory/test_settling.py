"""Whether what is at a name is what its author wants, or a save under way."""

from __future__ import annotations

import pytest

from bandwidth_agent.limits.directory.filesystem import files, settling
from bandwidth_agent.limits.directory.filesystem.settling import Action, FileState

OLD = 3600.0  # seconds since the file was modified


def signature(number: int, size: int = 100) -> files.Signature:
    return files.Signature(number, number, size, number, 1)


def whole(number: int = 1, *, writing: bool | None = False, age: float = OLD, size: int = 100) -> FileState:
    return FileState(signature(number, size), writing, age, True)


GONE = FileState(None, None, 0.0, True)


def test_a_file_that_nobody_writes_is_read() -> None:
    """Nothing is waited for, however young it is."""
    known = settling.Settling()
    assert known.action("a", whole(age=0.0), 0.0) is Action.READ
    assert known.due() is None


def test_what_is_gone_stays_for_a_moment() -> None:
    """Half a second later it was a deletion, however often it was looked at meanwhile."""
    known = settling.Settling()
    assert [known.action("a", GONE, at) for at in (1.0, 1.2, 1.49)] == [Action.WAIT] * 3
    assert known.due() == 1.0 + settling.GONE_SECONDS
    assert known.ripe(1.4) == set()
    assert known.ripe(1.5) == {"a"}
    assert [known.action("a", GONE, 1.5) for _ in range(2)] == [Action.READ] * 2
    known.done("a")
    assert known.due() is None


def test_what_was_nothing_is_not_waited_for() -> None:
    """A file of which nothing is in force can go at once."""
    known = settling.Settling()
    assert known.action("a", GONE._replace(expected=False), 1.0) is Action.READ


def test_a_successor_that_is_being_written_is_waited_for() -> None:
    """Longer than for one that does not come; and it is read as soon as its writer closed it."""
    known = settling.Settling()
    known.action("a", GONE, 0.0)
    for at in (0.4, 2.0, 5.0):
        assert known.action("a", whole(int(at * 10), writing=True), at) is Action.WAIT
    assert known.action("a", whole(50), 5.1) is Action.READ


@pytest.mark.parametrize("grows", [False, True])
def test_a_file_that_is_never_closed_is_read_in_part(grows: bool) -> None:
    """After ten seconds of rest, or a minute if it does not rest, what is there counts as far as it goes."""
    known = settling.Settling()
    seen = [known.action("a", whole(second if grows else 1, writing=True), float(second)) for second in range(62)]
    bound = settling.OPEN_SECONDS if grows else settling.OPEN_REST_SECONDS
    assert seen.index(Action.PART) == bound
    assert set(seen[int(bound) :]) == {Action.PART}
    assert known.due() == 61.0 + settling.LOOK_SECONDS


def test_an_empty_file_is_given_time_for_its_first_byte() -> None:
    """One that has been empty for longer is empty."""
    known = settling.Settling()
    assert known.action("a", whole(size=0, age=0.0), 0.0) is Action.WAIT
    assert known.due() == settling.EMPTY_SECONDS
    assert known.action("a", whole(size=0, age=1.0), 1.0) is Action.READ
    assert known.action("b", whole(size=0), 0.0) is Action.READ


def test_where_writers_cannot_be_seen_their_closing_or_rest_is_waited_for() -> None:
    """A close says that it is whole, unless another save begins after it; without one, rest does."""
    known = settling.Settling()
    assert known.action("a", whole(writing=None, age=0.0), 0.0) is Action.WAIT
    known.heard({"a": True}, 0.1)
    assert known.action("a", whole(writing=None, age=0.1), 0.1) is Action.READ
    known.heard({"a": None}, 0.1)
    assert known.action("a", whole(writing=None, age=0.1), 0.1) is Action.READ
    known.heard({"a": False}, 0.1)
    assert known.action("a", whole(2, writing=None, age=0.0), 0.1) is Action.WAIT
    assert known.action("a", whole(2, writing=None, age=0.0), 0.1 + settling.REST_SECONDS) is Action.READ
    assert known.action("b", whole(writing=None), 0.0) is Action.READ


def test_a_directory_in_place_of_another_is_given_time_to_fill() -> None:
    """What is missing in it counts as gone when nothing has come for a moment, and not before; not for ever either."""
    known = settling.Settling()
    known.action("a", GONE, 0.0)
    known.replaced(10.0)
    at = 10.0
    while at < 15.0:
        at += 0.25
        known.heard({"other": True}, at)
        assert known.action("a", GONE, at) is Action.WAIT
    assert known.action("a", GONE, at + settling.GONE_SECONDS) is Action.READ
    known.action("b", GONE, 20.0)
    known.heard({"other": True}, 20.4)
    assert known.action("b", GONE, 20.5) is Action.READ
    known.action("c", GONE, 30.0)
    known.replaced(30.0)
    actions = []
    for step in range(int(settling.POPULATING_SECONDS / 0.25) + 1):
        known.heard({"other": True}, 30.0 + step * 0.25)
        actions.append(known.action("c", GONE, 30.0 + step * 0.25))
    assert actions.index(Action.READ) == len(actions) - 1


def test_a_file_that_changed_while_it_was_read_is_looked_at_again() -> None:
    """Soon, and without an event."""
    known = settling.Settling()
    known.torn("a", signature(1), 1.0)
    assert known.due() == 1.0 + settling.LOOK_SECONDS
    assert known.action("a", whole(), 1.3) is Action.READ
