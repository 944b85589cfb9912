"""Reads the files of a manifest directory: which of them are manifests, whether they changed, what they contain.

Keeps nothing and decides nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import signal
import stat
from collections.abc import Iterator
from typing import NamedTuple

STARVED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # what this process or this machine lacks for now
MAX_BYTES = 16 * 1024 * 1024
SUFFIXES = (".yaml", ".yml", ".json")


class Signature(NamedTuple):
    """The values by which a change of a file is noticed."""

    modified_ns: int
    changed_ns: int
    size: int
    inode: int
    device: int


class Listed(NamedTuple):
    """A file as a listing shows it."""

    link: bool
    signature: Signature | None  # None: a symlink that leads nowhere


def listing(path: pathlib.Path) -> dict[str, Listed]:
    """Return all manifest files by name. Raises OSError if the directory cannot be listed."""
    with os.scandir(path) as entries:
        files = [entry for entry in entries if counts(entry.name) and not _is_directory(entry)]
        return {entry.name: Listed(entry.is_symlink(), _signature_of(entry)) for entry in files}


def counts(name: str) -> bool:
    """Return whether a file of this name is a manifest: by its suffix, and no hidden file of an editor or a mount."""
    return name.lower().endswith(SUFFIXES) and not name.startswith((".", "#"))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _signature_of(entry: os.DirEntry[str]) -> Signature | None:
    try:
        return signature(entry.stat())
    except OSError:
        return None


def signature(found: os.stat_result) -> Signature:
    """Return values that change whenever the file does, except within the same tick of the clock."""
    return Signature(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)


class Seen(NamedTuple):
    """A file, open for reading while it is examined."""

    signature: Signature | None  # None: nothing, a directory, or a symlink that leads nowhere
    writing: bool | None  # a process has it open for writing; None: unknown
    descriptor: int  # -1: not open
    error: OSError | None = None  # why it cannot be read
    directory: bool = False


@contextlib.contextmanager
def seen(path: str) -> Iterator[Seen]:
    """Open and examine a path. Never waits for the writer of a pipe, and never raises for any kind of file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        yield Seen(None, None, -1)
        return
    except OSError as error:
        yield Seen(_signature_at(path), None, -1, error)
        return
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            yield Seen(None, None, -1, directory=True)
        elif not stat.S_ISREG(found.st_mode):
            yield Seen(signature(found), None, -1, OSError(0, "it is not a regular file"))
        else:
            yield Seen(signature(found), _writing(descriptor), descriptor)
    finally:
        os.close(descriptor)


def _writing(descriptor: int) -> bool | None:
    """Return whether any process has this file open for writing: then the kernel grants no read lease on it.

    The lease is given back at once; a process that opens the file for writing meanwhile waits for that, and the signal
    that the kernel then sends to us is one that is ignored.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None  # a file of another user, and no CAP_LEASE; a file system without leases
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _signature_at(path: str) -> Signature | None:
    try:
        return signature(os.stat(path))
    except OSError:
        return None


def content(descriptor: int) -> bytes:
    """Return the bytes of a regular file of a bounded size. Raises OSError."""
    data = os.read(descriptor, MAX_BYTES + 1)
    while chunk := os.read(descriptor, MAX_BYTES + 1 - len(data)):
        data += chunk
    if len(data) > MAX_BYTES:
        raise OSError(0, f"it is larger than {MAX_BYTES // 1024 // 1024} MiB")
    return data


def why(error: OSError) -> str:
    """Return the reason of an OSError as text, for the middle of a sentence."""
    return (error.strerror or str(error)).lower()
