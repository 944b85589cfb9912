"""Files that are complete at any moment, on the disk too. Owns how they are written and read.

Contains nothing about their content, and trusts nothing: a file may have been written by any program. ODD are the
errors of a value that has not the expected type; readers treat them as "not usable".
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import stat
from typing import Any, NoReturn

READ_MAX_BYTES = 256 << 20
ODD = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def why_not_written(path: pathlib.Path) -> str:
    """Return why this file could not be written, before there is anything to write; makes its directory."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot make {path.parent}: {error.strerror}"
    if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
        return f"cannot write in {path.parent}: it is read-only for this process"
    return ""


def replace(path: pathlib.Path, data: bytes) -> None:
    """Write a file so that at any moment it has either the old or the new content. Raises OSError."""
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


def read(path: pathlib.Path, most: int = READ_MAX_BYTES) -> bytes:
    """Read a whole file of ours. Raises OSError if there is none, ValueError if it is no file or too large."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    return data


def decoded(data: bytes) -> Any:
    """Parse JSON as we write it: UTF-8, no NaN, nesting of a bounded depth. Raises ValueError for all else."""
    try:
        return _DECODER.decode(data.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def sweep(path: pathlib.Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote this file."""
    for beside in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):
            beside.unlink()
