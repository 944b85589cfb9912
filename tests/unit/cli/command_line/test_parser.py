"""The words of a call."""

from __future__ import annotations

import pytest

from bandwidth_api import addresses
from bandwidth_cli.command_line import help_texts, parser


@pytest.mark.parametrize("verb", parser.VERBS)
def test_every_verb_explains_itself_with_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help ends with 0, fits the width of a page, and has examples that are calls of this verb."""
    with pytest.raises(SystemExit) as ended:
        parser.parse([verb, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"  kubectl cbl {verb}" in text or verb == "completion"
    assert "examples:" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_first_page_names_every_verb() -> None:
    """What there is can be seen at once, and the exit codes."""
    text = parser.parser().format_help()
    assert all(f"    {verb}" in text for verb in parser.VERBS)
    assert "KUBECTL" in text
    assert "exit codes" in text


@pytest.mark.parametrize("text", [t for n, t in vars(help_texts).items() if n.endswith("EPILOG") and n != "EPILOG"])
def test_examples_are_calls_that_are_understood(text: str) -> None:
    """Each line of the examples that is one call of ours, without its shell."""
    import shlex

    lines = [line.strip() for line in text.splitlines() if line.startswith("  kubectl cbl ")]
    for line in lines:
        call = line.partition(" | ")[0].partition(" > ")[0].partition(" && ")[0].partition("          ")[0]
        words = shlex.split(call.partition("   ")[0])[2:]
        assert parser.parse(words).verb == words[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lisst"], "did you mean list?"),
        (["delete", "x"], "did you mean lift?"),
        (["ls"], "did you mean list?"),
        (["qqq"], "verbs are top, slow"),
        (["slow"], "ADDRESS"),
        (["slow", "203.0.113.7", "--rate", "5MB"], "rates are in bits"),
        (["slow", "203.0.113.0/33"], "no IPv4 or IPv6 address"),
        (["slow", "203.0.113.7", "--bogus"], "--bogus: not understood"),
        (["slow", "203.0.113.7", "--rate", "5Mbit", "bogus"], "bogus"),
        (["slow", "203.0.113.7", "--rates", "5Mbit"], "did you mean --rate?"),
        (["slow", "203.0.113.7", "--reson=x"], "did you mean --reason?"),
        (["list", "--not-redy"], "did you mean --not-ready?"),
        (["list", "-o", "xml"], "'xml' is none of text, wide, json, yaml, name"),
        (["list", "-o", "jsn"], "did you mean json?"),
        (["completion", "zhs"], "did you mean zsh?"),
        (["slow", "203.0.113.7", "--ports", "993,imap"], "--ports 143,993"),
        (["slow", "203.0.113.7", "--ports", "DNS/udp"], "53,53/udp"),
        (["--rate", "5Mbit", "slow", "203.0.113.7"], "the verb comes first: kubectl cbl slow"),
        (["--version"], "did you mean kubectl cbl version?"),
        (["help", "who"], "kubectl cbl who --help"),
        (["203.0.113.7"], "kubectl cbl who 203.0.113.7"),
        (["who", "not-an-address"], "no IPv4"),
        (["top", "--nodes", ","], "names 0 nodes"),
        (["top", "--top", "51"], "from 1 to 50"),
    ],
)
def test_a_wrong_call_says_what_is_right(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with 64, which no verb returns for anything else."""
    with pytest.raises(SystemExit) as ended:
        parser.parse(words)
    assert ended.value.code == parser.USAGE_ERROR
    assert says in capsys.readouterr().err


def test_options_may_stand_between_addresses() -> None:
    """People add what they have forgotten at the end."""
    options = parser.parse(["slow", "203.0.113.7", "--rate", "5Mbit", "2001:db8::1", "-y"])
    assert [addresses.write(client) for client in options.clients] == ["203.0.113.7", "2001:db8::1"]
    assert options.yes


def test_many_are_lifted_in_one_call() -> None:
    """Options may stand between names."""
    options = parser.parse(["lift", "a", "-y", "b", "203.0.113.7"])
    assert options.what == ["a", "b", "203.0.113.7"]
