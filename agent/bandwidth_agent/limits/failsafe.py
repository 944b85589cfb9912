"""Finds the addresses that this host depends on: its resolvers, and those that the agent's own requests go to.

A limit on them could slow down the very requests by which it is lifted, so no limit may touch them, unless the
administrator sets --no-failsafe. Reads resolv.conf at each call, since it changes without notice; owns no rule.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterable, Mapping

from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from bandwidth_runtime import resolvers

RESOLV_CONF = pathlib.Path("/etc/resolv.conf")
# Where systemd-resolved is asked through a stub on the host: the servers that it asks itself.
BEHIND_STUB = (pathlib.Path("/run/systemd/resolve/resolv.conf"),)

_RESOLVER = "a resolver of this node (rule failsafe, which --no-failsafe lifts)"
_SERVER = "an address of the API server that this agent talks to (rule failsafe, which --no-failsafe lifts)"


def nothing() -> Mapping[Prefix, str]:
    """Return no addresses: the failsafe is switched off."""
    return {}


class Failsafe:
    """Finds the addresses; `peers` returns those that requests go to, as text."""

    def __init__(
        self,
        peers: Callable[[], Iterable[str]] = tuple,
        resolv_conf: pathlib.Path = RESOLV_CONF,
        behind_stub: Iterable[pathlib.Path] = BEHIND_STUB,
    ) -> None:
        self._peers = peers
        self._resolv_conf = resolv_conf
        self._behind_stub = tuple(behind_stub)

    def __call__(self) -> Mapping[Prefix, str]:
        """Return what each address is, by address."""
        found = dict.fromkeys(map(addresses.canonical, self._peers()), _SERVER)
        named = _named(self._resolv_conf)
        if any(map(resolvers.is_loopback, named)):
            for path in self._behind_stub:
                named += _named(path)
        return found | dict.fromkeys((a for a in named if not resolvers.is_loopback(a)), _RESOLVER)


def _named(path: pathlib.Path) -> list[Prefix]:
    with contextlib.suppress(OSError):
        return list(resolvers.named(path.read_text(errors="replace")))
    return []
