"""The command line of the operator: its sub-commands, their options, and what of the environment they use.

The sub-commands are in `commands`; each is loaded only when it runs.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
from collections.abc import Sequence

from bandwidth_kube.credentials.access import NoConnectionError
from bandwidth_operator.commands import help_texts
from bandwidth_operator.commands.options import CHECK_SECONDS, DEFAULTS, RETIRE_SECONDS, RETIRED_SECONDS, Options
from bandwidth_operator.retire.hook_tool import Tool
from bandwidth_runtime import arguments, result, signals, streams

_SECONDS = functools.partial(arguments.number, least=1, most=86_400, what="number of seconds")
_RATE = functools.partial(arguments.number, least=1, most=10_000, what="number of writes per second")
_STAND_BY = functools.partial(arguments.whole_number, least=10, most=3600, what="whole number of seconds")


def parser() -> arguments.Command:
    """Return the parser of the whole command line."""
    top = arguments.CommandLine("bandwidth-operator", help_texts.DESCRIPTION, help_texts.EPILOG)

    run = top.program("run", "run the operator", help_texts.RUN, help_texts.RUN_EPILOG)
    arguments.add_kubeconfig(run)
    arguments.add_metrics_address(run, port=8080)
    run.add_argument(
        "--writes-per-second",
        type=_RATE,
        default=DEFAULTS.writes_per_second,
        metavar="N",
        help="at most so many writes to the API server on average, of all kinds together (default: %(default)g)",
    )
    run.add_argument(
        "--no-traffic",
        dest="traffic",
        action="store_false",
        help="answer no questions about traffic (ClientTrafficQuery), and do not look for any",
    )
    run.add_argument(
        "--policies",
        action="store_true",
        help="make, change and lift limits as ClientBandwidthPolicies say; without it each of them is told so",
    )
    arguments.add_logs(run)

    summary = "have every node remove what is ours, before the end of an installation"
    retire = top.program("retire", summary, help_texts.RETIRE, help_texts.RETIRE_EPILOG)
    arguments.add_kubeconfig(retire)
    _add_timeout(retire, RETIRE_SECONDS, "how long to wait for the nodes")
    retire.add_argument(
        "--stand-by",
        dest="stand_by_seconds",
        type=_STAND_BY,
        default=RETIRED_SECONDS,
        metavar="SECONDS",
        help="for so long afterwards no operator acts (default: %(default)d)",
    )
    retire.add_argument(
        "--accept-missing", action="store_true", help="name the nodes that cannot be reached, and succeed nevertheless"
    )
    retire.add_argument(
        "--hook-of",
        choices=[tool.value for tool in Tool],
        help="retire only if this manages the installation, because it runs this when it is told to remove it",
    )

    check = top.program(
        "check", "whether the installation works, end to end", help_texts.CHECK, help_texts.CHECK_EPILOG
    )
    arguments.add_kubeconfig(check)
    _add_timeout(check, CHECK_SECONDS, "how long to wait for it")
    check.add_argument(
        "--daemonset",
        metavar="NAME",
        help="that of the agents, in the namespace of the operator: how many nodes should report",
    )

    clean = top.program(
        "clean", "end with one node that no agent runs on any more", help_texts.CLEAN, help_texts.CLEAN_EPILOG
    )
    clean.add_argument("node", metavar="NODE", help="name of the node")
    arguments.add_kubeconfig(clean)
    clean.add_argument(
        "--daemonset",
        metavar="NAME",
        default="client-bandwidth-agent",
        help="that of the agents, in the namespace of the operator (default: %(default)s)",
    )
    return top.parser


def _add_timeout(program: argparse.ArgumentParser, seconds: float, text: str) -> None:
    program.add_argument(
        "--timeout",
        dest="timeout_seconds",
        type=_SECONDS,
        default=seconds,
        metavar="SECONDS",
        help=f"{text} (default: %(default)g)",
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run the sub-command that the command line names; return its exit code."""
    streams.prepare()
    given = vars(parser().parse_args(words))
    command = given.pop("command")
    chosen = Options(
        namespace=os.environ.get("POD_NAMESPACE") or DEFAULTS.namespace,
        pod_name=os.environ.get("POD_NAME") or os.uname().nodename,
        guard_rails=os.environ.get("GUARD_RAILS", ""),
        **given,
    )
    if command == "run":
        # First of all: loading the rest takes a second, and a kubeconfig's program as long as it likes.
        signals.outlive()
    # structlog would load rich, if it is installed, for colors in tracebacks that are printed without.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    program = importlib.import_module(f"bandwidth_operator.commands.{command}")
    try:
        code: int = program.main(chosen)
    except NoConnectionError as error:
        result.complain(f"bandwidth-operator: {error}")
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
