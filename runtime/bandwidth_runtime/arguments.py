"""What both command lines share: how programs and their options are declared, and the types of values.

Owns the exit code of a wrong call (64, which no program returns for anything else). Never prints anything else: a wrong
value is argparse's error.
"""

from __future__ import annotations

import argparse
import ipaddress
import pathlib
import sys
from typing import Any, NoReturn

from bandwidth_runtime.web.address import Address

USAGE_ERROR = 64  # EX_USAGE of sysexits.h


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")


class CommandLine:
    """A command with programs, of which each call names one; which one is `command` in what is parsed."""

    def __init__(self, name: str, description: str, epilog: str) -> None:
        self.parser = _Parser(prog=name, **_texts(description, epilog))
        self._programs = self.parser.add_subparsers(
            dest="command", metavar="PROGRAM", required=True, parser_class=_Parser
        )

    def program(self, name: str, summary: str, description: str, epilog: str) -> argparse.ArgumentParser:
        """One more program; returns what its options are added to."""
        return self._programs.add_parser(name, help=summary, **_texts(description, epilog))


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
