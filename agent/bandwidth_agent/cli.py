"""The command line: what each program is called with.

Owns the options and the exit code of a wrong call (64, so that `plan --exit-code`, whose 2 means "changes", cannot be
misread). What the programs do is in `commands`, imported only when one is run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from bandwidth_agent.commands import help_texts, host, options, output

USAGE_ERROR = 64  # EX_USAGE of sysexits.h


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="bandwidth-agent",
        description=help_texts.DESCRIPTION,
        epilog=help_texts.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    programs = top.add_subparsers(dest="command", metavar="PROGRAM", required=True, parser_class=_Parser)

    def program(name: str, summary: str, description: str, epilog: str) -> argparse.ArgumentParser:
        return programs.add_parser(
            name,
            help=summary,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    run = program("run", "put limits in force and keep them so", help_texts.RUN, help_texts.RUN_EPILOG)
    _manifests(run, required=False)
    _cluster(run)
    run.add_argument("--once", action="store_true", help="make one pass, print the report, and exit")
    _output(run, "form of the report that --once prints")
    _shaping(run)
    _host(run)
    run.add_argument(
        "--resync",
        dest="resync_seconds",
        type=options.seconds,
        metavar="SECONDS",
        help="read everything back from the kernel this often, events or not (default: every 10 s to 2 min, by what "
        "a reading costs)",
    )
    _metrics(run)
    _logs(run)

    plan = program("plan", "print the changes that run would make, make none", help_texts.PLAN, help_texts.PLAN_EPILOG)
    _manifests(plan, required=True)
    plan.add_argument("--exit-code", action="store_true", help="exit 2 when there are changes, 0 when there are none")
    _output(plan, "form of the plan")
    _shaping(plan)
    _host(plan)
    _logs(plan)

    show = program("show", "what is in the kernel now, by limit", help_texts.SHOW, help_texts.SHOW_EPILOG)
    _output(show, "form of the output")
    show.add_argument("--watch", action="store_true", help="print again every --interval until interrupted")
    show.add_argument(
        "--interval",
        dest="interval_seconds",
        type=options.seconds,
        default=1.0,
        metavar="SECONDS",
        help="time between the two readings that the measured rate comes from (default: %(default)g)",
    )
    _shaping(show)
    _host(show)
    _logs(show)

    cleanup = program("cleanup", "remove all of ours from the kernel", help_texts.CLEANUP, help_texts.CLEANUP_EPILOG)
    _output(cleanup, "form of the output")
    _shaping(cleanup)
    _host(cleanup)
    _logs(cleanup)
    return top


def _manifests(program: argparse.ArgumentParser, *, required: bool) -> None:
    program.add_argument(
        "--manifests",
        type=pathlib.Path,
        required=required,
        metavar="DIR",
        help="directory with the limits: every *.yaml, *.yml and *.json in it "
        + ("(required)" if required else "(default: the limits come from the cluster)"),
    )


def _cluster(program: argparse.ArgumentParser) -> None:
    group = program.add_argument_group("cluster, without --manifests")
    group.add_argument(
        "--kubeconfig",
        type=pathlib.Path,
        metavar="FILE",
        help="how to reach the API server (default: the service account of the pod, then the file in KUBECONFIG)",
    )
    group.add_argument(
        "--node-name",
        default=os.environ.get("NODE_NAME", ""),
        metavar="NAME",
        help="the Node that this host is (default: the environment variable NODE_NAME)",
    )
    group.add_argument(
        "--report-interval",
        dest="report_interval_seconds",
        type=options.interval,
        default=options.REPORT_INTERVAL_SECONDS,
        metavar="SECONDS",
        help="report this node's state at least this often, changed or not (default: %(default)s)",
    )


def _output(program: argparse.ArgumentParser, what: str) -> None:
    program.add_argument("-o", "--output", choices=("text", "json"), default="text", help=f"{what} (default: text)")


def _shaping(program: argparse.ArgumentParser) -> None:
    group = program.add_argument_group("how to shape")
    group.add_argument(
        "--interface",
        action="append",
        metavar="GLOB",
        help="shape what leaves through these interfaces, e.g. 'eth*'; repeatable "
        "(default: those that hold a default route)",
    )
    group.add_argument(
        "--placement",
        choices=("auto", "ifb", "interface"),
        default="auto",
        help="where the classes live: on an ifb device beside the interface, whose root qdisc stays as it is, or as "
        "the root of the interface itself; auto takes ifb where it works (default: auto)",
    )
    group.add_argument(
        "--classifier",
        choices=("auto", "mark", "priority"),
        default="auto",
        help="how a packet finds its class: by bits of its mark or by its priority; auto takes mark unless another "
        "rule uses those bits (default: auto)",
    )
    group.add_argument(
        "--mark-mask",
        type=options.mark_mask,
        default=options.DEFAULTS.mark_mask,
        metavar="MASK",
        help="the bits of the packet mark that are ours (default: 0xffff0000)",
    )
    group.add_argument(
        "--redirect-mark",
        type=options.redirect_mark,
        default=options.DEFAULTS.redirect_mark,
        metavar="BIT",
        help="the one mark bit that --classifier priority needs beside an ifb (default: 0x1000)",
    )
    group.add_argument(
        "--protected",
        action="append",
        type=options.cidr,
        metavar="CIDR",
        help="addresses that no limit may touch, beside this host's own, loopback and the gateways; repeatable",
    )
    group.add_argument(
        "--iptables-backend",
        choices=options.IPTABLES_BACKENDS,
        default="auto",
        help="which iptables to write rules with (default: auto, the one that this host uses)",
    )


def _host(program: argparse.ArgumentParser) -> None:
    group = program.add_argument_group("this host")
    group.add_argument(
        "--node-label",
        action="append",
        type=options.label,
        metavar="KEY=VALUE",
        help="a label of this host for the nodeSelector of limits; repeatable "
        f"(always there: {options.HOSTNAME_LABEL}; in a cluster the labels are the Node's)",
    )
    group.add_argument(
        "--state-dir",
        type=pathlib.Path,
        default=options.STATE_DIR,
        metavar="DIR",
        help="where accepted limits, or the plan of the cluster, are remembered over a restart (default: %(default)s)",
    )


def _metrics(program: argparse.ArgumentParser) -> None:
    group = program.add_argument_group("metrics")
    group.add_argument(
        "--metrics-address",
        type=options.address,
        metavar="HOST:PORT",
        help="serve /metrics, /healthz and /readyz there (default: off)",
    )
    group.add_argument(
        "--metrics-max-limits",
        type=options.count,
        default=options.METRICS_MAX_LIMITS,
        metavar="N",
        help="at most so many limits get series of their own (default: %(default)s)",
    )


def _logs(program: argparse.ArgumentParser) -> None:
    group = program.add_argument_group("logs, on stderr")
    group.add_argument(
        "--log-format",
        choices=("auto", "text", "json"),
        default="auto",
        help="auto: text on a terminal, JSON otherwise (default: auto)",
    )
    group.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one program and return its exit code."""
    output.prepare()
    chosen = options.parsed(parser().parse_args(argv))
    # structlog takes rich, where some other package has brought it, to paint tracebacks that we print plainly: 90 ms.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    program = importlib.import_module(f"bandwidth_agent.commands.{chosen.command}")
    try:
        code: int = program.main(chosen)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # who read our output has seen enough (`| head`)
        output.abandon()
        return host.FAILED
    except output.UnwritableError as error:
        output.abandon()
        return host.fail(str(error))
    return code
