"""Every call of our programs that a page shows is one that the program takes: sub-command, options and words."""

from __future__ import annotations

import argparse
import itertools
import pathlib
import re
import shlex
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from bandwidth_agent import cli as agent
from bandwidth_cli.command_line import parser as plugin
from bandwidth_operator import cli as operator
from gitops import documents

ROOT = documents.ROOT
PAGES = [
    *documents.PAGES,
    *sorted((ROOT / "docs" / "reference").glob("*.md")),
    *(ROOT / name for name in ("examples/README.md", "demo/README.md", "tests/lab/README.md", "CONTRIBUTING.md")),
]
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "bandwidth-agent": agent.parser,
    "bandwidth-operator": operator.parser,
    "kubectl cbl": plugin.parser,
}
CALL = re.compile(rf"(?<![-\w])({'|'.join(PARSERS)}) +([a-z-][^`]*)")
# What stands before a call that is typed: nothing, a prompt, the folder of the program, another program that calls it.
SHELL = re.compile(r"\s*(\$ )?(\S*/|.* -- |sudo |ExecStart=.*)?")
# What a page writes where a reader writes something of their own.
SAMPLES = {
    "ADDRESS": "192.0.2.7",
    "CLIENT": "192.0.2.7",
    "DIR": "/limits",
    "HOST:PORT": "127.0.0.1:9100",
    "NAME": "mail-loop",
    "NODE": "worker-0",
    "RATE": "5Mbit",
    "REASON": "ticket",
    "SECONDS": "5",
}


class Call(NamedTuple):
    where: str  # file and line
    program: str
    words: tuple[str, ...]
    whole: bool  # it is a line of a block of code, to be typed as it is


def calls(page: pathlib.Path) -> Iterator[Call]:
    """The calls of our programs in code, in blocks and in sentences."""
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        block = fenced or (line.startswith("    ") and not line.lstrip().startswith(("-", "|")))
        for code in [line] if block else re.findall(r"`([^`]+)`", line):
            shown = re.sub(r"(?<=\S)(\s+#|\s{3}).*$", "", code)  # a comment, or a second column
            for found in CALL.finditer(shown):
                whole = block and SHELL.fullmatch(shown[: found.start()]) is not None and ", " not in found[2]
                yield Call(f"{page.relative_to(ROOT)}:{number}", found[1], words_of(found[2]), whole)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a call as a shell reads them, up to a pipe or the like."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # the quotes are those of a text around it
        words = text.split()
    return tuple(itertools.takewhile(lambda word: word[:1] not in set("|;&<>"), (w for w in words if w != "…")))


CALLS = [call for page in PAGES for call in calls(page)]


def parser_of(program: str, name: str) -> argparse.ArgumentParser:
    """The parser of a sub-command."""
    (actions,) = (each for each in PARSERS[program]()._actions if isinstance(each, argparse._SubParsersAction))
    assert name in actions.choices, f"{program} has no {name}"
    found: argparse.ArgumentParser = actions.choices[name]
    return found


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.where}-{call.words[0]}")
def test_a_call_that_is_shown_is_taken(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """A line of a block is parsed as a whole; in a sentence its sub-command and each of its options exist."""
    words = [SAMPLES.get(word, word) for word in call.words]
    if words[0] in ("--help", "PROGRAM"):
        return
    if call.whole and "--help" not in words:
        try:
            PARSERS[call.program]().parse_args(words)
        except SystemExit:
            pytest.fail(capsys.readouterr().err)
        return
    known = parser_of(call.program, words[0].rstrip(",."))._option_string_actions
    options = [word.partition("=")[0] for word in words if word.startswith("-") and word != "--"]
    assert [option for option in options if option not in known] == []


def test_calls_are_found_at_all() -> None:
    """Each program is called somewhere in the pages, in a block and in a sentence."""
    assert {(call.program, call.whole) for call in CALLS} == {
        (program, whole) for program in PARSERS for whole in (True, False)
    }
