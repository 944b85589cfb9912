"""The command line of the operator: its options, and a help that teaches. Owns the exit code of a wrong call."""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from bandwidth_operator import settings

USAGE_ERROR = 64  # EX_USAGE of sysexits.h
CHECK_SECONDS = 60.0  # for an installation to work

_DESCRIPTION = """\
Turns ClientBandwidthLimit objects into the plan that the agents on the nodes enforce, and writes into the status of
each limit what became of it."""

_EPILOG = """\
A first limit:

  kubectl apply -f - <<EOF
  apiVersion: clientbandwidth.io/v1alpha1
  kind: ClientBandwidthLimit
  metadata: {name: mail-loop}
  spec:
    clients: [203.0.113.7]
    egress: {rate: 5Mbit}
    ttlSeconds: 86400
    reason: "mailbox sync loop, ticket 4711"
  EOF

  kubectl get cbl                        is it in force, and on how many nodes
  kubectl describe cbl mail-loop         why not, and what to do
  kubectl get nodebandwidthstates        which node is behind, and why

Every program explains itself: bandwidth-operator run --help"""

_RUN = """\
Runs the operator. Any number of replicas may run; one acts, holding the Lease client-bandwidth-operator in its
namespace, and another takes over within 20 seconds. Stopping it changes nothing on the nodes: limits stay in force,
and expire by themselves. It changes nothing of your objects but the status of limits."""

_RUN_EPILOG = """\
environment:
  POD_NAMESPACE  namespace of the Lease (default: client-bandwidth)
  POD_NAME       begins this replica's name in the Lease (default: the host's name)
  KUBECONFIG     used outside a cluster when --kubeconfig is not given

examples:
  bandwidth-operator run                                            in a pod
  bandwidth-operator run --kubeconfig ~/.kube/config --log-format text --metrics-address 127.0.0.1:8080
  curl -s localhost:8080/readyz                                     acting, standing by, or what is wrong

needs the kinds of objects, access rules and policies of deploy/install.yaml or of the chart

exit codes:
  0   stopped by a signal
  1   it cannot run here; the message says why
  64  wrong call"""


_RETIRE = """\
Has every node remove what is ours from its kernel, waits until each has reported it, and takes the plan away. For the
end of an installation: `helm uninstall` runs it first. Limits themselves stay in the cluster, and say Retired.

It takes the operator's Lease, so that no replica publishes a plan meanwhile and for --stand-by afterwards. Agents that
have retired do nothing more until they are started anew. If it fails, the operator goes on after that time."""

_RETIRE_EPILOG = """\
examples:
  kubectl -n client-bandwidth exec deploy/client-bandwidth-operator -- bandwidth-operator retire
  bandwidth-operator retire --timeout 600 --kubeconfig ~/.kube/config

exit codes:
  0   every node has retired, or every one that could be reached with --accept-missing
  1   some have not; they are named, with what is known of them
  64  wrong call"""


_CHECK = """\
Whether this installation works: the kinds of objects are there, an operator acts, every node has brought its kernel to
the plan. Waits until all that is so; what is not is said on stderr. Writes nothing. `helm test` runs it."""

