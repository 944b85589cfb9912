"""Ensures one agent per network namespace, by locks that only processes with power over its traffic can hold.

    lock        excludes                                        which processes can hold it
    ──────────  ──────────────────────────────────────────────  ────────────────────────────────────────────────
    log group   every agent of the network namespace, in any    those with CAP_NET_ADMIN over it
                container or mount namespace
    file        agents with the same state directory; used      those that can write there: root
                where the kernel has no log groups
    name        agents of older versions, which have no other   any, so its holder is examined (`lock_name`): an
                lock                                            agent is waited for or refused, another program is
                                                                logged and ignored

Each lock ends with its process, however that ends; the first two with the last program that it had started, so that
what a killed agent leaves to iptables never acts after its successor. Owns the decision; `lock_name` and `log_group`
own the locks.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import socket
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self, TypeVar

import structlog

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.netfilter import log_group
from bandwidth_agent.process import lock_name

T = TypeVar("T")

UNSEEN_SECONDS = (
    15.0  # an agent being stopped in another container has ended by then, and so has iptables of a killed one
)
_STEP_SECONDS = 0.25

log = structlog.get_logger("lock")


class HeldError(Exception):
    """Another process holds the lock; `pid` is 0 if it is not visible in this container."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"process {pid}" if pid else "in another container")
        self.pid = pid


class Lock:
    """The lock of this network namespace, held from its creation; raises HeldError if another agent holds it.

    May wait for UNSEEN_SECONDS. Raises OSError if the system refuses a socket or the file.
    """

    def __init__(self, folder: pathlib.Path, pause: Callable[[float], None] = time.sleep) -> None:
        with ExitStack() as held:
            group = patiently(_group, pause)
            if group is not None:
                held.callback(group.close)
            else:
                _lock_file(held, folder, pause)
            name = _named(pause)
            if name is not None:
                held.callback(name.close)
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()


def running() -> bool | None:
    """Return whether an agent runs in this network namespace; None where that is not known. Takes no lock."""
    held = log_group.held()
    if held is False:  # one of an older version has a name alone
        owner = lock_name.owner()
        return owner is not None and owner.agent
    return held


def patiently(take: Callable[[], T], pause: Callable[[float], None]) -> T:
    """What `take` gives. While it is held, but by no agent that is seen to live, it is tried again.

    The holder may be a program of an agent that was killed, such as iptables, or one that was just being started.
    """
    waited = 0.0
    while True:
        try:
            return take()
        except HeldError as held:
            if held.pid or waited >= UNSEEN_SECONDS:
                raise
        if not waited:
            log.info("waits for what an agent has left running, or for one in another container to end")
        pause(_STEP_SECONDS)
        waited += _STEP_SECONDS


def _group() -> netlink.Socket | None:
    try:
        return log_group.hold()
    except log_group.HeldError:
        raise HeldError(_pid()) from None


def _named(pause: Callable[[float], None]) -> socket.socket | None:
    """Bind the name; return None if a program that is no agent has it. Raises HeldError."""
    waited, owner = 0.0, None
    while (bound := lock_name.take()) is None:
        found = lock_name.owner()
        if owner is None or found is None or found.pid or found.uid is not None:
            owner = found  # otherwise keep what was found before its socket had too many connections
        if owner is not None and owner.agent:
            raise HeldError(owner.pid)
        unseen_root = owner is None or (owner.pid == 0 and owner.uid in (None, 0))
        if not unseen_root or waited >= UNSEEN_SECONDS:
            log.warning(
                "another program has bound the socket name of the agent; ignored, for it is not the lock",
                name=f"@{lock_name.NAME}",
                by=str(owner or "a process that is not known"),
            )
            return None
        pause(_STEP_SECONDS)
        waited += _STEP_SECONDS
    return bound


def _pid() -> int:
    """Return the pid of the agent that holds the log group; 0 if it is not visible here."""
    by_port = lock_name.described(log_group.holder())
    if by_port.agent:
        return by_port.pid
    by_name = lock_name.owner()
    return by_name.pid if by_name is not None and by_name.agent else 0


def _lock_file(held: ExitStack, folder: pathlib.Path, pause: Callable[[float], None]) -> None:
    try:
        held.callback(os.close, patiently(lambda: locked_file(folder), pause))
    except OSError as error:  # one agent works without a lock, but a second one would not be noticed
        log.warning("this kernel and this state directory allow no lock against a second agent", why=str(error))


def locked_file(folder: pathlib.Path) -> int:
    """Lock this network namespace's file in `folder` and return its descriptor. Raises HeldError and OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"agent-{os.stat('/proc/self/ns/net').st_ino}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()):
            raise PermissionError(0, f"{path} is not root's; remove it")
        os.fchmod(descriptor, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            written = os.pread(descriptor, 20, 0).decode("ascii", "replace")
            owner = lock_name.described(int(written) if written.isdecimal() else 0)
            raise HeldError(owner.pid if owner.agent else 0) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        os.set_inheritable(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
