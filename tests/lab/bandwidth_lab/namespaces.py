"""Network namespaces that a test, the demo or a benchmark makes for itself, and their certain removal.

Every namespace is named `<prefix><pid>-<number>-<role>`, so that two runs never meet and the next run finds what a
killed one left behind. Never touches a namespace, an interface or a rule that it did not make.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import pathlib
import re
import select
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import IO, Protocol, Self, TypeVar

from bandwidth_lab import bpffs

T = TypeVar("T")

NETNS = pathlib.Path("/run/netns")
CLONE_NEWNET = 0x40000000
MNT_DETACH = 2
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TIMEOUT_SECONDS = 30.0

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


class Process(Protocol):
    """A program that was started in a namespace, as `subprocess.Popen` has it."""

    returncode: int | None

    @property
    def pid(self) -> int: ...
    @property
    def stdout(self) -> IO[str] | None: ...
    @property
    def stderr(self) -> IO[str] | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Namespace:
    """One network namespace. Made and removed by a `Lab`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._processes: list[Process] = []

    def __repr__(self) -> str:
        return f"Namespace({self.name!r})"

    def number(self) -> int:
        """The number that the kernel gives it: that of its file; 0 where it is gone already."""
        try:
            return (NETNS / self.name).stat().st_ino
        except FileNotFoundError:
            return 0

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in here to its end. With `check`, a failure raises with what it printed."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
        )
        if check and done.returncode:
            raise CommandError(self.name, command, done)
        return done

    def start(
        self,
        command: Sequence[str],
        *,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.STDOUT,
        stdin: int = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command in here; it is killed at the latest with the namespace.

        It is a session of its own: a Ctrl-C at the terminal reaches only the program that made the lab.
        """
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *command],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
            env=env,
        )
        self._processes.append(process)
        return process

    def adopt(self, process: Process) -> None:
        """Have a program that was started in here by other means end with the namespace too."""
        self._processes.append(process)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in a thread that has moved in here; sockets and /proc files that it opens stay of here."""
        results: list[T] = []
        failures: list[BaseException] = []

        def moved() -> None:
            try:
                descriptor = os.open(NETNS / self.name, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if _libc.setns(descriptor, CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), f"setns into {self.name}")
                finally:
                    os.close(descriptor)
                results.append(function())
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=moved, name=f"in-{self.name}")
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        return results[0]

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this namespace, usable from any thread."""
        return self.call(lambda: socket.socket(family, kind, protocol))

    def ip(self, *commands: str) -> None:
        """Run `ip` commands in here: `ip("link set lo up", "-6 rule add fwmark 7 table 5")`; alike ones in a batch."""
        for family, batch in itertools.groupby(commands, lambda command: command[:2] if command[0] == "-" else ""):
            lines = "".join(f"{command.removeprefix(family).strip()}\n" for command in batch)
            _run(["ip", "-n", self.name, *([family] if family else []), "-batch", "-"], stdin=lines)

    def tc(self, *commands: str) -> None:
        """Run `tc` commands in here, in one batch: `tc("qdisc add dev eth0 root handle 1: htb")`."""
        _run(["tc", "-n", self.name, "-batch", "-"], stdin="".join(f"{c}\n" for c in commands))

    def sysctl(self, settings: Mapping[str, str | int]) -> None:
        """Set sysctls of this namespace, by dotted name below `net.`."""

        def write() -> None:
            for name, value in settings.items():
                pathlib.Path("/proc/sys/net", *name.split(".")).write_text(str(value))

        self.call(write)

    def stop_processes(self) -> None:
        """End what was started in here, and whatever that has left behind."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2.0)
        kill_all_in(self.name)
        for process in self._processes:
            process.wait(timeout=TIMEOUT_SECONDS)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self._processes.clear()


class CommandError(Exception):
    """A command in a namespace failed; the message holds what it printed."""

    def __init__(self, where: str, command: Sequence[str], done: subprocess.CompletedProcess[str]) -> None:
        printed = (done.stdout + done.stderr).strip()
        super().__init__(f"{where}: {' '.join(command)} exited {done.returncode}\n{printed}")
        self.returncode = done.returncode


