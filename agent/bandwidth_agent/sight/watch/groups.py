"""Which client an address counts as for policies: its group, or the limited client that it lies in. Pure."""

from __future__ import annotations

from collections.abc import Collection

from bandwidth_api import address_text
from bandwidth_api.plan import Prefix

_KNOWN_MAX = 16_384  # addresses whose group is kept, so that most are found by one look


class Groups:
    """Groups of so many bits; what is in one of `named` that is wider counts as that. One thread at a time."""

    def __init__(self, ipv4: int, ipv6: int, named: Collection[Prefix] = ()) -> None:
        self.named = frozenset(named)
        self.lengths = {4: ipv4, 6: ipv6}
        self._wider = {
            family: sorted({each.length for each in self.named if each.family == family and each.length < length})
            for family, length in self.lengths.items()
        }
        self._known: dict[bytes, Prefix] = {}

    def of(self, address: bytes) -> Prefix:
        """Return the client that an address of 4 or 16 bytes counts as."""
        found = self._known.get(address)
        if found is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            found = self._known[address] = self._found(address)
        return found

    def _found(self, address: bytes) -> Prefix:
        family = 4 if len(address) == 4 else 6
        number = int.from_bytes(address)
        for length in self._wider[family]:
            wider = _shortened(family, number, length)
            if wider in self.named:
                return wider
        return _shortened(family, number, self.lengths[family])


def _shortened(family: int, number: int, length: int) -> Prefix:
    spare = address_text.BITS[family] - length
    return Prefix(family, number >> spare << spare, length)
