"""The command line of bandwidth-agent: its sub-commands and their options.

Owns which sub-command has which options. The sub-commands themselves are in `commands`; each is imported
only when it runs.
"""

from __future__ import annotations

import importlib
import pathlib
import signal
import sys
from collections.abc import Sequence

from bandwidth_agent.commands import help_texts, option_groups, options
from bandwidth_agent.commands.wiring import host, output
from bandwidth_runtime import arguments, result, signals, streams

_MAKE_DO = frozenset({"top", "who"})  # programs that say themselves what cannot be known without a capability
_NO_KERNEL = frozenset({"install-unit"})


def parser() -> arguments.Command:
    """Return the parser of the whole command line."""
    line = arguments.CommandLine("bandwidth-agent", help_texts.DESCRIPTION, help_texts.EPILOG)
    for add in (_run, _plan, _show, _top, _who, _cleanup, _install_unit):
        add(line)
    return line.parser


def _run(line: arguments.CommandLine) -> None:
    run = line.program("run", "put limits in force and keep them so", help_texts.RUN, help_texts.RUN_EPILOG)
    option_groups.manifests(run, required=False)
    option_groups.cluster(run)
    run.add_argument("--once", action="store_true", help="make one pass, print the report, and exit")
    option_groups.output(run, "form of the report that --once prints")
    run.add_argument(
        "--resync",
        dest="resync_seconds",
        type=options.seconds,
        metavar="SECONDS",
        help="read everything back from the kernel this often, events or not (default: every 10 s to 2 min, by what "
        "a reading costs)",
    )
    option_groups.metrics(run)
    option_groups.common(run)


def _plan(line: arguments.CommandLine) -> None:
    plan = line.program(
        "plan", "print the changes that run would make, make none", help_texts.PLAN, help_texts.PLAN_EPILOG
    )
    option_groups.manifests(plan, required=True)
    plan.add_argument("--exit-code", action="store_true", help="exit 2 when there are changes, 0 when there are none")
    option_groups.output(plan, "form of the plan")
    option_groups.common(plan)


def _show(line: arguments.CommandLine) -> None:
    show = line.program("show", "what is in the kernel now, by limit", help_texts.SHOW, help_texts.SHOW_EPILOG)
    option_groups.output(show, "form of the output")
    show.add_argument("--watch", action="store_true", help="print again every --interval until interrupted")
    show.add_argument(
        "--interval",
        dest="interval_seconds",
        type=options.seconds,
        default=1.0,
        metavar="SECONDS",
        help="time between the two readings that the measured rate comes from (default: %(default)g)",
    )
    option_groups.common(show, looks_only=True)


def _top(line: arguments.CommandLine) -> None:
    top = line.program("top", "who gets how much of what leaves this host", help_texts.TOP, help_texts.TOP_EPILOG)
    top.add_argument(
        "--once",
        dest="once_seconds",
        type=options.looking_seconds,
        metavar="SECONDS",
        help="look for so many seconds, print what was seen, and exit; without it there is a screen",
    )
    top.add_argument(
        "-o",
        "--output",
        choices=("text", "json", "csv"),
        default="text",
        help="form of what --once prints (default: text)",
    )
    top.add_argument(
        "--top",
        type=options.rows,
        default=options.TOP,
        metavar="N",
        help="with --once: print at most so many clients; the others are one line (default: %(default)s)",
    )
    top.add_argument(
        "--prefix",
        action="store_true",
        help="networks instead of clients: those that limits name, and else /24 and /64; the key p on the screen",
    )
    top.add_argument(
        "--sort",
        choices=options.SORTS,
        default="10s",
        help="sort by the rate of the last so many seconds, or by the bytes of the whole time; the key s on the screen "
        "(default: 10s)",
    )
    top.add_argument(
        "--manifests",
        "--limits",
        type=pathlib.Path,
        metavar="DIR",
        help="the directory of limits that the agent follows: the keys l, o and y write new limits there "
        "(default: they only show what to do)",
    )
    option_groups.common(top, looks_only=True)


def _who(line: arguments.CommandLine) -> None:
    who = line.program("who", "which limit holds an address, and does it", help_texts.WHO, help_texts.WHO_EPILOG)
    who.add_argument("address", type=options.address, metavar="ADDRESS", help="a client's address, or a network")
    who.add_argument(
        "--port",
        type=options.port,
        metavar="PORT/PROTOCOL",
        help="only what holds packets from this port, as clients dial it, such as 993/tcp (default: of every port)",
    )
    who.add_argument(
        "--seconds",
        type=options.some_seconds,
        default=options.WHO_SECONDS,
        metavar="SECONDS",
        help="how long to look at what leaves for it (default: %(default)g)",
    )
    option_groups.output(who, "form of the answer")
    option_groups.common(who, looks_only=True)


def _cleanup(line: arguments.CommandLine) -> None:
    cleanup = line.program(
        "cleanup", "remove all of ours from the kernel", help_texts.CLEANUP, help_texts.CLEANUP_EPILOG
    )
    option_groups.output(cleanup, "form of the output")
    option_groups.common(cleanup, looks_only=True)


def _install_unit(line: arguments.CommandLine) -> None:
    install = line.program(
        "install-unit",
        "make the agent a service of systemd, or undo it",
        help_texts.INSTALL_UNIT,
        help_texts.INSTALL_UNIT_EPILOG,
    )
    install.add_argument("--uninstall", action="store_true", help="undo it: stop the service and remove its files")
    install.add_argument(
        "--root",
        type=pathlib.Path,
        metavar="DIR",
        help="for packages and images: only write the files, below this directory, units into usr/lib/systemd/system",
    )
    install.add_argument(
        "--program",
        type=pathlib.Path,
        metavar="PATH",
        help="what the unit calls (default: the program that is called now)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sub-command that the arguments name, and return its exit code."""
    streams.prepare()
    line = parser()
    chosen = options.parsed(line.parse_args(argv))
    if chosen.command == "top" and chosen.output != "text" and chosen.once_seconds is None:
        line.fail("top", f"-o {chosen.output} is the form of one reading: give --once SECONDS too")
    # structlog would load rich, if it is installed, for colors in tracebacks that we print without: 90 ms.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    if chosen.command == "run" and not chosen.once:
        signals.outlive()  # before everything else: loading the rest takes a moment
    program = importlib.import_module(f"bandwidth_agent.commands.{chosen.command.replace('-', '_')}")
    from bandwidth_runtime import logs  # with structlog, which --help need not load

    # With --once the report has everything; the log is for what happens over time.
    # So has the screen of `top`.
    quiet = (chosen.once or chosen.command == "top") and chosen.log_level != "debug"
    logs.configure(chosen.log_format, "error" if quiet else chosen.log_level)
    why_not = "" if chosen.command in _MAKE_DO | _NO_KERNEL else host.missing()
    if why_not:
        return host.fail(why_not)
    try:
        code: int = program.main(chosen)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has ended (`| head`)
        result.abandon()
        return host.FAILED
    except output.UnwritableError as error:
        result.abandon()
        return host.fail(str(error))
    return code