class Lab:
    """Makes namespaces and links, and removes them all at the end, whatever happened in between."""

    def __init__(self, prefix: str = "lab-") -> None:
        self.prefix = f"{prefix}{os.getpid()}-{next(_numbers)}-"
        self.namespaces: list[Namespace] = []
        remove_stale(prefix)
        bpffs.remove_stale()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def namespace(self, role: str) -> Namespace:
        """A new namespace with its loopback up and IPv6 usable at once (no duplicate address detection)."""
        made = Namespace(self.prefix + role)
        self.namespaces.append(made)
        _run(["ip", "netns", "add", made.name])
        made.call(_loopback_up)
        made.sysctl(
            {
                "ipv6.conf.all.accept_dad": 0,
                "ipv6.conf.default.accept_dad": 0,
                "ipv6.conf.all.accept_ra": 0,
                "ipv6.conf.default.accept_ra": 0,
                "ipv4.conf.all.rp_filter": 0,
                "ipv4.conf.default.rp_filter": 0,
            }
        )
        return made

    def link(self, one: Namespace, device: str, other: Namespace, peer: str, *, mtu: int = 1500) -> None:
        """A veth pair between two namespaces, both ends up."""
        one.ip(
            f"link add {device} mtu {mtu} type veth peer name {peer} mtu {mtu} netns {other.name}",
            f"link set {device} up",
        )
        other.ip(f"link set {peer} up")

    def discard(self, namespace: Namespace) -> None:
        """End what runs in one namespace of this lab and remove it; its name is free again."""
        self.namespaces.remove(namespace)
        namespace.stop_processes()
        bpffs.forget(namespace.number())
        remove(namespace.name)

    def close(self) -> None:
        """Remove everything this lab made. Idempotent; a second Ctrl-C does not interrupt it."""
        with _interrupts_held_back():
            while self.namespaces:
                namespace = self.namespaces.pop()
                namespace.stop_processes()
                bpffs.forget(namespace.number())
                remove(namespace.name)


def remove_stale(prefix: str) -> None:
    """Remove the namespaces with this prefix whose maker is dead."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)-\d+-")
    for path in NETNS.glob(f"{prefix}*"):
        match = pattern.match(path.name)
        if match and not pathlib.Path("/proc", match[1]).exists():
            kill_all_in(path.name)
            remove(path.name)


def remove(name: str) -> None:
    """Remove a namespace if it is there."""
    path = NETNS / name
    if _libc.umount2(os.fsencode(path), MNT_DETACH) and ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        raise OSError(ctypes.get_errno(), f"umount of {path}")
    path.unlink(missing_ok=True)


def kill_all_in(name: str) -> None:
    """Kill every process that lives in a namespace of ours; they have ended when this returns."""
    try:
        its = (NETNS / name).stat()
    except FileNotFoundError:
        return
    with contextlib.ExitStack() as stack:
        killed = []
        for process in [int(each.name) for each in pathlib.Path("/proc").iterdir() if each.name.isdecimal()]:
            if _lives_in(process, its):
                with contextlib.suppress(ProcessLookupError):
                    killed.append(os.pidfd_open(process))
                    stack.callback(os.close, killed[-1])
                    signal.pidfd_send_signal(killed[-1], signal.SIGKILL)
        for process in killed:
            select.select([process], [], [], TIMEOUT_SECONDS)


def _lives_in(process: int, namespace: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(f"/proc/{process}/ns/net"), namespace)
    except OSError:  # it has ended, or may not be looked at and is none of ours
        return False


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        request = struct.pack("16sh14x", b"lo", IFF_UP)
        fcntl.ioctl(asking, SIOCSIFFLAGS, request)


def _run(command: Sequence[str], stdin: str = "") -> None:
    """Run a command of the lab itself; raises with what it printed when it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    if done.returncode:
        raise CommandError("lab", [*command, stdin.strip()], done)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ignore Ctrl-C, SIGTERM and SIGHUP while cleaning up; only the main thread may set that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
