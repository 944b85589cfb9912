"""The longest-prefix match that ipset and the kernel's tables make, in Python. Pure; owns nothing but the rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from bandwidth_agent.kernel.objects.lookup_table import HOLE
from bandwidth_agent.kernel.objects.set_entry import SetEntry
from bandwidth_api.plan import Prefix

_Entry = TypeVar("_Entry")


class Longest(Generic[_Entry]):
    """Prefixes, each with what it stands for, ready to be asked."""

    def __init__(self, entries: Mapping[Prefix, _Entry]) -> None:
        self._entries = entries
        self._lengths = sorted({prefix.length for prefix in entries}, reverse=True)

    def match(self, prefix: Prefix) -> tuple[Prefix, _Entry] | None:
        """The longest prefix that holds all of `prefix`, with what it stands for, which may be a hole."""
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


class Lookup(Longest[SetEntry]):
    """The entries of one set, ready to be asked."""

    def find(self, prefix: Prefix) -> SetEntry | None:
        """What the addresses of `prefix` get that lie in no longer prefix of the set; None for a hole or nothing."""
        found = self.match(prefix)
        return None if found is None or found[1].hole else found[1]


class Numbers(Longest[int]):
    """The entries of one table that programs look into, ready to be asked."""

    def find(self, prefix: Prefix) -> int:
        """The class number of the addresses of `prefix` that lie in no longer prefix of the table; HOLE for none."""
        found = self.match(prefix)
        return HOLE if found is None else found[1]
