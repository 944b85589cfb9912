"""The programs of iptables: which there are, and how they are run.

Owns the processes; knows nothing of what stands in the tables. A program runs in the network namespace of the
calling thread, with a bound on its time, and never because somebody only wanted to look: the legacy programs make a
table by listing it, so they are asked only about tables that are in use.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Sequence

NFT, LEGACY = "nft", "legacy"
FAMILIES = {4: "iptables", 6: "ip6tables"}

# Of the calling thread's namespace; /proc/net would be the main thread's.
_LEGACY_TABLES = {4: "/proc/thread-self/net/ip_tables_names", 6: "/proc/thread-self/net/ip6_tables_names"}
_LOCK_WAIT_S = 10
_TIMEOUT_S = 30


class IpTablesTools:
    """What of iptables is installed."""

    def __init__(self) -> None:
        self._programs = _programs()

    @property
    def backends(self) -> tuple[str, ...]:
        """The back ends that there are programs for; none where iptables is not installed."""
        return tuple(self._programs)

    def name(self, backend: str, family: int) -> str:
        """The program of a back end and family, as an administrator would call it."""
        return self._programs[backend].format(FAMILIES[family])

    def list_rules(self, backend: str, family: int, table: str) -> str | None:
        """The chains and rules of one table with their counters (`-S -v`); None if the program refuses."""
        done = _run([self.name(backend, family), "-t", table, "-S", "-v"])
        return done.stdout if done.returncode == 0 else None

    def save_legacy(self, family: int) -> str:
        """All tables of the legacy back end as its save program prints them; nothing where none was ever used."""
        if LEGACY not in self._programs or not legacy_tables(family):
            return ""
        program = f"{self.name(LEGACY, family)}-save"
        done = _run([program])
        if done.returncode != 0:
            raise OSError(f"{program}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def restore(self, backend: str, family: int, transaction: str) -> str:
        """Run one transaction, whole or not at all; return "" or what the program said against it."""
        if backend not in self._programs:
            return f"no {FAMILIES[family]} program for the {backend} back end"
        program = f"{self.name(backend, family)}-restore"
        done = _run([program, "--noflush", f"--wait={_LOCK_WAIT_S}"], transaction)
        return "" if done.returncode == 0 else f"{program}: {done.stderr.strip() or done.returncode}"


def legacy_tables(family: int) -> frozenset[str]:
    """The tables of the legacy back end that are in use in this network namespace; none for who is not root."""
    try:
        with open(_LEGACY_TABLES[family], encoding="ascii") as listed:
            return frozenset(listed.read().split())
    except FileNotFoundError:  # the kernel has not loaded it
        return frozenset()
    except PermissionError:  # only uid 0 may read it, and only uid 0 may take the lock of the legacy programs
        return frozenset()


def _programs() -> dict[str, str]:
    """By back end, the name of its programs with a place for the family's word."""
    path = _path()
    found = {each: f"{{}}-{each}" for each in (NFT, LEGACY) if shutil.which(f"iptables-{each}-restore", path=path)}
    if not found and shutil.which("iptables-restore", path=path):
        # Distributions with one back end give it the plain names; only its version line says which it is.
        found = {NFT if "nf_tables" in _run(["iptables", "--version"]).stdout else LEGACY: "{}"}
    return found


def _path() -> str:
    """Where the programs are, also for a caller whose PATH leaves the system directories out."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _run(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_TIMEOUT_S,
            check=False,
            env={"PATH": _path(), "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as late:
        raise TimeoutError(errno.ETIMEDOUT, f"{command[0]} did not end within {_TIMEOUT_S} s") from late
