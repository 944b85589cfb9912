"""The command line: what each program is called with, and what its --help teaches.

Owns the options, the help texts and the exit code of a wrong call (64, so that `plan --exit-code`, whose 2 means
"changes", cannot be misread). What the programs do is in `commands`, imported only when one is run.
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

from bandwidth_agent.commands import host, options, output

USAGE_ERROR = 64  # EX_USAGE of sysexits.h

_DESCRIPTION = """\
Slows single clients down instead of blocking them.

You write who, how fast and until when into a YAML file; the agent keeps this host's kernel (HTB classes, one ipset
and one iptables rule per address family) exactly so, touches nothing of anybody else, and tells the truth about it."""

_EPILOG = """\
A first limit, in /etc/client-bandwidth/mail-loop.yaml:

  apiVersion: clientbandwidth.io/v1alpha1
  kind: ClientBandwidthLimit
  metadata:
    name: mail-loop
  spec:
    clients: [203.0.113.7, "2001:db8:7::/48"]
    egress:
      rate: 5Mbit
    ttlSeconds: 86400
    reason: "mailbox sync loop, ticket 4711"

  bandwidth-agent plan    --manifests /etc/client-bandwidth    see what would be done
  bandwidth-agent run     --manifests /etc/client-bandwidth    do it, and follow every change of the files
  bandwidth-agent show                                         what is in force, and how fast each client is now
  bandwidth-agent cleanup                                      take everything away again

Every program explains itself: bandwidth-agent run --help"""

_RUN = """\
Puts limits in force on this host and keeps them so: a changed limit within a second, whatever another program does to
our rules at once, expired limits by the clock.

With --manifests the limits come from the files of a directory; to lift one delete its file. Without, this host is a
node of a cluster: the limits come from its API server, and what became of them goes into this node's
NodeBandwidthState. The last plan is kept on disk, and used from the start on when the API server is away.

Stopping it (SIGTERM, SIGINT, even SIGKILL) leaves the limits in force; the next start adopts them unchanged.
To take everything away run `bandwidth-agent cleanup`."""

_RUN_EPILOG = """\
examples:
  bandwidth-agent run --manifests /etc/client-bandwidth
  bandwidth-agent run --manifests DIR --interface 'eth*' --interface wg0
  bandwidth-agent run --manifests DIR --once -o json | jq .failing
  bandwidth-agent run --manifests DIR --metrics-address 127.0.0.1:9100
  bandwidth-agent run --metrics-address :9100                      in a pod, with NODE_NAME in its environment
  bandwidth-agent run --kubeconfig FILE --node-name worker-3       as a service of the host

exit codes:
  0   stopped by a signal; with --once: every limit is in force
  1   it cannot run here (the message says why); with --once: also when a limit is not in force, or the cluster
      could not be read or told
  64  wrong call"""

_PLAN = """\
Prints what `run` would change in this host's kernel, in the order in which it would be done, and changes nothing."""

_PLAN_EPILOG = """\
examples:
  bandwidth-agent plan --manifests DIR
  bandwidth-agent plan --manifests DIR --exit-code >/dev/null || echo 'differs'
  bandwidth-agent plan --manifests DIR -o json | jq -r '.steps[].lines[]'

exit codes:
  0   the plan was made; with --exit-code: and there is nothing to change
  1   no plan could be made
  2   with --exit-code: there are changes
  64  wrong call"""

_SHOW = """\
Prints what is in this host's kernel now, by limit: client, rate, the rate measured just now, drops, backlog.

Needs no running agent and no manifests: it reads the kernel only, twice, --interval apart."""

_SHOW_EPILOG = """\
examples:
  bandwidth-agent show
  bandwidth-agent show --watch
  bandwidth-agent show --interval 5 -o json | jq '.limits[] | select(.backlogBytes > 0)'

exit codes:
  0   printed, even when there is nothing of ours
  1   the kernel could not be read
  64  wrong call"""

_CLEANUP = """\
Removes everything of ours from this host's kernel, and with it every limit; the original root qdiscs come back.
Everything of anybody else stays as it is. Refuses while an agent runs here: it would put all of it back."""

_CLEANUP_EPILOG = """\
examples:
  systemctl stop bandwidth-agent && bandwidth-agent cleanup

exit codes:
  0   nothing of ours is left, or nothing was there
  1   something could not be removed, or an agent is running
  64  wrong call"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="bandwidth-agent",
        description=_DESCRIPTION,
        epilog=_EPILOG,
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

    run = program("run", "put limits in force and keep them so", _RUN, _RUN_EPILOG)
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

    plan = program("plan", "print the changes that run would make, make none", _PLAN, _PLAN_EPILOG)
    _manifests(plan, required=True)
    plan.add_argument("--exit-code", action="store_true", help="exit 2 when there are changes, 0 when there are none")
    _output(plan, "form of the plan")
    _shaping(plan)
    _host(plan)
    _logs(plan)

    show = program("show", "what is in the kernel now, by limit", _SHOW, _SHOW_EPILOG)
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

    cleanup = program("cleanup", "remove all that is ours from the kernel", _CLEANUP, _CLEANUP_EPILOG)
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
    except BrokenPipeError:
        # Who read our output has seen enough (`| head`); the interpreter must not complain while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return host.FAILED
    except output.UnwritableError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still in the buffer goes nowhere
        return host.fail(str(error))
    return code
