"""The command line of bandwidth-agent: its sub-commands and their options.

Owns the options of the agent alone. The sub-commands themselves are in `commands`; each is imported only when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pathlib
import signal
import sys
from collections.abc import Sequence

from bandwidth_agent import settings
from bandwidth_agent.commands import help_texts, options
from bandwidth_agent.commands.wiring import host, output
from bandwidth_runtime import arguments, result, signals, streams

_MAKE_DO = frozenset({"top", "who"})  # programs that say themselves what cannot be known without a capability


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = arguments.CommandLine("bandwidth-agent", help_texts.DESCRIPTION, help_texts.EPILOG)

    run = top.program("run", "put limits in force and keep them so", help_texts.RUN, help_texts.RUN_EPILOG)
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
    arguments.add_logs(run.add_argument_group("logs, on stderr"))

    plan = top.program(
        "plan", "print the changes that run would make, make none", help_texts.PLAN, help_texts.PLAN_EPILOG
    )
    _manifests(plan, required=True)
    plan.add_argument("--exit-code", action="store_true", help="exit 2 when there are changes, 0 when there are none")
    _output(plan, "form of the plan")
    _shaping(plan)
    _host(plan)
    arguments.add_logs(plan.add_argument_group("logs, on stderr"))

    show = top.program("show", "what is in the kernel now, by limit", help_texts.SHOW, help_texts.SHOW_EPILOG)
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
    _shaping(show, looks_only=True)
    _host(show)
    arguments.add_logs(show.add_argument_group("logs, on stderr"))

    _top(top)

    who = top.program("who", "which limit holds an address, and does it", help_texts.WHO, help_texts.WHO_EPILOG)
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
    _output(who, "form of the answer")
    _shaping(who, looks_only=True)
    _host(who)
    arguments.add_logs(who.add_argument_group("logs, on stderr"))

    cleanup = top.program(
        "cleanup", "remove all of ours from the kernel", help_texts.CLEANUP, help_texts.CLEANUP_EPILOG
    )
    _output(cleanup, "form of the output")
    _shaping(cleanup, looks_only=True)
    _host(cleanup)
    arguments.add_logs(cleanup.add_argument_group("logs, on stderr"))
    return top.parser


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
        help="with --once: print networks, those that limits name and else /24 and /64, instead of clients",
    )
    top.add_argument(
        "--sort",
        choices=options.SORTS,
        default="10s",
        help="with --once: sort by the rate of the last so many seconds, or by the bytes of the whole time "
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
    _shaping(top, looks_only=True)
    _host(top)
    arguments.add_logs(top.add_argument_group("logs, on stderr"))


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
    arguments.add_kubeconfig(group)
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
    group.add_argument(
        "--no-traffic",
        dest="traffic",
        action="store_false",
        help="answer no questions about traffic (ClientTrafficQuery)",
    )


def _output(program: argparse.ArgumentParser, what: str) -> None:
    program.add_argument("-o", "--output", choices=("text", "json"), default="text", help=f"{what} (default: text)")


def _shaping(program: argparse.ArgumentParser, *, looks_only: bool = False) -> None:
    """`looks_only`: the sub-command puts nothing into the kernel, so it may look where programs can be."""
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
        choices=tuple(each.value for each in settings.PlacementSetting),
        default=options.DEFAULTS.placement.value,
        help="where the classes live: on an ifb device beside the interface, whose root qdisc stays as it is, or as "
        "the root of the interface itself; auto takes ifb where it works (default: auto)",
    )
    group.add_argument(
        "--classifier",
        choices=tuple(each.value for each in settings.ClassifierSetting),
        default=options.DEFAULTS.classifier.value,
        help="how a packet finds its class: by bits of its mark, by its priority, or by eBPF programs, which see "
        "packets that netfilter never sees; auto takes mark unless another rule uses those bits, and ebpf where "
        "--bpf-directory permits it and an eBPF datapath is seen (default: auto)",
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
        "--no-failsafe",
        action="store_true",
        help="let limits touch what this host cannot do without: its resolvers (/etc/resolv.conf), and the addresses "
        "of the API server that the agent talks to",
    )
    group.add_argument(
        "--widest",
        type=options.widest,
        default=options.DEFAULTS.widest,
        metavar="IPV4,IPV6",
        help="with --manifests: a limit may hold as many addresses as one network of this length, 0 for any number "
        "(default: 16,32; in a cluster the operator's guard rails count)",
    )
    group.add_argument(
        "--iptables-backend",
        choices=options.IPTABLES_BACKENDS,
        default="auto",
        help="which iptables to write rules with (default: auto, the one that this host uses)",
    )
    group.add_argument(
        "--bpf-directory",
        type=pathlib.Path,
        default=os.environ.get("BPF_DIRECTORY") or (options.BPF_DIRECTORY if looks_only else None),
        metavar="DIR",
        help="a mounted bpf file system, such as /sys/fs/bpf, in which eBPF programs of ours are kept; takes CAP_BPF "
        "(default: the environment variable BPF_DIRECTORY, else "
        + (f"{options.BPF_DIRECTORY})" if looks_only else "none, and no program is loaded)"),
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
    arguments.add_metrics_address(group, port=9732)
    group.add_argument(
        "--metrics-max-limits",
        type=options.count,
        default=options.METRICS_MAX_LIMITS,
        metavar="N",
        help="at most so many limits get series of their own (default: %(default)s)",
    )
    group.add_argument(
        "--metrics-top-clients",
        type=options.top_clients,
        default=os.environ.get("METRICS_TOP_CLIENTS", "0"),
        metavar="N",
        help="give the N networks (/24 and /64) series that are sent most, sampled while somebody scrapes; at most "
        f"{options.METRICS_TOP_CLIENTS_MAX} (default: the environment variable METRICS_TOP_CLIENTS, else 0, off)",
    )
    group.add_argument(
        "--metrics-top-clients-whole",
        action="store_true",
        default=os.environ.get("METRICS_TOP_CLIENTS_WHOLE", "") in ("1", "true"),
        help="with --metrics-top-clients: whole addresses instead of networks; they are personal data",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sub-command that the arguments name, and return its exit code."""
    streams.prepare()
    line = parser()
    chosen = options.parsed(line.parse_args(argv))
    if chosen.command == "top" and chosen.output != "text" and chosen.once_seconds is None:
        line.error(f"-o {chosen.output} is the form of one reading: give --once SECONDS too")
    # structlog would load rich, if it is installed, for colors in tracebacks that we print without: 90 ms.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    if chosen.command == "run" and not chosen.once:
        signals.outlive()  # before everything else: loading the rest takes a moment
    program = importlib.import_module(f"bandwidth_agent.commands.{chosen.command}")
    from bandwidth_runtime import logs  # with structlog, which --help need not load

    # With --once the report has everything; the log is for what happens over time.
    # So has the screen of `top`.
    quiet = (chosen.once or chosen.command == "top") and chosen.log_level != "debug"
    logs.configure(chosen.log_format, "error" if quiet else chosen.log_level)
    why_not = "" if chosen.command in _MAKE_DO else host.missing()
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
