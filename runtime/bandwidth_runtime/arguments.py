"""What both command lines share: how programs and their options are declared, and the types of values.

Owns the exit code of a wrong call (64, which no program returns for anything else), and how its errors read: one line,
with what was probably meant.
"""

from __future__ import annotations

import argparse
import ipaddress
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from bandwidth_runtime.web.address import Address

USAGE_ERROR = 64  # EX_USAGE of sysexits.h
DISTRIBUTION = "client-bandwidth-operator"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with the error alone: under a usage of twenty lines nobody finds it."""
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n{self.prog} --help has all options\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse does it for `choices`, with what was probably meant."""
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(known)}{_near(str(value), known)}")

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """End because of words that mean nothing here."""
        unknown = next((word for word in words if word.startswith("-")), None)
        if unknown is None:
            self.error(f"{words[0]!r} is one word too many")
        option = unknown.partition("=")[0]
        self.error(f"there is no option {option}{_near(option, self._option_string_actions)}")


class _Program(_Parser):
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse what is not known here, where the options are that may have been meant."""
        found, further = super().parse_known_args(args, namespace)
        if further:
            self.refuse(further)
        return found, further


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        import importlib.metadata  # only here: it takes a moment

        sys.stdout.write(f"{parser.prog} {importlib.metadata.version(DISTRIBUTION)}\n")
        parser.exit()


class Command(_Parser):
    """The parser of a whole call."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return what was given. A wrong call ends with USAGE_ERROR, --help and --version with 0."""
        found, further = self.parse_known_args(args, namespace)
        if further:
            self.refuse(further)
        if found.command is None:
            self.error(f"name a program: {', '.join(self._programs())}")
        return found

    def fail(self, command: str, message: str) -> NoReturn:
        """End with USAGE_ERROR because of options of one program that do not go together."""
        self._programs()[command].error(message)

    def _programs(self) -> Mapping[str, _Parser]:
        return next(a.choices for a in self._actions if isinstance(a, argparse._SubParsersAction))


class CommandLine:
    """A command with programs, of which each call names one; which one is `command` in what is parsed."""

    def __init__(self, name: str, description: str, epilog: str) -> None:
        self.parser = Command(prog=name, **_texts(description, epilog))
        self.parser.add_argument(
            "--version",
            action=_Version,
            nargs=0,
            dest=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
            help="print the version and exit",
        )
        self._programs = self.parser.add_subparsers(dest="command", metavar="PROGRAM", parser_class=_Program)

    def program(self, name: str, summary: str, description: str, epilog: str) -> argparse.ArgumentParser:
        """One more program; returns what its options are added to."""
        return self._programs.add_parser(name, help=summary, **_texts(description, epilog))


def _near(word: str, known: Iterable[str]) -> str:
    """Return what was probably meant, as the end of an error."""
    import difflib  # only here: no right call needs it

    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _texts(description: str, epilog: str) -> dict[str, Any]:
    return {
        "description": description,
        "epilog": epilog,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }


def add_kubeconfig(options: argparse._ActionsContainer) -> None:
    options.add_argument(
        "--kubeconfig",
        type=pathlib.Path,
        metavar="FILE",
        help="how to reach the API server (default: the service account of the pod, then the file in KUBECONFIG)",
    )


def add_metrics_address(options: argparse._ActionsContainer, *, port: int) -> None:
    """`port`: of the example in the help."""
    options.add_argument(
        "--metrics-address",
        type=address,
        metavar="HOST:PORT",
        help=f"serve /metrics, /healthz and /readyz there; :{port} is every address of both families (default: off)",
    )


def add_logs(options: argparse._ActionsContainer) -> None:
    options.add_argument(
        "--log-format",
        choices=("auto", "text", "json"),
        default="auto",
        help="auto: text on a terminal, JSON otherwise (default: auto)",
    )
    options.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")


def number(text: str, *, least: float, most: float, what: str) -> float:
    """A number within bounds; `what` is it in the words of an error."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no {what} between {least} and {most}")
    return value


def whole_number(text: str, *, least: int, most: int, what: str) -> int:
    """As `number`, in decimal digits alone."""
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no {what} between {least} and {most}")
    return int(text)


def address(text: str) -> Address:
    """Parse an address to listen at: HOST:PORT, [IPV6]:PORT or :PORT."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    number = int(port) if port.isascii() and port.isdecimal() and len(port) <= 5 else -1
    if not colon or not 0 <= number <= 65535 or ("[" in host or "]" in host) or (":" in host) != bracketed:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, [IPV6]:PORT or :PORT")
    if bracketed:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: {host!r} is no IPv6 address") from None
    elif host and (not host.isprintable() or not host.isascii() or any(letter in " /@%?#," for letter in host)):
        raise argparse.ArgumentTypeError(f"{text!r}: {host!r} is neither an address nor the name of a host")
    return Address(host, number)
