"""What one node sends one client, as it stands in a NodeClientTraffic: one string each, so that twenty of them fit.

    192.0.2.100 119200 118700 118650/29000 741000 T993:80,T443:20
    client      kbit/s in the last 2, 10, 60 s    kB since    ports: protocol, number, per cent
                            and samples in 60 s   it looks

A client that a question names has no ports, and the seconds that it was looked for at the end.

`samples` is the number of equal samples that would have the same error: the relative standard error is 1 ÷ √samples.
In a shorter time there were as many fewer as there were fewer bytes. Rates of several nodes are added with their
variances.

Pure. Nothing that a node writes is trusted: what is not of this form is left out, and numbers are bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_api.crds import asked
from bandwidth_api.plan import Prefix

FOUND_MAX = asked.CANDIDATES_MAX
ROW_MAX = 128  # characters
PORTS_MAX = 3
KBITS_MAX = 10_000_000_000  # 10 Tbit/s: no node sends more, whatever it reports
SAMPLES_MAX = 1_000_000_000
BYTES_MAX = 1 << 53
SECONDS_MAX = 1 << 31
WINDOWS_SECONDS = (2, 10, 60)


class Amount(NamedTuple):
    """A rate as it was estimated. `variance`: of bits_per_second; both are added."""

    bits_per_second: float
    variance: float


NOTHING = Amount(0.0, 0.0)
Rates = tuple[Amount, Amount, Amount]
NO_RATES: Rates = (NOTHING, NOTHING, NOTHING)


class Port(NamedTuple):
    protocol: str  # TCP or UDP
    number: int
    share: float  # of the row, 0 to 1


class Row(NamedTuple):
    """One client, or one network of clients."""

    client: Prefix
    rates: Rates
    since_bytes: float
    ports: tuple[Port, ...] = ()


class Found(NamedTuple):
    """A client that was asked for by name; `place` in the list of candidates."""

    place: int
    rates: Rates
    since_bytes: float


class Named(NamedTuple):
    """A client that a question names: an address, or all addresses of a network together."""

    client: Prefix
    rates: Rates
    since_bytes: float
    seconds: int  # that it was looked for


def samples(amount: Amount) -> int:
    """Return how many equal samples have the error of this amount."""
    if amount.bits_per_second <= 0 or amount.variance <= 0:
        return 0
    return min(round(amount.bits_per_second**2 / amount.variance), SAMPLES_MAX)


def add(one: Rates, other: Rates) -> Rates:
    """Return the rates of two nodes, or of two clients, together."""
    first, second, third = (
        Amount(a.bits_per_second + b.bits_per_second, a.variance + b.variance) for a, b in zip(one, other, strict=True)
    )
    return first, second, third


def row_text(row: Row) -> str:
    """Return a row as text."""
    ports = ",".join(f"{p.protocol[:1]}{p.number}:{round(100 * min(p.share, 1.0))}" for p in row.ports[:PORTS_MAX])
    text = f"{addresses.write(row.client)} {amounts_text(row.rates, row.since_bytes)}"
    return f"{text} {ports}" if ports else text


def named_text(named: Named) -> str:
    """Return a named client as text."""
    return f"{addresses.write(named.client)} {amounts_text(named.rates, named.since_bytes)} {max(1, named.seconds)}"


def amounts_text(rates: Sequence[Amount], since_bytes: float) -> str:
    """Return three rates, the samples of the last one, and kB."""
    kbits = " ".join(str(whole_kbits(rate.bits_per_second)) for rate in rates)
    return f"{kbits}/{samples(rates[-1])} {min(max(0, round(since_bytes / 1000)), BYTES_MAX // 1000)}"


def whole_kbits(bits_per_second: float) -> int:
    """Return a rate in kbit/s; what is not nothing is at least 1."""
    if not bits_per_second > 0:
        return 0
    return min(max(1, round(bits_per_second / 1000)), KBITS_MAX)


def read_row(text: str, seconds: int) -> Row | None:
    """Read a row of a node that looked for so many seconds; None if it is none."""
    client, *words = text.split()
    amounts = read_amounts(words[:4], seconds)
    if amounts is None or len(words) > 5:
        return None
    try:
        return Row(addresses.parse(client), *amounts, read_ports(words[4:]))
    except ValueError:
        return None


def read_found(text: str, seconds: int) -> Found | None:
    """Read a client by its place; None if it is none."""
    place, *words = text.split()
    amounts = read_amounts(words, seconds)
    number = digits(place, FOUND_MAX - 1)
    return None if amounts is None or number is None else Found(number, *amounts)


def read_named(text: str) -> Named | None:
    """Read a named client; None if it is none."""
    client, *words = text.split()
    seconds = digits(words[-1], SECONDS_MAX) if len(words) == 5 else None
    amounts = read_amounts(words[:4], seconds) if seconds else None
    if amounts is None or not seconds:
        return None
    try:
        return Named(addresses.network(client), *amounts, seconds)
    except ValueError:
        return None


def read_amounts(words: Sequence[str], seconds: int) -> tuple[Rates, float] | None:
    """Parse three rates, the samples of the last one, and the bytes."""
    if len(words) != 4:
        return None
    last, _, count = words[2].partition("/")
    kbits = [digits(word, KBITS_MAX) for word in (words[0], words[1], last)]
    number, since = digits(count, SAMPLES_MAX), digits(words[3], BYTES_MAX // 1000)
    if None in kbits or number is None or since is None:
        return None
    rates = [1000.0 * each for each in kbits if each is not None]
    times = [min(window, max(1, seconds)) for window in WINDOWS_SECONDS]
    per_sample = rates[-1] * times[-1] / number if number else 0.0  # bits
    first, second, third = (Amount(r, r * per_sample / t) for r, t in zip(rates, times, strict=True))
    return (first, second, third), since * 1000.0


def read_ports(words: Sequence[str]) -> tuple[Port, ...]:
    """Return the ports that these words name; odd ones are left out."""
    found = []
    for word in ",".join(words).split(",")[:PORTS_MAX]:
        name, _, percent = word.partition(":")
        protocol = {"T": "TCP", "U": "UDP"}.get(name[:1])
        number, share = digits(name[1:], 65535), digits(percent, 100)
        if protocol is not None and number is not None and share is not None:
            found.append(Port(protocol, number, share / 100))
    return tuple(found)


def digits(word: str, most: int) -> int | None:
    """Return a whole number without a sign, at most `most`; None if it is none."""
    return min(int(word), most) if word.isascii() and word.isdigit() and len(word) <= 20 else None
