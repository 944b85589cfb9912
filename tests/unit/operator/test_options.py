"""The words of a call become options, each of them one that is known."""

from __future__ import annotations

import pytest

from bandwidth_operator import cli
from bandwidth_operator.commands.options import Options


@pytest.mark.parametrize("words", [["run"], ["retire"], ["check"], ["clean", "node-1"]], ids=lambda words: words[0])
def test_what_is_parsed_are_options(words: list[str]) -> None:
    """Whatever all commands have in common, such as --version, is no option of a command."""
    given = vars(cli.parser().parse_args(words))
    assert given.pop("command") == words[0]
    assert Options(**given).node == (words[1] if len(words) > 1 else "")
