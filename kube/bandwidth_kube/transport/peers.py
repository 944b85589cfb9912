"""The addresses that this process's requests go to: of an API server, a load balancer, a proxy. For any thread."""

from __future__ import annotations

import collections
import ipaddress
import threading

KEPT = 16  # the latest ones; a server behind a name may have several

_lock = threading.Lock()
_seen: collections.OrderedDict[str, None] = collections.OrderedDict()


def note(address: str) -> None:
    """Record that a connection was made to this address."""
    try:
        text = str(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:  # not an address of the Internet
        return
    with _lock:
        _seen.pop(text, None)
        _seen[text] = None
        while len(_seen) > KEPT:
            _seen.popitem(last=False)


def latest() -> frozenset[str]:
    """Return the latest addresses, as text."""
    with _lock:
        return frozenset(_seen)
