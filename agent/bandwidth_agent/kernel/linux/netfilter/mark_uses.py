"""Reads which bits of the packet mark other programs use, of all programs that can have rules on this node.

Owns the sources: both back ends of iptables, nftables itself, the policy routing rules. How each is read is `marks`.
"""

from __future__ import annotations

from collections.abc import Iterator

from bandwidth_agent.kernel import model
from bandwidth_agent.kernel.linux.netfilter import iptables_tools, marks
from bandwidth_agent.kernel.linux.netfilter.iptables_tools import FAMILIES, LEGACY
from bandwidth_agent.kernel.linux.netfilter.nf_tables import nftables


class MarkUses:
    """The uses as last read. Reads in the network namespace of the calling thread."""

    def __init__(self) -> None:
        self._tools = iptables_tools.IpTablesTools()
        self._nft_uses: tuple[int, tuple[model.MarkUse, ...]] | None = None  # read at this generation of nftables

    def read(self) -> tuple[model.MarkUse, ...]:
        """Return the rules of other programs that read or write packet marks.

        Those of both back ends of iptables, of nft itself, and of `ip rule`.
        """
        return marks.merge([*self._uses_in_nft(), *self._uses_in_legacy(), *marks.of_routing()])

    def _uses_in_nft(self) -> tuple[model.MarkUse, ...]:
        """Return the uses in nftables, read again only if it has changed: reading 20,000 rules takes 0.2 s."""
        generation = nftables.generation()
        if self._nft_uses is None or self._nft_uses[0] != generation:
            try:
                self._nft_uses = generation, marks.merge(marks.of_nftables())
            except BlockingIOError:  # others change rules faster than they can be read; the last reading must do
                if self._nft_uses is None:
                    raise
        return self._nft_uses[1]

    def _uses_in_legacy(self) -> Iterator[model.MarkUse]:
        for family in FAMILIES:
            saved = self._tools.save_legacy(family)
            yield from marks.of_legacy(self._tools.name(LEGACY, family), saved.text) if saved.text else ()
            for refusal in saved.refusals.values():
                yield model.MarkUse(marks.ALL_BITS, f"rules that cannot be read ({refusal})", read=marks.ALL_BITS)
