"""Runs the programs of iptables, and finds out which are installed.

Owns the processes; does not interpret the tables. A program runs in the network namespace of the calling thread, with a
bound on its time. The legacy programs create a table by listing it, so they are run only for tables that are in use.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel.linux.netfilter import xtables_lock

NFT, LEGACY = "nft", "legacy"
FAMILIES = {4: "iptables", 6: "ip6tables"}

# Of the calling thread's namespace; /proc/net would be the main thread's.
_LEGACY_TABLES = {4: "/proc/thread-self/net/ip_tables_names", 6: "/proc/thread-self/net/ip6_tables_names"}
_NOT_NOW = 4  # exit code RESOURCE_PROBLEM: the lock is held, or the kernel was short of something
_LOCK_WAIT_S = 10
_TIMEOUT_S = 30  # for a program to end, and for each line that it is given:
_TIMEOUT_S_PER_LINE = 0.004  # ten times what one takes on two cores; the most there can be stay below the watchdog


class Listing(NamedTuple):
    """What a program printed, or None and the reason."""

    text: str | None
    refusal: str


class Saved(NamedTuple):
    """The tables that could be printed, and by table why the others could not."""

    text: str
    refusals: Mapping[str, str]


class IpTablesTools:
    """The installed programs of iptables."""

    def __init__(self) -> None:
        self._programs = _programs()

    @property
    def backends(self) -> tuple[str, ...]:
        """Return the back ends that have programs; none if iptables is not installed."""
        return tuple(self._programs)

    def name(self, backend: str, family: int) -> str:
        """Return the name of the program of a back end and family, as an administrator would call it."""
        return self._programs[backend].format(FAMILIES[family])

    def list_rules(self, backend: str, family: int, table: str, chain: str = "") -> Listing:
        """Print the chains and rules of a table, or of one chain of it, with their counters (`-S -v`)."""
        program = self.name(backend, family)
        done = _run([program, "-t", table, "-S", *([chain] if chain else []), "-v"])
        if done.returncode == 0:
            return Listing(done.stdout, "")
        refusal = f"{program} -t {table} -S {chain}".rstrip() + f": {done.stderr.strip() or done.returncode}"
        if done.returncode == _NOT_NOW:
            raise OSError(errno.EAGAIN, refusal)
        return Listing(None, refusal)

    def save_legacy(self, family: int) -> Saved:
        """Print all tables of the legacy back end with its save program; nothing if none was ever used."""
        if LEGACY not in self._programs:
            return Saved("", {})
        program = f"{self.name(LEGACY, family)}-save"
        printed, refusals = "", dict[str, str]()
        if tables := legacy_tables(family):
            done = _run([program])
            if done.returncode == 0:
                return Saved(done.stdout, {})
        for table in sorted(tables):  # one rule that cannot be printed must not hide the other tables
            done = _run([program, "-t", table])
            if done.returncode == 0:
                printed += done.stdout
            elif done.returncode == _NOT_NOW:
                raise OSError(errno.EAGAIN, f"{program} -t {table}: {done.stderr.strip()}")
            else:
                refusals[table] = f"{program} -t {table}: {done.stderr.strip() or done.returncode}"
        return Saved(printed, refusals)

    def restore(self, backend: str, family: int, transaction: str) -> str:
        """Run one transaction, which is applied wholly or not at all; return "" or the error that the program printed.

        Raises OSError if it could not get the lock that all programs of iptables-legacy share; each attempt waits.
        """
        if backend not in self._programs:
            return f"no {FAMILIES[family]} program for the {backend} back end"
        program = f"{self.name(backend, family)}-restore"
        done = _run([program, "--noflush", f"--wait={_LOCK_WAIT_S}"], transaction)
        if done.returncode == 0:
            return ""
        locked = xtables_lock.trouble() if backend == LEGACY and done.returncode == _NOT_NOW else ""
        complaint = " ".join(done.stderr.split()) or str(done.returncode)
        if locked:
            raise OSError(errno.EAGAIN, f"{program}: {complaint}; {locked}")
        return f"{program}: {complaint}"


def legacy_tables(family: int) -> frozenset[str]:
    """Return the tables of the legacy back end in use in this network namespace; none if we are not root."""
    try:
        with open(_LEGACY_TABLES[family], encoding="ascii") as listed:
            return frozenset(listed.read().split())
    except FileNotFoundError:  # the kernel has not loaded it
        return frozenset()
    except PermissionError:  # only uid 0 may read it, and only uid 0 may take the lock of the legacy programs
        return frozenset()


def _programs() -> dict[str, str]:
    """Return by back end the name of its programs, with a placeholder for the family."""
    path = _path()
    found = {each: f"{{}}-{each}" for each in (NFT, LEGACY) if shutil.which(f"iptables-{each}-restore", path=path)}
    if not found and shutil.which("iptables-restore", path=path):
        # Distributions with one back end give it the plain names; only its version line shows which it is.
        found = {NFT if "nf_tables" in _run(["iptables", "--version"]).stdout else LEGACY: "{}"}
    return found


def _path() -> str:
    """Return the PATH to find the programs with, also if our own PATH lacks the system directories."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _run(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    seconds = _TIMEOUT_S + _TIMEOUT_S_PER_LINE * text.count("\n")
    try:
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=seconds,
            check=False,
            env={"PATH": _path(), "LC_ALL": "C"},
            close_fds=False,  # the lock is handed down: if we are killed, it is held until no program of ours goes on
        )
    except subprocess.TimeoutExpired as late:
        raise TimeoutError(errno.ETIMEDOUT, f"{command[0]} did not end within {seconds:.0f} s") from late
