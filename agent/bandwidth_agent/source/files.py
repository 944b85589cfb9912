"""Files of a manifest directory as the file system shows them: which count, whether they changed, what they hold.

Remembers nothing and judges nothing.
"""

from __future__ import annotations

import os
import pathlib
import stat
from typing import NamedTuple

from bandwidth_agent.source import judge, manifest

SUFFIXES = (".yaml", ".yml", ".json")


class Listed(NamedTuple):
    """A file as a listing shows it."""

    link: bool
    signature: judge.Signature | None  # None: a symlink that leads nowhere


def listing(path: pathlib.Path) -> dict[str, Listed]:
    """All files that count, by name. Raises OSError when the directory cannot be listed."""
    with os.scandir(path) as entries:
        files = [entry for entry in entries if counts(entry.name) and not _is_directory(entry)]
        return {entry.name: Listed(entry.is_symlink(), _signature_of(entry)) for entry in files}


def counts(name: str) -> bool:
    """Whether a file of this name is a manifest: the suffix says so, and it is no editor's or mount's hidden file."""
    return name.lower().endswith(SUFFIXES) and not name.startswith((".", "#"))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _signature_of(entry: os.DirEntry[str]) -> judge.Signature | None:
    try:
        return signature(entry.stat())
    except OSError:
        return None


def signature(found: os.stat_result) -> judge.Signature:
    """What changes whenever the file does, but for a change within the same tick of the clock."""
    return judge.Signature(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)


def content(path: str) -> bytes:
    """The bytes of a regular file of a bounded size; never waits for a writer of a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is not a regular file")
        data = file.read(manifest.MAX_BYTES + 1) or b""
        while chunk := file.read(manifest.MAX_BYTES + 1 - len(data)):
            data += chunk
    if len(data) > manifest.MAX_BYTES:
        raise OSError(0, f"it is larger than {manifest.MAX_BYTES // 1024 // 1024} MiB")
    return data


def why(error: OSError) -> str:
    """The reason in words, for the middle of a sentence."""
    return (error.strerror or str(error)).lower()
