"""Reads the name servers in a resolv.conf. Pure: the text is given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bandwidth_api import addresses
from bandwidth_api.plan import Prefix

_LOOPBACK = (addresses.parse("127.0.0.0/8"), addresses.parse("::1"))


def named(text: str) -> Iterator[Prefix]:
    """Return the addresses of the `nameserver` lines, in order, without a zone (`%eth0`); other text is ignored."""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                yield addresses.canonical(words[1].partition("%")[0])


def is_loopback(address: Prefix) -> bool:
    """Whether the address is that of a stub resolver on the host itself."""
    return any(addresses.covers(network, address) for network in _LOOPBACK)
