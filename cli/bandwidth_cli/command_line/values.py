"""The values that are typed: clients, rates, durations, ports, names, reasons. Pure.

Each is checked before anything is asked. Errors are ValueErrors whose message names the right
form. The bounds are those of the CRD.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bandwidth_api import address_text, addresses, units
from bandwidth_api.plan import PortRange, Prefix
from bandwidth_sight import draft, durations

FOREVER = "forever"
NAME_MAX = 253
PORTS_MAX = 7
PRIORITY_MAX = 1000
CLIENTS_MAX = 64
NODES_MAX = 64
ROWS_MAX = 50

# Names that people type for ports. Not taken: a service may have two, and a limit that leaves one out slows nobody who
# uses the other.
_SERVICES = {
    "imap": "143, and 993 with TLS from the start (--ports 143,993)",
    "imaps": "993",
    "pop3": "110, and 995 with TLS from the start (--ports 110,995)",
    "pop3s": "995",
    "smtp": "25, and 587 and 465 for submission (--ports 25,465,587)",
    "smtps": "465",
    "submission": "587",
    "submissions": "465",
    "http": "80, and 443 with TLS (--ports 80,443)",
    "https": "443, and 443/udp for HTTP/3 (--ports 443,443/udp)",
    "quic": "443/udp",
    "dns": "53,53/udp",
    "domain": "53,53/udp",
    "ssh": "22",
    "sftp": "22",
    "ftp": "21, and those of its data connections",
    "rsync": "873",
    "ldap": "389, and 636 with TLS (--ports 389,636)",
    "ldaps": "636",
    "nfs": "2049",
    "smb": "445",
    "mysql": "3306",
    "postgres": "5432",
    "postgresql": "5432",
    "redis": "6379",
    "tcp": "for example 993",
    "udp": "for example 53/udp",
}

Reader = Callable[[str], Any]

_LIMIT_KINDS = ("clientbandwidthlimit.clientbandwidth.io", "clientbandwidthlimits", "clientbandwidthlimit", "cbl")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PORT = re.compile(r"(?i)(?:(tcp|udp):)?([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp))?")


def client(text: str) -> Prefix:
    """Return a client that a limit may name; an address may be in any form, a network must have no host bits."""
    prefix = address(text)
    return addresses.parse_client(addresses.write(prefix)) and prefix


def address(text: str) -> Prefix:
    """Return any address or network; a bare one may be in any unambiguous form."""
    written = text.strip()
    if written.startswith("[") and written.endswith("]"):
        written = written[1:-1]
    try:
        prefix = addresses.network(written)
    except ValueError:
        return addresses.parse(written)  # says what is probably meant
    read = address_text.read(written)
    if "/" in written and read is not None and read[1] != prefix.network:
        raise ValueError(f"{text!r} has host bits; write {addresses.write(prefix)}, or the address without its length")
    return prefix


def rate(text: str) -> int:
    """Return bits per second; blanks and the case of the unit do not matter."""
    return units.parse_rate(text.strip())


def lasts(text: str) -> int | None:
    """Return how long a limit lasts, in seconds; None: until it is lifted."""
    return None if text.strip().lower() == FOREVER else durations.parse(text)


def reason(text: str) -> str:
    """Return why a limit is made."""
    return draft.checked_reason(text.strip())


def name(text: str) -> str:
    """Return the name of an object."""
    if not _NAME.fullmatch(text) or len(text) > NAME_MAX:
        raise ValueError(
            f"{text[:60]!r} is no object name; write lower-case letters, digits, '-' and '.', beginning and ending"
            " with a letter or digit"
        )
    return text


def bare(text: str) -> str:
    """Return the name of a limit in what `-o name` prints; anything else as it is."""
    kind, slash, name = text.partition("/")
    return name if slash and kind in _LIMIT_KINDS else text


def ports(text: str) -> tuple[PortRange, ...]:
    """Return ports from a list such as `993,8000-8100,53/udp`; without a protocol they are of TCP."""
    found = tuple(_port(part.strip()) for part in text.split(","))
    if len(found) > PORTS_MAX:
        raise ValueError(f"{text!r} has {len(found)} ports or ranges; write at most {PORTS_MAX}")
    return found


def priority(text: str) -> int:
    """Return a priority."""
    if not text.isdecimal() or int(text) > PRIORITY_MAX:
        raise ValueError(f"{text!r} is no priority; write a number from 0 to {PRIORITY_MAX}")
    return int(text)


def nodes(text: str) -> tuple[str, ...]:
    """Return names of nodes from a list such as `worker-1,worker-2`."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found or len(found) > NODES_MAX:
        raise ValueError(f"{text!r} names {len(found)} nodes; write 1 to {NODES_MAX} names with commas between them")
    return tuple(map(name, found))


def rows(text: str) -> int:
    """Return how many rows an answer may have."""
    if not text.isdecimal() or not 1 <= int(text) <= ROWS_MAX:
        raise ValueError(f"{text!r} is no number of rows; write one from 1 to {ROWS_MAX}")
    return int(text)


def seconds(text: str) -> float:
    """Return a number of seconds for waiting, bare or with s or m."""
    number, factor = (text[:-1], 60.0) if text.endswith("m") else (text.removesuffix("s"), 1.0)
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", number):
        raise ValueError(f"{text!r} is no time to wait; write seconds, such as 10 or 10s")
    return float(number) * factor


def _port(text: str) -> PortRange:
    match = _PORT.fullmatch(text)
    if match is None and (known := _SERVICES.get(text.lower().partition("/")[0])) is not None:
        raise ValueError(f"{text!r} is the name of a service; write its number: {known}")
    if match is None or (match[1] and match[4]):
        raise ValueError(f"{text[:60]!r} is no port; write for example 993, 8000-8100 or 53/udp")
    first = int(match[2])
    last = int(match[3] or first)
    if not 1 <= first <= last <= 65535:
        raise ValueError(f"{text!r} is no range of ports; write two from 1 to 65535, the higher one last")
    return PortRange((match[1] or match[4] or "tcp").upper(), first, last)
