"""The verbs of kubectl-cbl and their options. Reads words; runs nothing."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from bandwidth_cli.command_line import help_texts, values

PROGRAM = "kubectl cbl"
USAGE_ERROR = 64  # as both other programs
WAIT_SECONDS = 10.0

VERBS = {
    "top": "which clients get how much now",
    "slow": "slow a client down",
    "who": "which limits hold a client, and is it held?",
    "why": "which policy slowed it, or what stands in the way",
    "list": "list the limits",
    "lift": "let a client go again",
    "status": "what is wrong, and what to do",
    "completion": "completion for a shell",
    "version": "versions of the plugin and of the cluster",
}
# What people type who come from elsewhere.
_MEANT = {
    "add": "slow", "create": "slow", "apply": "slow", "limit": "slow", "throttle": "slow",
    "rm": "lift", "remove": "lift", "delete": "lift", "unslow": "lift", "free": "lift",
    "ls": "list", "get": "list", "describe": "who", "show": "who", "policy": "why", "policies": "why", "cbp": "why",
    "check": "status", "watch": "top",
}  # fmt: skip


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # The usage of some verbs is a page of its own, behind which nobody finds what was wrong.
        page = "" if "--help" in message else f"{'' if message.endswith('?') else ';'} see {self.prog} --help"
        self.exit(USAGE_ERROR, f"error: {message}{page}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = list(map(str, action.choices))
            raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(choices)}{_near(value, choices)}")


def parser(verb: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of a whole call; with a verb only that one has its options, which is all a call needs."""
    top = _Parser(prog=PROGRAM, **_texts(help_texts.DESCRIPTION, help_texts.EPILOG))
    verbs = top.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    for name, summary in VERBS.items():
        options, description, epilog = _VERBS[name]
        made = verbs.add_parser(name, help=summary, **_texts(description, epilog))
        if verb in (None, name):
            options(made)
    return top


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the options of a call; a wrong one, and --help, end the program."""
    verb = next((word for word in words if not word.startswith("-")), None)
    made = parser(verb)
    if verb is not None and verb not in VERBS:
        made.error(_no_verb(verb, words))
    options, further = made.parse_known_args(words)
    # argparse takes the addresses in one row only; here options may stand between them.
    if further and verb == "slow" and not any(word.startswith("-") for word in further):
        try:
            options.clients += [values.client(word) for word in further]
        except ValueError as error:
            made.error(f"argument ADDRESS: {error}")
    elif further and verb == "lift" and not any(word.startswith("-") for word in further):
        options.what += further
    elif further:
        near = _near(further[0].partition("=")[0], _options(made, verb)) if further[0].startswith("-") else ""
        if verb is None and (meant := further[0].lstrip("-")) in VERBS:
            near = f"; did you mean kubectl cbl {meant}?"
        page = f"{PROGRAM} {verb} --help" if verb is not None else f"{PROGRAM} --help"
        made.error(f"{' '.join(further)}: not understood{near}; {page} has the options")
    return options


def _no_verb(word: str, words: Sequence[str]) -> str:
    """Return in words that there is no such verb, and what is probably meant."""
    later = next((each for each in words if each in VERBS), None)
    if words[0].startswith("-") and later is not None:
        return f"the verb comes first: kubectl cbl {later} …"
    if word.lower() == "help":
        return f"there is no verb {word!r}; every verb explains itself: {PROGRAM} {later or 'slow'} --help"
    with contextlib.suppress(ValueError):
        values.address(word)
        return (
            f"{word} is no verb; kubectl cbl who {word} says what holds it, and kubectl cbl slow {word} slows it down"
        )
    near = f"; did you mean {meant}?" if (meant := _MEANT.get(word.lower())) else _near(word.lower(), VERBS)
    return f"there is no verb {word!r}{near or '; verbs are ' + ', '.join(VERBS)}"


def _near(word: str, known: Iterable[str]) -> str:
    """Return the question whether one of these was meant; "" where none is like it."""
    import difflib

    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _options(made: argparse.ArgumentParser, verb: str | None) -> list[str]:
    verbs = next(action for action in made._actions if isinstance(action, argparse._SubParsersAction))
    of = verbs.choices[verb] if verb is not None else made
    return [option for action in of._actions for option in action.option_strings]


def _texts(description: str, epilog: str) -> dict[str, Any]:
    return {
        "description": description,
        "epilog": epilog,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }


def _typed(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a type for argparse, which shows the message of this error alone."""

    def typed(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return typed


def _output(verb: argparse.ArgumentParser, *forms: str) -> None:
    verb.add_argument(
        "-o", "--output", choices=forms, default=forms[0], metavar="|".join(forms), help="form of the output"
    )


def _yes(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-y", "--yes", action="store_true", help="do not ask; needed where stdin is no terminal")
    verb.add_argument(
        "--dry-run", action="store_true", help="ask the API server whether it would do it; change nothing"
    )


def _slow(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "clients", nargs="+", type=_typed(values.client), metavar="ADDRESS", help="the client's address, or its network"
    )
    verb.add_argument("--rate", type=_typed(values.rate), metavar="RATE", help="such as 5Mbit (required)")
    verb.add_argument(
        "--for",
        dest="lasts",
        type=_typed(values.lasts),
        default=3600,
        metavar="TIME",
        help="how long, such as 30m, 1h, 2d or forever (default: 1h)",
    )
    verb.add_argument(
        "--reason", type=_typed(values.reason), metavar="TEXT", help="why, for the next person (required)"
    )
    verb.add_argument("--observe", action="store_true", help="slow nobody down, but count what would have been slowed")
    verb.add_argument(
        "--ports",
        type=_typed(values.ports),
        default=(),
        metavar="LIST",
        help="only these service ports, e.g. 993,53/udp",
    )
    verb.add_argument(
        "--priority", type=_typed(values.priority), default=0, metavar="N", help="the higher one wins where limits meet"
    )
    verb.add_argument("--split", action="store_true", help="the rate for all nodes together, each gets an equal part")
    verb.add_argument("--name", type=_typed(values.name), help="name of the limit (default: from the address)")
    verb.add_argument("--replace", action="store_true", help="change the limit of this name, if there is one")
    verb.add_argument(
        "--wait",
        type=_typed(values.seconds),
        default=WAIT_SECONDS,
        metavar="SECONDS",
        help="wait so long until it is in force; 0: not at all (default: 10)",
    )
    _yes(verb)
    _output(verb, "text", "json", "yaml", "name")


def _who(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("address", type=_typed(values.address), metavar="ADDRESS", help="an address, or a network")
    verb.add_argument("--no-traffic", action="store_true", help="do not ask the nodes how fast it is now")
    _output(verb, "text", "json", "yaml")


def _why(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "what",
        nargs="?",
        metavar="ADDRESS|LIMIT",
        help="a client's address, or the name of a limit; none: all policies",
    )
    _output(verb, "text", "json", "yaml")


def _list(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "-l", "--selector", default="", metavar="LABELS", help="only limits with these labels, e.g. team=mail"
    )
    verb.add_argument("--not-ready", action="store_true", help="only limits that are not in force as written")
    verb.add_argument(
        "--holding", type=_typed(values.address), metavar="ADDRESS", help="only limits that name this address"
    )
    _output(verb, "text", "wide", "json", "yaml", "name")


def _lift(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "what", nargs="*", metavar="NAME|ADDRESS", help="the names of limits, or the addresses that they hold"
    )
    verb.add_argument(
        "-l", "--selector", default="", metavar="LABELS", help="instead: all limits with these labels, e.g. team=mail"
    )
    _yes(verb)
    _output(verb, "text", "name")


def _status(verb: argparse.ArgumentParser) -> None:
    _output(verb, "text", "wide", "json", "yaml")


def _top(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--once",
        type=_typed(values.seconds),
        metavar="SECONDS",
        help="no screen: look for so long, print, and end",
    )
    verb.add_argument("--prefix", action="store_true", help="one row for each /24 and /64")
    verb.add_argument(
        "--nodes",
        type=_typed(values.nodes),
        default=(),
        metavar="NAMES",
        help="ask only these nodes, e.g. worker-1,worker-2",
    )
    verb.add_argument("--exact", action="store_true", help="ask all nodes once more for each of the largest clients")
    verb.add_argument(
        "--top", type=_typed(values.rows), default=50, metavar="N", help="at most so many clients (default: 50)"
    )
    _output(verb, "text", "json", "csv")


def _completion(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("shell", choices=("bash", "zsh", "fish", "kubectl"))


def _version(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--client", action="store_true", help="do not ask the cluster")
    _output(verb, "text", "json", "yaml")


_VERBS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str, str]] = {
    "top": (_top, help_texts.TOP, help_texts.TOP_EPILOG),
    "slow": (_slow, help_texts.SLOW, help_texts.SLOW_EPILOG),
    "who": (_who, help_texts.WHO, help_texts.WHO_EPILOG),
    "why": (_why, help_texts.WHY, help_texts.WHY_EPILOG),
    "list": (_list, help_texts.LIST, help_texts.LIST_EPILOG),
    "lift": (_lift, help_texts.LIFT, help_texts.LIFT_EPILOG),
    "status": (_status, help_texts.STATUS, help_texts.STATUS_EPILOG),
    "completion": (_completion, help_texts.COMPLETION, help_texts.COMPLETION_EPILOG),
    "version": (_version, help_texts.VERSION, help_texts.VERSION_EPILOG),
}
