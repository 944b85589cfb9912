"""The options of a sub-command as checked values, and the parsers of their texts.

Owns the text forms of all options. Never prints and never exits: a wrong value is argparse's error.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import ipaddress
import pathlib
import socket
from collections.abc import Mapping, Sequence
from typing import Literal

from bandwidth_agent import settings
from bandwidth_api import addresses, plan, units
from bandwidth_api.compiler import width
from bandwidth_runtime import arguments
from bandwidth_runtime.web.address import Address

BPF_DIRECTORY = pathlib.Path("/sys/fs/bpf")
STATE_DIR = pathlib.Path("/var/lib/client-bandwidth")
HOSTNAME_LABEL = "kubernetes.io/hostname"
MASK_BITS_MIN = 4  # room for 15 limits; names.CLASS_MAX needs 15 bits
METRICS_MAX_LIMITS = 1000
METRICS_TOP_CLIENTS_MAX = 10
REPORT_INTERVAL_SECONDS = 300
WHO_SECONDS = 3.0
TOP = 20
TOP_MAX = 1000
SORTS = ("2s", "10s", "60s", "since")
IPTABLES_BACKENDS = ("auto", "nft", "legacy")
DEFAULTS = settings.Settings()


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """The options of all sub-commands; those that a sub-command does not have keep their defaults."""

    command: str
    settings: settings.Settings
    manifests: pathlib.Path | None = None  # None: the limits come from a cluster
    kubeconfig: pathlib.Path | None = None  # None: the pod's own account, then KUBECONFIG
    node_name: str = ""
    report_interval_seconds: int = REPORT_INTERVAL_SECONDS
    state_dir: pathlib.Path = STATE_DIR
    node_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    iptables_backend: Literal["auto", "nft", "legacy"] = "auto"
    bpf_directory: pathlib.Path | None = None  # None: no program is loaded
    once: bool = False
    json: bool = False
    exit_code: bool = False
    resync_seconds: float | None = None  # None: by what a reading costs
    metrics_address: Address | None = None
    metrics_max_limits: int = METRICS_MAX_LIMITS
    metrics_top_clients: int = 0
    metrics_top_clients_whole: bool = False
    uplink_capacity: Sequence[tuple[str, int]] = ()  # (glob of interfaces, bits per second); the first that fits counts
    traffic: bool = True  # answer questions about traffic
    log_format: str = "auto"
    log_level: str = "info"
    watch: bool = False
    interval_seconds: float = 1.0
    address: plan.Prefix | None = None
    port: plan.PortRange | None = None
    seconds: float = WHO_SECONDS
    output: str = "text"
    once_seconds: float | None = None
    top: int = TOP
    prefix: bool = False
    sort: str = "10s"
    uninstall: bool = False
    root: pathlib.Path | None = None  # None: this host
    program: pathlib.Path | None = None  # None: the one that runs


def parsed(namespace: argparse.Namespace) -> Options:
    """Return the options from the result of argparse; absent ones keep their defaults."""
    given = vars(namespace)
    chosen = settings.Settings(
        placement=settings.PlacementSetting(given.get("placement", "auto")),
        classifier=settings.ClassifierSetting(given.get("classifier", "auto")),
        interfaces=tuple(given.get("interface") or ()),
        mark_mask=given.get("mark_mask", DEFAULTS.mark_mask),
        redirect_mark=given.get("redirect_mark", DEFAULTS.redirect_mark),
        protected=tuple(given.get("protected") or ()),
        failsafe=not given.get("no_failsafe", False),
        widest=given.get("widest", DEFAULTS.widest),
    )
    fields = {field.name for field in dataclasses.fields(Options)} - {"settings", "json", "node_labels"}
    given["uplink_capacity"] = tuple(given.get("uplink_capacity") or ())
    labels = {HOSTNAME_LABEL: socket.gethostname()} | dict(given.get("node_label") or ())
    return Options(
        settings=chosen,
        json=given.get("output") == "json",
        node_labels=labels,
        **{name: value for name, value in given.items() if name in fields},
    )


def mark_mask(text: str) -> int:
    """Parse a contiguous 32-bit mask of the packet mark, of MASK_BITS_MIN bits or more."""
    value = _integer(text)
    low = value & -value
    if not 0 < value <= 0xFFFFFFFF or (value // low) & (value // low + 1):
        raise argparse.ArgumentTypeError(f"{text!r} is no contiguous 32-bit mask such as 0xffff0000")
    if value.bit_count() < MASK_BITS_MIN:
        raise argparse.ArgumentTypeError(
            f"{text!r} has {value.bit_count()} bits; at least {MASK_BITS_MIN} are needed, 15 for all class numbers "
            "(where so many are not free, use --classifier priority)"
        )
    return value


def redirect_mark(text: str) -> int:
    """Parse a mask of one single bit of the packet mark."""
    value = _integer(text)
    if not 0 < value <= 0xFFFFFFFF or value.bit_count() != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a single bit of the mark such as 0x1000")
    return value


def _integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number (0x… for hexadecimal)") from None


def cidr(text: str) -> str:
    """Parse an address or a network without host bits; return it in canonical form."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no address or CIDR: {error}") from None


