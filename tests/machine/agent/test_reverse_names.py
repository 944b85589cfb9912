"""The name of an address, from this machine's resolver."""

from __future__ import annotations

import socket
import time

import pytest

from bandwidth_agent.commands.looking.reverse_names import Resolver
from bandwidth_api import addresses
from bandwidth_sight.source import SourceError


def test_an_address_has_the_name_of_the_resolver() -> None:
    """The one that every machine knows by itself."""
    assert "localhost" in Resolver().name_of(addresses.parse("127.0.0.1"))


def test_without_a_name_or_an_answer_in_time_it_says_so() -> None:
    """An address for documentation has no name; whichever comes first, nobody waits longer than was said."""
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"203\.0\.113\.77 has (no|a) name|no answer about 203\.0\.113\.77 within"):
        Resolver(patience_seconds=1.0).name_of(addresses.parse("203.0.113.77"))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.EAI_NONAME, r"203\.0\.113\.77 has no name"),
        (socket.EAI_AGAIN, r"the resolver of this host does not say whether 203\.0\.113\.77 has a name"),
        (socket.EAI_FAIL, r"the resolver of this host does not say whether 203\.0\.113\.77 has a name"),
    ],
)
def test_a_resolver_that_is_dead_is_not_taken_for_no_name(
    monkeypatch: pytest.MonkeyPatch, error: int, says: str
) -> None:
    """Nobody is told that a client has no name because this host cannot ask."""

    def refused(*_: object) -> tuple[str, str]:
        raise socket.gaierror(error, "as the system says it")

    monkeypatch.setattr(socket, "getnameinfo", refused)
    with pytest.raises(SourceError, match=says):
        Resolver().name_of(addresses.parse("203.0.113.77"))


def test_questions_do_not_pile_up() -> None:
    """With some of them unanswered, the next is refused at once."""
    resolver = Resolver()
    while resolver._waiting.acquire(blocking=False):
        pass
    with pytest.raises(SourceError, match="try again later"):
        resolver.name_of(addresses.parse("203.0.113.77"))
