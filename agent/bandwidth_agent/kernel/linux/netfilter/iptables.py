"""Our chains in the mangle tables, one transaction per family and change.

Owns the chain names.CHAIN, those that it leads to (names.ports_chain) and the one jump to it, first in POSTROUTING,
in the network namespace of the calling thread, and what iptables made only because of them. Must never alter any
other rule, chain, policy or counter.

Two back ends can be in use on one node, and the kernel applies the rules of both: we write into one and keep the other
free of ours. With the legacy back end a table that was once used stays listed in /proc/net/ip_tables_names, and
`iptables-save` keeps printing its empty chains: no program can undo that.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import Literal

from bandwidth_agent.kernel import objects, refusals
from bandwidth_agent.kernel.linux.netfilter import idle_chains, iptables_text, iptables_tools, unprintable
from bandwidth_agent.kernel.linux.netfilter.iptables_tools import FAMILIES, LEGACY, NFT
from bandwidth_agent.kernel.linux.netfilter.nf_tables import nftables
from bandwidth_agent.kernel.objects import chain_layout
from bandwidth_api import names

Backend = Literal["auto", "nft", "legacy"]

_TABLE = iptables_text.TABLE
_AF = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
_AS_IPTABLES_HOOKS_IT = (4, -150)  # NF_INET_POST_ROUTING, priority of mangle
_FAMILY_WORDS = {4: "ip", 6: "ip6"}
_COMPAT_TABLES = frozenset({"filter", "nat", "mangle", "raw", "security"})
_KUBELET_CHAINS = frozenset({"KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"})
_SET_TARGET, _SET_REVISION = "SET", 3  # the first revision that maps
_ATTEMPTS = 3
# Wherever a chain of ours is, one of these is: the others hang below them.
_FIRST_CHAINS = (names.CHAIN, *map(names.ports_chain, chain_layout.EVERY_PORT))


class IpTables:
    """Our chains in both families. Keeps only which back end it chose, and what exists because of us."""

    def __init__(self, backend: Backend = "auto") -> None:
        self._tools = iptables_tools.IpTablesTools()
        self._automatic = backend == "auto"
        self._backend: str | None = None if self._automatic else backend
        # The jump's comment has this too; this copy survives an `iptables -F` of another program.
        self._created: dict[int, tuple[str, ...]] = {}
        self._in_parts: set[int] = set()  # families whose table iptables could not print as a whole when last read
        self._rewritten: dict[int, int] = {}  # by family: packets counted by rules that we rewrote since
        self._spread: dict[int, chain_layout.Spread] = {}  # by family, as last read or written: saves time only

    @property
    def backend(self) -> str:
        """The back end that we write into, "nft" or "legacy"."""
        if self._backend is None:
            self._backend = self._choose()
        return self._backend

    def supported(self) -> bool:
        """Whether rules of ours can be written: the programs are there, and the kernel has the SET target."""
        return self.backend in self._tools.backends and nftables.has_target(_SET_TARGET, _SET_REVISION) is not False

    def observe(self) -> dict[int, objects.Chain]:
        """Read our chains; one that is also in the other back end reads as not first, so that it is written again."""
        found: dict[int, objects.Chain] = {}
        for family in FAMILIES:
            readings = {each: self._read(each, family) for each in (NFT, LEGACY)}
            here = {each: chain for each, reading in readings.items() if (chain := self._chain(family, reading))}
            if NFT in here and self._repairable(family, readings[NFT]):
                found[family] = here[NFT]._replace(jump_first=False)  # no packet comes there: it is put again
            elif set(here) == {self._backend or next(iter(here), NFT)}:
                found[family] = next(iter(here.values()))
            elif here:
                found[family] = next(iter(here.values()))._replace(jump_first=False)
        if self._automatic and not found:
            self._backend = None  # nothing of ours holds us there; who else writes rules may have come since
        return found

    @refusals.as_outcome
    def put_chain(self, step: objects.PutChain) -> objects.Outcome:
        """Write our whole chain in one atomic transaction, and make the jump to it the first rule."""
        backend, family = self.backend, step.family
        refusal, layout = "", chain_layout.laid_out(step.chain.rules)
        for _ in range(_ATTEMPTS):  # what was read may be gone before the transaction names it
            reading = self._read(backend, family)
            created = self._causes(backend, family, reading)
            if backend == NFT and self._repairable(family, reading):
                idle_chains.repair(
                    family, _TABLE, iptables_text.HOOK, names.is_chain, self._known_created(family, reading)
                )
                reading = self._read(backend, family)
                created = tuple(dict.fromkeys((*created, *nftables.missing(family, _TABLE))))
            by_handle = family in self._in_parts and backend == NFT
            named = dataclasses.replace(reading, jumps=()) if by_handle else reading
            refusal = self._tools.restore(backend, family, iptables_text.put(step.chain, named, created, layout))
            if by_handle and not refusal:
                refusal = unprintable.keep_first_jump(family)
            if refusal and backend == NFT and _is_foreign(family):
                refusal = f"{refusal}; {_owner(family)}"
            elif refusal and family in self._in_parts:
                refusal = f"{refusal}; {unprintable.what_helps(backend, family)}"
            if not refusal:
                self._created[family] = created
                self._spread[family] = chain_layout.Spread(step.chain.rules, layout)
                kept = iptables_text.kept(layout, reading)
                lost = sum(count for chain, count in reading.packets.items() if chain not in kept)
                self._rewritten[family] = self._rewritten.get(family, 0) + lost
                refusal = self._remove(LEGACY if backend == NFT else NFT, family)
                break
        return _outcome(step, refusal)

    @refusals.as_outcome
    def delete_chain(self, step: objects.DeleteChain) -> objects.Outcome:
        """Remove the jump, the chain and what iptables made because of them, from both back ends."""
        refusals = [self._remove(backend, step.family) for backend in (NFT, LEGACY)]
        self._created.pop(step.family, None)
        self._rewritten.pop(step.family, None)
        return _outcome(step, "; ".join(refusal for refusal in refusals if refusal))

    def idle(self) -> dict[int, str]:
        """Return by family why no packet reaches our rules, if we cannot repair that, as a clause with what helps."""
        if self.backend != NFT:
            return {}
        reasons = {family: idle_chains.why(family, _TABLE, iptables_text.HOOK) for family in FAMILIES}
        return {
            family: why
            for family, why in reasons.items()
            if why and not self._repairable(family, self._read(NFT, family))
        }

    def _repairable(self, family: int, reading: iptables_text.Reading) -> bool:
        created = self._known_created(family, reading)
        return idle_chains.repairable(family, _TABLE, iptables_text.HOOK, names.is_chain, created)

    def _known_created(self, family: int, reading: iptables_text.Reading) -> frozenset[str]:
        """Return what exists because of us. A base chain without a hook came after ours, or ours could not be there."""
        created = frozenset(reading.created or self._created.get(family, ()))
        return created if not reading.ours else created | {iptables_text.HOOK}

    def counters(self) -> dict[int, int]:
        """Return by family the packets that matched an entry, since our chain or this object was made.

        A packet that also matches an entry for the port that its client dialled is counted twice.
        """
        readings = {family: self._read(self.backend, family) for family in FAMILIES}
        return {
            family: sum(reading.packets.values()) + self._rewritten.get(family, 0)
            for family, reading in readings.items()
            if reading.chains
        }

    def _choose(self) -> str:
        """Choose the back end: the one with our rules, else that of kubelet, else one with any rules, else nft.

        Apart from the first this is what the iptables-wrapper of Kubernetes' own images does.
        """
        if set(self._tools.backends) != {NFT, LEGACY}:
            return next(iter(self._tools.backends), NFT)
        if not any(iptables_tools.legacy_tables(family) for family in FAMILIES):
            return NFT
        ours = {each: any(self._read(each, family).ours for family in FAMILIES) for each in (NFT, LEGACY)}
        if ours[NFT] != ours[LEGACY]:
            return NFT if ours[NFT] else LEGACY
        if any(nftables.chain_exists(family, _TABLE, chain) for family in FAMILIES for chain in _KUBELET_CHAINS):
            return NFT
        saved = [self._tools.save_legacy(family) for family in FAMILIES]
        if any(iptables_text.chain_names(each.text) & _KUBELET_CHAINS for each in saved):
            return LEGACY
        legacy_rules = any(iptables_text.has_rules(each.text) or each.refusals for each in saved)
        return LEGACY if legacy_rules and not nftables.has_rules(frozenset(_AF.values()), _COMPAT_TABLES) else NFT

    def _causes(self, backend: str, family: int, reading: iptables_text.Reading) -> tuple[str, ...]:
        """Return what of the table exists, or will exist, only because of us."""
        if backend == LEGACY:
            return ()
        if reading.jumps:
            return reading.created
        missing = nftables.missing(family, _TABLE)
        return missing if _TABLE in missing else self._created.get(family) or missing

    def _remove(self, backend: str, family: int) -> str:
        """Remove our chains from one back end; return "" or why that failed."""
        reading = self._read(backend, family)
        if not reading.ours:
            return ""
        if backend == LEGACY:
            return self._tools.restore(backend, family, iptables_text.delete(reading))
        created = reading.created or self._created.get(family, ())
        refused = nftables.remove(family, _TABLE, names.is_chain, created)
        return os.strerror(refused) if refused else ""

    def _chain(self, family: int, reading: iptables_text.Reading) -> objects.Chain | None:
        chain = reading.chain(self._spread.get(family))
        if chain is not None:
            self._spread[family] = chain_layout.Spread(chain.rules, reading.chains)
        return chain

    def _read(self, backend: str, family: int) -> iptables_text.Reading:
        """Read our chains in one back end; runs no process if our chain does not exist, as nothing can lead to it."""
        if backend not in self._tools.backends:
            return iptables_text.NOTHING
        if backend == NFT and not any(nftables.chain_exists(family, _TABLE, chain) for chain in _FIRST_CHAINS):
            return iptables_text.NOTHING
        if backend == LEGACY and _TABLE not in iptables_tools.legacy_tables(family):
            return iptables_text.NOTHING
        listing = self._tools.list_rules(backend, family, _TABLE)
        self._in_parts.discard(family)
        if listing.text is not None:
            return iptables_text.read(listing.text)
        self._in_parts.add(family)
        return iptables_text.read(unprintable.listed(self._tools, backend, family, listing.refusal))


def _is_foreign(family: int) -> bool:
    """Return whether the chain that iptables hooks behind routing exists, but is hooked in another way."""
    there = nftables.chain_exists(family, _TABLE, iptables_text.HOOK)
    return there and nftables.hooked_as(family, _TABLE, iptables_text.HOOK) != _AS_IPTABLES_HOOKS_IT


def _owner(family: int) -> str:
    chain = f"{_FAMILY_WORDS[family]} {_TABLE} {iptables_text.HOOK}"
    return (
        f"the chain {chain} is another program's and not hooked as iptables hooks it (nft list chain {chain}):"
        " give that program a table of another name"
    )


def _outcome(step: objects.Change, refusal: str) -> objects.Outcome:
    return objects.Outcome(step, objects.Failure(0, refusal) if refusal else None)