def widest(text: str) -> width.Widest:
    """Parse how many addresses a limit may hold, as two prefix lengths: IPV4,IPV6."""
    lengths = text.split(",")
    if len(lengths) != 2 or not all(length.isdecimal() for length in lengths):
        raise argparse.ArgumentTypeError(f"{text!r} is not IPV4,IPV6, two lengths of networks such as 16,32")
    ipv4, ipv6 = map(int, lengths)
    if ipv4 > 32 or ipv6 > 128:
        raise argparse.ArgumentTypeError(f"{text!r}: no network is longer than /32 for IPv4 or /128 for IPv6")
    return width.Widest(ipv4, ipv6)


def label(text: str) -> tuple[str, str]:
    """Parse a node label, KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def seconds(text: str) -> float:
    """Parse a number of seconds, from 0.1 to a day."""
    return arguments.number(text, least=0.1, most=86400, what="number of seconds")


def top_clients(text: str) -> int:
    """Parse a number of clients that get series of their own, from 0 to METRICS_TOP_CLIENTS_MAX."""
    return arguments.whole_number(text, least=0, most=METRICS_TOP_CLIENTS_MAX, what="number of clients")


def uplink_capacity(text: str) -> tuple[str, int]:
    """Parse how much interfaces can carry, GLOB=RATE; return the glob and bits per second."""
    glob, equals, rate = text.partition("=")
    if not glob or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not GLOB=RATE such as eth0=1Gbit")
    try:
        return glob, units.parse_rate(rate)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def some_seconds(text: str) -> float:
    """Parse a number of seconds, from 0.1 to a minute."""
    return arguments.number(text, least=0.1, most=60, what="number of seconds")


def address(text: str) -> plan.Prefix:
    """Parse an address or a network in any unambiguous form; host bits are cleared, brackets of IPv6 left out."""
    written = text.strip()
    if written.startswith("[") and written.endswith("]"):
        written = written[1:-1]
    try:
        with contextlib.suppress(ValueError):
            return addresses.network(written)
        return addresses.parse(written)  # says what is probably meant
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def port(text: str) -> plan.PortRange:
    """Parse a port as clients dial it, with its protocol: 993/tcp, 53/udp; a bare number is of TCP."""
    number, _, protocol = text.partition("/")
    name = protocol.upper() or "TCP"
    if name not in ("TCP", "UDP") or not (number.isascii() and number.isdecimal() and 1 <= int(number) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port such as 993/tcp or 53/udp")
    return plan.PortRange(name, int(number), int(number))


def interval(text: str) -> int:
    """Parse a whole number of seconds, from 1 to a day."""
    return arguments.whole_number(text, least=1, most=86400, what="whole number of seconds")


def looking_seconds(text: str) -> float:
    """Parse for how long to look, from a second to an hour."""
    return arguments.number(text, least=1, most=3600, what="number of seconds")


def rows(text: str) -> int:
    """Parse how many rows to print, from 1 to TOP_MAX."""
    return arguments.whole_number(text, least=1, most=TOP_MAX, what="number of rows")


def count(text: str) -> int:
    """Parse a whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)
