"""Completes the words of a call: kubectl's own completion asks `kubectl_complete-cbl`, as it asks any plugin.

Prints one candidate a line, and at the end what the shell is to do (`:4`: no file names), as cobra's programs do.
Asks the cluster only for names and addresses of limits, briefly, and stays silent whatever goes wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence

from bandwidth_api import addresses
from bandwidth_cli import cluster
from bandwidth_cli.command_line import parser
from bandwidth_cli.kubectl import global_flags, program
from bandwidth_cli.kubectl.failures import KubectlError
from bandwidth_cli.outcome import FailedError
from bandwidth_cli.text import page

NO_FILES = ":4"
SECONDS = "3s"


def main(words: Sequence[str] | None = None) -> int:
    """Print what the last word may become."""
    given = list(sys.argv[1:] if words is None else words)
    with contextlib.suppress(KubectlError, FailedError, ValueError, KeyboardInterrupt):
        page.show(candidates(given or [""]))
    page.show([NO_FILES])
    return 0


def candidates(words: Sequence[str]) -> list[str]:
    """Return what the last word may become, in order."""
    *before, last = words
    with contextlib.suppress(global_flags.FlagError):
        before = list(global_flags.split(before).rest)
    verb = next((word for word in before if not word.startswith("-")), None)
    if verb is None:
        return _beginning(last, [f"{name}\t{summary}" for name, summary in parser.VERBS.items()])
    if verb not in parser.VERBS:
        return []
    choices = _choices(verb, before[-1])
    if choices is not None:
        return _beginning(last, choices)
    if last.startswith("-"):
        return _beginning(last, sorted(_options(verb)))
    if verb == "completion":
        return _beginning(last, ["bash", "zsh", "fish", "kubectl"])
    if verb in ("lift", "who", "why"):
        return _beginning(last, list(_known(words[:-1], names=verb != "who")))
    return []


def _beginning(last: str, texts: Sequence[str]) -> list[str]:
    return [text for text in texts if text.startswith(last)]


def _actions(verb: str) -> Iterator[argparse.Action]:
    made = parser.parser(verb)
    verbs = next(action for action in made._actions if isinstance(action, argparse._SubParsersAction))
    yield from verbs.choices[verb]._actions


def _options(verb: str) -> Iterator[str]:
    for action in _actions(verb):
        for option in action.option_strings:
            if option.startswith("--"):
                yield f"{option}\t{action.help}"


def _choices(verb: str, option: str) -> list[str] | None:
    """Return the values of an option that waits for one; None if none is waited for."""
    for action in _actions(verb):
        if option in action.option_strings and action.nargs != 0:
            return list(map(str, action.choices or ()))
    return None


def _known(words: Sequence[str], *, names: bool) -> Iterator[str]:
    split = global_flags.split(words)
    if not split.has("--request-timeout"):
        split = split._replace(flags=(*split.flags, f"--request-timeout={SECONDS}"))
    for limit in cluster.all_limits(program.Kubectl(program.found(), split, terminal=False)):
        if names:
            yield f"{limit.name}\t{limit.rate}"
        for client in limit.clients:
            yield f"{addresses.write(client)}\t{limit.name}"
