"""Rates and sizes: the text that people write ↔ integers in bits per second and bytes. The only place that converts.

Rates have decimal prefixes, as everywhere in networking: 5Mbit = 5,000,000 bits per second. Byte units and bare
numbers are refused for rates, because a slip there is a factor of 8 or of a million.
Pure. Errors are ValueErrors whose message names the right form.
"""

from __future__ import annotations

import re
from decimal import Decimal

# The grammar of the CRD, held equal to it by a test.
RATE_PATTERN = r"^([1-9][0-9]{0,5}(\.[0-9]{1,3})?|0\.[0-9]{1,3})([kK][bB]it|[mMgG][bB]it|k|M|G)$"
BURST_PATTERN = r"^[1-9][0-9]{0,8}(k|Ki|M|Mi)?$"
VOLUME_PATTERN = "^[1-9][0-9]{0,5}(M|Mi|G|Gi|T|Ti)$"
TEXT_MAX = 16

RATE_MIN = 64_000
RATE_MAX = 400_000_000_000
BURST_MIN = 3_000
BURST_MAX = 64 * 1024 * 1024

_RATE = re.compile(RATE_PATTERN.strip("^$"))
_BURST = re.compile(BURST_PATTERN.strip("^$"))
_VOLUME = re.compile(VOLUME_PATTERN.strip("^$"))
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9}
_SIZES = {"": 1, "k": 10**3, "Ki": 2**10, "M": 10**6, "Mi": 2**20}
_VOLUMES = {"M": 10**6, "Mi": 2**20, "G": 10**9, "Gi": 2**30, "T": 10**12, "Ti": 2**40}

_RATE_UNITS = ((10**9, "Gbit"), (10**6, "Mbit"), (10**3, "kbit"), (1, "bit"))
_BYTE_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))

_RATE_HELP = "write a number with kbit, Mbit or Gbit, such as 5Mbit"
_BURST_HELP = "write bytes, bare or with k, Ki, M or Mi, such as 64Ki"


def parse_rate(text: str) -> int:
    """Parse a rate such as `5Mbit`, `1.5Gbit` or `64k`; return bits per second."""
    match = _RATE.fullmatch(text)
    if match is None or len(text) > TEXT_MAX:
        raise ValueError(f"{text!r} is no rate: {_rate_hint(text)}")
    bits_per_second = int(Decimal(match[1]) * _DECIMAL[match[3][0].lower()])
    if not RATE_MIN <= bits_per_second <= RATE_MAX:
        raise ValueError(f"{text} is out of range; write a rate between 64kbit and 400Gbit")
    return bits_per_second


def parse_burst(text: str) -> int:
    """Parse a burst such as `64Ki` or `3000`; return bytes."""
    match = _BURST.fullmatch(text)
    if match is None or len(text) > TEXT_MAX:
        raise ValueError(f"{text!r} is no size: {_BURST_HELP}")
    suffix = match[1] or ""
    number_bytes = int(text.removesuffix(suffix)) * _SIZES[suffix]
    if not BURST_MIN <= number_bytes <= BURST_MAX:
        raise ValueError(f"{text} is out of range; write a burst between 3k and 64Mi bytes")
    return number_bytes


def parse_volume(text: str) -> int:
    """Parse a volume such as `40Gi` or `500M`; return bytes."""
    match = _VOLUME.fullmatch(text)
    if match is None or len(text) > TEXT_MAX:
        raise ValueError(f"{text!r} is no volume: write bytes with M, Mi, G, Gi, T or Ti, such as 40Gi")
    return int(text.removesuffix(match[1])) * _VOLUMES[match[1]]


def _rate_hint(text: str) -> str:
    """Return what is probably meant, for the usual mistakes."""
    stripped = text.strip()
    if re.fullmatch(r"[0-9.]+", stripped):
        return f"it has no unit; {_RATE_HELP}"
    if re.fullmatch(r"(?i)[0-9.]+\s*([kmg]i?b|[kmg]?i?bytes?|b)(ps|/s)?", stripped) and "bit" not in stripped.lower():
        return f"rates are in bits, not bytes; {_RATE_HELP}"
    if re.fullmatch(r"[0-9.]+[kKMG]i(bit)?", stripped):
        return f"rates have decimal prefixes; {_RATE_HELP}"
    if stripped.endswith("m"):
        return f"m would be a thousandth; {_RATE_HELP}"
    return _RATE_HELP


def write_rate(bits_per_second: int) -> str:
    """Return the shortest text that `parse_rate` reads back as this number, such as `1.5Gbit`."""
    for factor, unit in _RATE_UNITS[:-1]:
        number = Decimal(bits_per_second) / factor
        if number >= 1 and number == round(number, 3) and number < 10**6:
            return f"{_plain(number)}{unit}"
    raise ValueError(f"{bits_per_second} bit/s has no exact text")


def show_rate(bits_per_second: float) -> str:
    """Return a rate for people, with four digits at most: `5 Mbit`, `1.234 Gbit`, `0 bit`."""
    number, unit = _scaled(bits_per_second, _RATE_UNITS, 4)
    return f"{_plain(number)} {unit}"


def show_bytes(number_bytes: float) -> str:
    """Return a size for people, with three digits at most: `64 KiB`, `1.5 MiB`, `0 B`."""
    number, unit = _scaled(number_bytes, _BYTE_UNITS, 3)
    return f"{_plain(number)} {unit}"


def _scaled(number: float, units: tuple[tuple[int, str], ...], digits: int) -> tuple[Decimal, str]:
    """Return the number rounded to so many digits, in the largest unit in which it is still at least 1."""
    for factor, unit in units:
        scaled = Decimal(number) / factor
        if scaled >= 1 - Decimal(5).scaleb(-digits - 1) or factor == 1:
            return _rounded(scaled, digits), unit
    raise AssertionError("the last unit has the factor 1")


def _rounded(number: Decimal, digits: int) -> Decimal:
    """Round to so many digits, but never to fewer than the integer part has; 9.996 becomes 10.0, not 10.00."""
    for _ in range(2):
        number = round(number, max(0, digits - max(1, number.adjusted() + 1)))
    return number


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
