"""Our chain in the mangle tables, by iptables-restore and iptables-save, one transaction per family and change.

Owns the chain names.CHAIN and the one jump to it, first in POSTROUTING, in the network namespace of the calling
thread, and what iptables made only because of them. Must never alter any other rule, chain, policy or counter.

Two back ends can be alive on one node, and their rules are both obeyed: we write into one and keep the other free
of ours. With the legacy back end a table that was once used stays listed in /proc/net/ip_tables_names, and so
`iptables-save` goes on printing its empty chains: no program can undo that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Literal, NamedTuple

from bandwidth_agent.kernel import change, iptables_text, model, nftables
from bandwidth_api import names

NFT, LEGACY = "nft", "legacy"
Backend = Literal["auto", "nft", "legacy"]

_FAMILIES = {4: "iptables", 6: "ip6tables"}
_LEGACY_TABLES = {4: "/proc/thread-self/net/ip_tables_names", 6: "/proc/thread-self/net/ip6_tables_names"}
_KUBELET_CHAINS = frozenset({"KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"})
_LOCK_WAIT_S = 10
_TIMEOUT_S = 30
_ATTEMPTS = 3


class Survey(NamedTuple):
    """What one back end holds, in both families together."""

    ours: bool
    kubelet: bool
    rules: int


def choose(nft: Survey, legacy: Survey) -> str:
    """The back end to write into: where we are, else where kubelet is, else where the rules are, else nft.

    The middle is what the iptables-wrapper of Kubernetes' own images does.
    """
    if nft.ours != legacy.ours:
        return NFT if nft.ours else LEGACY
    if nft.kubelet or legacy.kubelet:
        return NFT if nft.kubelet else LEGACY
    return LEGACY if legacy.rules and not nft.rules else NFT


class IpTables:
    """Our chains in both families. Keeps in memory only which back end it chose and what it caused to be made."""

    def __init__(self, backend: Backend = "auto") -> None:
        self._programs = _programs()
        self._automatic = backend == "auto"
        self._backend: str | None = None if self._automatic else backend
        # What the jump's comment says too; this copy survives somebody's `iptables -F` in between.
        self._created: dict[int, tuple[str, ...]] = {}

    @property
    def backend(self) -> str:
        """The back end that we write into, "nft" or "legacy"."""
        if self._backend is None:
            self._backend = self._choose()
        return self._backend

    def observe(self) -> dict[int, model.Chain]:
        """Read our chains. One that is also in the other back end reads as not first, so that it is put anew."""
        found: dict[int, model.Chain] = {}
        readings = {family: self._read(self.backend, family) for family in _FAMILIES}
        others = {family: self._read(self._other, family) for family in _FAMILIES}
        if self._automatic and not any(each.chain for each in (*readings.values(), *others.values())):
            self._backend = None  # nothing of ours binds us; whoever comes first may have come since
        for family, reading in readings.items():
            chain, stray = reading.chain, others[family].chain
            if stray is not None:
                found[family] = model.Chain(chain.rules if chain else (), jump_first=False)
            elif chain is not None:
                found[family] = chain
        return found

    def put_chain(self, step: change.PutChain) -> change.Outcome:
        """Write our chain whole, in one transaction that nobody sees half of, and make the jump to it the first."""
        message = ""
        for _ in range(_ATTEMPTS):  # a jump that was read may be gone before it is deleted
            reading = self._read(self.backend, step.family)
            created = self._causes(step.family, reading)
            message = self._restore(self.backend, step.family, iptables_text.put(step.chain, reading, created))
            if not message:
                self._created[step.family] = created
                message = self._remove(self._other, step.family)
                break
        return change.Outcome(step, change.Failure(0, message) if message else None)

    def delete_chain(self, step: change.DeleteChain) -> change.Outcome:
        """Take away the jump, the chain and what iptables made because of them, from both back ends."""
        messages = [self._remove(backend, step.family) for backend in (NFT, LEGACY)]
        message = "; ".join(each for each in messages if each)
        return change.Outcome(step, change.Failure(0, message) if message else None)

    def counters(self) -> dict[int, int]:
        """By family, the packets that our jump led to our chain."""
        readings = {family: self._read(self.backend, family) for family in _FAMILIES}
        return {family: reading.packets for family, reading in readings.items() if reading.jumps}

    def mark_uses(self) -> tuple[model.MarkUse, ...]:
        """Every rule that is not ours and reads or writes packet marks, of both back ends and of nft itself."""
        return ()

    @property
    def _other(self) -> str:
        return LEGACY if self.backend == NFT else NFT

    def _choose(self) -> str:
        if not all(backend in self._programs for backend in (NFT, LEGACY)):
            return next(iter(self._programs), NFT)
        return choose(self._survey(NFT), self._survey(LEGACY))

    def _survey(self, backend: str) -> Survey:
        dumps = [self._save(backend, family) for family in _FAMILIES]
        chains = frozenset[str]().union(*(iptables_text.chain_names(dump) for dump in dumps))
        return Survey(
            ours=names.CHAIN in chains,
            kubelet=bool(chains & _KUBELET_CHAINS),
            rules=sum(iptables_text.rule_count(dump) for dump in dumps),
        )

    def _causes(self, family: int, reading: iptables_text.Reading) -> tuple[str, ...]:
        """What of the table exists, or will, only because of us."""
        if self.backend == LEGACY:
            return ()
        if reading.jumps:
            return reading.created
        absent = nftables.missing(family, iptables_text.TABLE)
        return absent or self._created.get(family, ())

    def _remove(self, backend: str, family: int) -> str:
        reading = self._read(backend, family)
        if reading.chain is None:
            return ""
        if backend == LEGACY:
            return self._restore(backend, family, iptables_text.delete(reading))
        created = reading.created or self._created.get(family, ())
        refused = nftables.remove(family, iptables_text.TABLE, names.CHAIN, created)
        return os.strerror(refused) if refused else ""

    def _read(self, backend: str, family: int) -> iptables_text.Reading:
        return iptables_text.read(self._save(backend, family, iptables_text.TABLE))

    def _save(self, backend: str, family: int, table: str | None = None) -> str:
        """What the save program prints; nothing where that back end was never used, which is not to be changed."""
        if backend not in self._programs:
            return ""
        command = [f"{self._programs[backend].format(_FAMILIES[family])}-save", "-c"]
        if backend == LEGACY:
            used = _legacy_tables(family)
            if not used or (table is not None and table not in used):
                return ""
        done = _run([*command, *(["-t", table] if table else [])])
        if done.returncode != 0:
            raise OSError(f"{command[0]}: {done.stderr.strip()}")
        return done.stdout

    def _restore(self, backend: str, family: int, text: str) -> str:
        """Run one transaction; return "" or what the program said against it."""
        if backend not in self._programs:
            return f"no iptables program for the {backend} back end"
        program = f"{self._programs[backend].format(_FAMILIES[family])}-restore"
        done = _run([program, "--noflush", f"--wait={_LOCK_WAIT_S}"], text)
        return "" if done.returncode == 0 else f"{program}: {done.stderr.strip() or done.returncode}"


def _legacy_tables(family: int) -> frozenset[str]:
    """The tables of the legacy back end that this network namespace has in use; asking a tool would make them."""
    try:
        with open(_LEGACY_TABLES[family], encoding="ascii") as listed:
            return frozenset(listed.read().split())
    except FileNotFoundError:  # the kernel has not loaded it
        return frozenset()


def _programs() -> dict[str, str]:
    """By back end, the name of its programs with a place for the family's word."""
    found = {
        backend: f"{{}}-{backend}"
        for backend in (NFT, LEGACY)
        if shutil.which(f"iptables-{backend}-save", path=_path())
    }
    if not found and shutil.which("iptables-save", path=_path()):
        version = _run(["iptables", "--version"]).stdout
        found = {NFT if "nf_tables" in version else LEGACY: "{}"}
    return found


def _path() -> str:
    """Where the programs are, also for a caller whose PATH leaves the system directories out."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=_TIMEOUT_S,
        check=False,
        env={"PATH": _path(), "LC_ALL": "C"},
    )
