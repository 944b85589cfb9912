"""What a program was asked to do, parsed and checked.

Owns the text forms of all options. Never prints and never exits: a value that cannot be used is argparse's error.
"""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import pathlib
import socket
from collections.abc import Mapping
from typing import Literal, NamedTuple

from bandwidth_agent import settings

STATE_DIR = pathlib.Path("/var/lib/client-bandwidth")
HOSTNAME_LABEL = "kubernetes.io/hostname"
MASK_BITS_MIN = 4  # room for 15 limits; names.CLASS_MAX needs 15 bits
METRICS_MAX_LIMITS = 1000
REPORT_INTERVAL_SECONDS = 300
IPTABLES_BACKENDS = ("auto", "nft", "legacy")
DEFAULTS = settings.Settings()


class Address(NamedTuple):
    host: str  # "" for every address
    port: int


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """Every option of every program; those that a program does not have keep their defaults."""

    command: str
    settings: settings.Settings
    manifests: pathlib.Path | None = None  # None: the limits come from a cluster
    kubeconfig: pathlib.Path | None = None  # None: the pod's own account, then KUBECONFIG
    node_name: str = ""
    report_interval_seconds: int = REPORT_INTERVAL_SECONDS
    state_dir: pathlib.Path = STATE_DIR
    node_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    iptables_backend: Literal["auto", "nft", "legacy"] = "auto"
    once: bool = False
    json: bool = False
    exit_code: bool = False
    resync_seconds: float | None = None  # None: by what a reading costs
    metrics_address: Address | None = None
    metrics_max_limits: int = METRICS_MAX_LIMITS
    log_format: str = "auto"
    log_level: str = "info"
    watch: bool = False
    interval_seconds: float = 1.0


def parsed(namespace: argparse.Namespace) -> Options:
    """The options from what argparse made of the command line; absent ones keep their defaults."""
    given = vars(namespace)
    chosen = settings.Settings(
        placement=settings.PlacementSetting(given.get("placement", "auto")),
        classifier=settings.ClassifierSetting(given.get("classifier", "auto")),
        interfaces=tuple(given.get("interface") or ()),
        mark_mask=given.get("mark_mask", DEFAULTS.mark_mask),
        redirect_mark=given.get("redirect_mark", DEFAULTS.redirect_mark),
        protected=tuple(given.get("protected") or ()),
    )
    fields = {field.name for field in dataclasses.fields(Options)} - {"settings", "json", "node_labels"}
    labels = {HOSTNAME_LABEL: socket.gethostname()} | dict(given.get("node_label") or ())
    return Options(
        settings=chosen,
        json=given.get("output") == "json",
        node_labels=labels,
        **{name: value for name, value in given.items() if name in fields},
    )


def mark_mask(text: str) -> int:
    """A contiguous mask of the packet mark with room for every class number."""
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
    """One bit of the packet mark."""
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
    """An address or a network in canonical form, without host bits."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no address or CIDR: {error}") from None


def label(text: str) -> tuple[str, str]:
    """A node label, KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def address(text: str) -> Address:
    """Where to listen: HOST:PORT, [IPV6]:PORT or :PORT."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, [IPV6]:PORT or :PORT")
    return Address(host.strip("[]"), int(port))


def seconds(text: str) -> float:
    """A positive number of seconds, at most a day."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds between 0.1 and 86400")
    return value


def interval(text: str) -> int:
    """A whole number of seconds, at most a day."""
    if not text.isdecimal() or not 1 <= int(text) <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of seconds between 1 and 86400")
    return int(text)


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)