_CHECK_EPILOG = """\
examples:
  kubectl -n client-bandwidth exec deploy/client-bandwidth-operator -- bandwidth-operator check
  bandwidth-operator check --timeout 1 --kubeconfig ~/.kube/config

exit codes:
  0   all of it; limits that are not in force somewhere are named nevertheless
  1   something is not so; it is named
  64  wrong call"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    raw = argparse.RawDescriptionHelpFormatter
    top = _Parser(
        prog="bandwidth-operator", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw, allow_abbrev=False
    )
    programs = top.add_subparsers(dest="command", metavar="PROGRAM", required=True, parser_class=_Parser)
    run = programs.add_parser(
        "run", help="run the operator", description=_RUN, epilog=_RUN_EPILOG, formatter_class=raw, allow_abbrev=False
    )
    _add_kubeconfig(run)
    run.add_argument(
        "--metrics-address",
        type=_address,
        metavar="HOST:PORT",
        help="serve /metrics, /healthz and /readyz there, for example :8080 (default: serve nothing)",
    )
    run.add_argument(
        "--writes-per-second",
        type=_rate,
        default=settings.DEFAULTS.writes_per_second,
        metavar="N",
        help="at most so many writes to the API server on average, of all kinds together (default: %(default)g)",
    )
    run.add_argument("--log-format", choices=("auto", "text", "json"), default="auto", help="auto: text on a terminal")
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    retire = programs.add_parser(
        "retire",
        help="have every node remove what is ours, before the end of an installation",
        description=_RETIRE,
        epilog=_RETIRE_EPILOG,
        formatter_class=raw,
        allow_abbrev=False,
    )
    _add_kubeconfig(retire)
    retire.add_argument(
        "--timeout",
        type=_seconds,
        default=settings.RETIRE_SECONDS,
        metavar="SECONDS",
        help="how long to wait for the nodes (default: %(default)g)",
    )
    retire.add_argument(
        "--stand-by",
        type=_stand_by,
        default=settings.RETIRED_SECONDS,
        metavar="SECONDS",
        help="for so long afterwards no operator acts (default: %(default)d)",
    )
    retire.add_argument(
        "--accept-missing", action="store_true", help="name the nodes that cannot be reached, and succeed nevertheless"
    )
    check = programs.add_parser(
        "check",
        help="whether the installation works, end to end",
        description=_CHECK,
        epilog=_CHECK_EPILOG,
        formatter_class=raw,
        allow_abbrev=False,
    )
    _add_kubeconfig(check)
    check.add_argument(
        "--timeout",
        type=_seconds,
        default=CHECK_SECONDS,
        metavar="SECONDS",
        help="how long to wait for it (default: %(default)g)",
    )
    check.add_argument(
        "--daemonset",
        metavar="NAME",
        help="that of the agents, in the namespace of the operator: how many nodes should report",
    )
    return top


def _add_kubeconfig(program: argparse.ArgumentParser) -> None:
    program.add_argument(
        "--kubeconfig",
        type=pathlib.Path,
        metavar="FILE",
        help="how to reach the API server (default: the pod's service account, else KUBECONFIG)",
    )


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, [IPV6]:PORT or :PORT")
    return host.strip("[]"), int(port)


def _rate(text: str) -> float:
    return _between(text, 1, 10_000, "number of writes per second")


def _seconds(text: str) -> float:
    return _between(text, 1, 86_400, "number of seconds")


def _between(text: str, least: int, most: int, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no {what} between {least} and {most}")
    return value


def _stand_by(text: str) -> int:
    if not text.isdecimal() or not 10 <= int(text) <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of seconds between 10 and 3600")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run what it names; returns the exit code."""
    given = parser().parse_args(arguments)
    chosen = settings.Settings(
        kubeconfig=given.kubeconfig,
        namespace=os.environ.get("POD_NAMESPACE") or settings.DEFAULTS.namespace,
    )
    if given.command == "retire":
        from bandwidth_operator import retire

        return retire.run(
            chosen,
            timeout_seconds=given.timeout,
            stand_by_seconds=given.stand_by,
            accept_missing=given.accept_missing,
        )
    if given.command == "check":
        from bandwidth_operator import check

        return check.run(chosen, timeout_seconds=given.timeout, daemonset=given.daemonset)
    chosen = dataclasses.replace(
        chosen,
        pod_name=os.environ.get("POD_NAME") or os.uname().nodename,
        address=given.metrics_address,
        writes_per_second=given.writes_per_second,
        log_format=given.log_format,
        log_level=given.log_level,
    )
    from bandwidth_operator import run

    return run.run(chosen)


if __name__ == "__main__":
    sys.exit(main())
