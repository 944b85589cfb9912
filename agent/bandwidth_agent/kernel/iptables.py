"""Our chain in the mangle tables, one transaction per family and change.

Owns the chain names.CHAIN and the one jump to it, first in POSTROUTING, in the network namespace of the calling
thread, and what iptables made only because of them. Must never alter any other rule, chain, policy or counter.

Two back ends can be alive on one node, and the kernel obeys the rules of both: we write into one and keep the other
free of ours. With the legacy back end a table that was once used stays listed in /proc/net/ip_tables_names, and
`iptables-save` goes on printing its empty chains: no program can undo that.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Literal

from bandwidth_agent.kernel import change, iptables_text, iptables_tools, marks, model, nftables, refusals
from bandwidth_agent.kernel.iptables_tools import FAMILIES, LEGACY, NFT
from bandwidth_api import names

Backend = Literal["auto", "nft", "legacy"]

_TABLE = iptables_text.TABLE
_AF = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
_COMPAT_TABLES = frozenset({"filter", "nat", "mangle", "raw", "security"})
_KUBELET_CHAINS = frozenset({"KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"})
_SET_TARGET, _SET_REVISION = "SET", 3  # the first revision that maps
_ATTEMPTS = 3


class IpTables:
    """Our chains in both families. Remembers only which back end it chose, and what it caused to be made."""

    def __init__(self, backend: Backend = "auto") -> None:
        self._tools = iptables_tools.IpTablesTools()
        self._automatic = backend == "auto"
        self._backend: str | None = None if self._automatic else backend
        # What the jump's comment says too; this copy outlives somebody's `iptables -F`.
        self._created: dict[int, tuple[str, ...]] = {}
        self._nft_uses: tuple[int, tuple[model.MarkUse, ...]] | None = None  # read at this generation of nftables

    @property
    def backend(self) -> str:
        """The back end that we write into, "nft" or "legacy"."""
        if self._backend is None:
            self._backend = self._choose()
        return self._backend

    def supported(self) -> bool:
        """Whether rules of ours can be written: the programs are there, and the kernel has the SET target."""
        return self.backend in self._tools.backends and nftables.has_target(_SET_TARGET, _SET_REVISION) is not False

    def observe(self) -> dict[int, model.Chain]:
        """Read our chains. One that also stands in the other back end reads as not first, so that it is put anew."""
        found: dict[int, model.Chain] = {}
        for family in FAMILIES:
            here = {each: chain for each in (NFT, LEGACY) if (chain := self._read(each, family).chain) is not None}
            if set(here) == {self._backend or next(iter(here), NFT)}:
                found[family] = next(iter(here.values()))
            elif here:
                found[family] = model.Chain(next(iter(here.values())).rules, jump_first=False)
        if self._automatic and not found:
            self._backend = None  # nothing of ours holds us there; who else writes rules may have come since
        return found

    @refusals.told
    def put_chain(self, step: change.PutChain) -> change.Outcome:
        """Write our chain whole, in one transaction that nobody sees half of, and make the jump to it the first."""
        backend, family = self.backend, step.family
        refusal = ""
        for _ in range(_ATTEMPTS):  # what was read may be gone before the transaction names it
            reading = self._read(backend, family)
            created = self._causes(backend, family, reading)
            refusal = self._tools.restore(backend, family, iptables_text.put(step.chain, reading, created))
            if not refusal:
                self._created[family] = created
                refusal = self._remove(LEGACY if backend == NFT else NFT, family)
                break
        return _outcome(step, refusal)

    @refusals.told
    def delete_chain(self, step: change.DeleteChain) -> change.Outcome:
        """Take away the jump, the chain and what iptables made because of them, from both back ends."""
        refusals = [self._remove(backend, step.family) for backend in (NFT, LEGACY)]
        self._created.pop(step.family, None)
        return _outcome(step, "; ".join(refusal for refusal in refusals if refusal))

    def counters(self) -> dict[int, int]:
        """By family, the packets that found an entry, since our chain was last written.

        One that also finds an entry for the port that its client dialled is counted twice.
        """
        readings = {family: self._read(self.backend, family) for family in FAMILIES}
        return {family: reading.packets for family, reading in readings.items() if reading.chain_present}

    def mark_uses(self) -> tuple[model.MarkUse, ...]:
        """Rules that are not ours and read or write packet marks: of both back ends, of nft itself, of `ip rule`."""
        return marks.merge([*self._uses_in_nft(), *self._uses_in_legacy(), *marks.of_routing()])

    def _uses_in_nft(self) -> tuple[model.MarkUse, ...]:
        """Read again only when anything of nftables has changed: a reading of 20,000 rules takes 0.2 s."""
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
            if dump := self._tools.save_legacy(family):
                yield from marks.of_legacy(self._tools.name(LEGACY, family), dump)

    def _choose(self) -> str:
        """Where we are, else where kubelet is, else where the rules are, else nft.

        But for the first it is what the iptables-wrapper of Kubernetes' own images does.
        """
        if set(self._tools.backends) != {NFT, LEGACY}:
            return next(iter(self._tools.backends), NFT)
        if not any(iptables_tools.legacy_tables(family) for family in FAMILIES):
            return NFT
        ours = {each: any(self._read(each, family).chain for family in FAMILIES) for each in (NFT, LEGACY)}
        if ours[NFT] != ours[LEGACY]:
            return NFT if ours[NFT] else LEGACY
        if any(nftables.chain_exists(family, _TABLE, chain) for family in FAMILIES for chain in _KUBELET_CHAINS):
            return NFT
        dumps = [self._tools.save_legacy(family) for family in FAMILIES]
        if any(iptables_text.chain_names(dump) & _KUBELET_CHAINS for dump in dumps):
            return LEGACY
        legacy_rules = any(iptables_text.has_rules(dump) for dump in dumps)
        return LEGACY if legacy_rules and not nftables.has_rules(frozenset(_AF.values()), _COMPAT_TABLES) else NFT

    def _causes(self, backend: str, family: int, reading: iptables_text.Reading) -> tuple[str, ...]:
        """What of the table exists, or will, only because of us."""
        if backend == LEGACY:
            return ()
        if reading.jumps:
            return reading.created
        missing = nftables.missing(family, _TABLE)
        return missing if _TABLE in missing else self._created.get(family) or missing

    def _remove(self, backend: str, family: int) -> str:
        """Take ours out of one back end; return "" or why not."""
        reading = self._read(backend, family)
        if reading.chain is None:
            return ""
        if backend == LEGACY:
            return self._tools.restore(backend, family, iptables_text.delete(reading))
        created = reading.created or self._created.get(family, ())
        refused = nftables.remove(family, _TABLE, names.CHAIN, created)
        return os.strerror(refused) if refused else ""

    def _read(self, backend: str, family: int) -> iptables_text.Reading:
        """What of ours stands in one back end. No process is run where our chain is not: nothing can lead to it."""
        if backend not in self._tools.backends:
            return iptables_text.NOTHING
        if backend == NFT and not nftables.chain_exists(family, _TABLE, names.CHAIN):
            return iptables_text.NOTHING
        if backend == LEGACY and _TABLE not in iptables_tools.legacy_tables(family):
            return iptables_text.NOTHING
        listing = self._tools.list_rules(backend, family, _TABLE)
        return iptables_text.UNREADABLE if listing is None else iptables_text.read(listing)


def _outcome(step: change.Change, refusal: str) -> change.Outcome:
    return change.Outcome(step, change.Failure(0, refusal) if refusal else None)
