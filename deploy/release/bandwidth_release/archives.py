"""Archives whose bytes follow from their contents: of image layers, the chart, the plugin. No clock is read."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pathlib
import tarfile
from collections.abc import Callable, Mapping
from typing import IO, NamedTuple

_LEVEL = 6
_CHUNK = 1 << 20
_VOLATILE = ("mtime", "atime", "ctime")


class Layer(NamedTuple):
    """A layer of an image: a compressed file, and the digests of what it holds and of the file itself."""

    path: pathlib.Path
    diff_id: str
    digest: str
    size: int


def rewritten(source: IO[bytes], target: pathlib.Path, latest: Callable[[str], int]) -> Layer:
    """Write a layer again with no entry newer than `latest(path)` seconds, compressed.

    The order is kept: hard links stand behind what they lead to.
    """
    with target.open("wb") as file:
        packed = _Digesting(file)
        with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=_LEVEL, mtime=0) as compressed:
            plain = _Digesting(compressed)
            with (
                tarfile.open(fileobj=source, mode="r:") as read,
                tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as written,
            ):
                for entry in read:
                    entry.mtime = min(int(entry.mtime), latest(entry.name))
                    entry.pax_headers = {k: v for k, v in entry.pax_headers.items() if k not in _VOLATILE}
                    written.addfile(entry, read.extractfile(entry) if entry.isreg() else None)
    return Layer(target, plain.digest, packed.digest, packed.size)


def packed(files: Mapping[str, pathlib.Path | bytes], target: pathlib.Path, time: int) -> None:
    """A .tar.gz of these files by their names in it, executable where they are on disk, all of one time."""
    with (
        target.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=9, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as written,
    ):
        for name, source in sorted(files.items()):
            content = source if isinstance(source, bytes) else source.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), time
            executable = not isinstance(source, bytes) and os.access(source, os.X_OK)
            entry.mode = 0o755 if executable else 0o644
            written.addfile(entry, io.BytesIO(content))


def repacked(archive: pathlib.Path, target: pathlib.Path, time: int) -> None:
    """A .tar.gz of regular files again, in the order of their names and all of one time."""
    with tarfile.open(archive) as read:
        files = {entry.name: _content(read, entry) for entry in read if entry.isreg()}
    packed(files, target, time)


def sha256(path: pathlib.Path) -> str:
    """The digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(entry)
    return file.read() if file else b""


class _Digesting(io.RawIOBase):
    """Hands on what is written, and knows its digest and size."""

    def __init__(self, target: IO[bytes] | gzip.GzipFile) -> None:
        self._target = target
        self._hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._hash.update(data)
        self.size += len(data)
        self._target.write(data)
        return len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"
