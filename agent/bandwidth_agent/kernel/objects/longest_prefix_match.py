"""The longest-prefix match that ipset makes, in Python. Pure; owns nothing but the rule."""

from __future__ import annotations

from collections.abc import Mapping

from bandwidth_agent.kernel.objects.set_entry import SetEntry
from bandwidth_api.plan import Prefix


class Lookup:
    """The entries of one set, ready to be asked."""

    def __init__(self, entries: Mapping[Prefix, SetEntry]) -> None:
        self._entries = entries
        self._lengths = sorted({prefix.length for prefix in entries}, reverse=True)

    def find(self, prefix: Prefix) -> SetEntry | None:
        """What the addresses of `prefix` get that lie in no longer prefix of the set; None for a hole or nothing."""
        found = self.match(prefix)
        return None if found is None or found[1].hole else found[1]

    def match(self, prefix: Prefix) -> tuple[Prefix, SetEntry] | None:
        """The longest prefix of the set that holds all of `prefix`, with its entry, which may be a hole."""
        bits = 32 if prefix.family == 4 else 128
        for length in self._lengths:
            if length > prefix.length:
                continue
            host_bits = bits - length
            around = Prefix(prefix.family, prefix.network >> host_bits << host_bits, length)
            entry = self._entries.get(around)
            if entry is not None:
                return around, entry
        return None
