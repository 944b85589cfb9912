"""The socket name that agents bind in their network namespace, and which process holds it.

An abstract unix socket, visible in every container of the network namespace. Any process can bind it, so it proves
nothing by itself: it was the lock of older versions, keeps such an agent out, and leads to the process id for a
message. Owns the decision which process counts as an agent.
"""

from __future__ import annotations

import errno
import os
import pathlib
import socket
import struct
from typing import NamedTuple

NAME = "client-bandwidth-agent"
PROGRAM = "bandwidth-agent"
_ADDRESS = f"\0{NAME}"
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_ASKED_MOST = 1024  # connections are never accepted; so many processes may look up the holder before it fails
_NET_ADMIN = 12
_ARGUMENTS = 4  # of a command line, in which the program is named: an interpreter and its options may come first


class Owner(NamedTuple):
    """The process that holds the name; `pid` is 0 if it is not visible here, in another container or on the host."""

    pid: int
    uid: int | None  # None: not known
    program: str
    agent: bool  # it is an agent for certain

    def __str__(self) -> str:
        user = "" if self.uid is None else f" of user {self.uid}"
        return f"process {self.pid} ({self.program}){user}" if self.pid else f"a process in another container{user}"


def take() -> socket.socket | None:
    """Bind the name; return None if another process holds it."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        bound.bind(_ADDRESS)
        bound.listen(_ASKED_MOST)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return bound


def owner() -> Owner | None:
    """Return the process that holds the name; None if no process does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(_ADDRESS)
            pid, uid, _ = _CREDENTIALS.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:  # it does not listen, or has too many connections
            inode = _inode()
            if not inode:
                return None
            pid, uid = _process_of(inode), None
    return described(pid, uid)


def described(pid: int, uid: int | None = None) -> Owner:
    """Return the user, the program and the kind of a process, as far as /proc shows them."""
    folder = pathlib.Path("/proc", str(pid))
    try:
        program = (folder / "comm").read_text().strip() if pid else ""
        uid = folder.stat().st_uid if pid else uid
    except OSError:
        program = ""
    if not program:
        return Owner(0, uid, "", agent=False)
    return Owner(pid, uid, program, agent=pid != os.getpid() and _is_agent(folder))


def _is_agent(folder: pathlib.Path) -> bool:
    """Return whether a process has an agent's command line and CAP_NET_ADMIN, which no process can fake."""
    try:
        words = (folder / "cmdline").read_bytes().split(b"\0")[:_ARGUMENTS]
        status = (folder / "status").read_text()
        ours = os.readlink("/proc/self/ns/user") == os.readlink(folder / "ns/user")
    except OSError:
        return False
    named = any(os.path.basename(word) == PROGRAM.encode() for word in words)
    rights = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
    return named and ours and bool(rights >> _NET_ADMIN & 1)


def _inode() -> str:
    """Return the inode of the socket that has the name; "" if none has. Waiting connections are listed as inode 0."""
    try:
        lines = pathlib.Path("/proc/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    named = (words[6] for line in lines if (words := line.split())[7:] == [f"@{NAME}"])
    return next((inode for inode in named if inode != "0"), "")


def _process_of(inode: str) -> int:
    """Return the pid of the process that holds a socket; 0 if it is not visible here."""
    for folder in pathlib.Path("/proc").glob("[1-9]*"):
        try:
            if any(os.readlink(entry.path) == f"socket:[{inode}]" for entry in os.scandir(folder / "fd")):
                return int(folder.name)
        except OSError:
            continue  # it ended, or is not ours to look into
    return 0
