"""The options that several sub-commands have, in the groups in which --help shows them.

Owns their names, defaults and texts; what their values may be is in `options`.
"""

from __future__ import annotations

import argparse
import os
import pathlib

from bandwidth_agent import settings
from bandwidth_agent.commands import options
from bandwidth_runtime import arguments


def common(program: argparse.ArgumentParser, *, looks_only: bool = False) -> None:
    """What every sub-command has, because it reads or writes this host's kernel and may log.

    `looks_only`: it puts nothing into the kernel, so it may look for programs where they usually are.
    """
    shaping(program, looks_only=looks_only)
    host(program)
    arguments.add_logs(program.add_argument_group("logs, on stderr"))


def manifests(program: argparse.ArgumentParser, *, required: bool) -> None:
    """The directory of the limits."""
    program.add_argument(
        "--manifests",
        type=pathlib.Path,
        required=required,
        metavar="DIR",
        help="directory with the limits: every *.yaml, *.yml and *.json in it "
        + ("(required)" if required else "(default: the limits come from the cluster)"),
    )


def cluster(program: argparse.ArgumentParser) -> None:
    """The cluster whose plan is followed, and what its node reports."""
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


def output(program: argparse.ArgumentParser, what: str) -> None:
    """The form of what is printed; `what` is it in the words of the help."""
    program.add_argument("-o", "--output", choices=("text", "json"), default="text", help=f"{what} (default: text)")


def shaping(program: argparse.ArgumentParser, *, looks_only: bool) -> None:
    """How this host's packets are slowed: alike for all that read or write its kernel."""
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


def host(program: argparse.ArgumentParser) -> None:
    """What this host is, and where its agent keeps what it knows."""
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


def metrics(program: argparse.ArgumentParser) -> None:
    """Which metrics are served, and where."""
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
    group.add_argument(
        "--uplink-capacity",
        action="append",
        type=options.uplink_capacity,
        metavar="GLOB=RATE",
        help="what interfaces can carry, e.g. 'eth0=1Gbit', where their devices say nothing or what is not so (a "
        "virtual machine); repeatable, the first that fits counts (default: what the device says, if it has a wire)",
    )
