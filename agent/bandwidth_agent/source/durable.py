"""Files that are whole at any moment, on the disk too. Owns how they are written; knows nothing of what is in them."""

from __future__ import annotations

import contextlib
import os
import pathlib


def why_not_written(path: pathlib.Path) -> str:
    """What will keep this file from being written, told before there is anything to write; makes its directory."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot make {path.parent}: {error.strerror}"
    if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
        return f"cannot write in {path.parent}: it is read-only for this process"
    return ""


def replace(path: pathlib.Path, data: bytes) -> None:
    """Write a file so that at any moment either the old or the new content is there. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def sweep(path: pathlib.Path) -> None:
    """Remove what a process that was killed while writing this file left beside it."""
    for beside in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):
            beside.unlink()
