"""What was last accepted from a directory, kept in the state directory across restarts.

Owns one file per manifest directory: written whole, beside, then renamed; with a version and a checksum; never in
the way of a change of limits, but by a thread of its own a few seconds later, and at the end. Nothing depends on it:
a state directory that cannot be used costs a warning, and what is lost is only that a limit whose file is broken at
the next start is not known any more, and that ages count from the files' times again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bandwidth_agent.source import durable, encoded, judge, later

VERSION = 2
DELAY_SECONDS = 5.0
_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")


class File(NamedTuple):
    """One manifest file as it was remembered."""

    signature: judge.Signature | None
    clean: bool  # nothing in it was broken, so with the same signature it need not be read again
    accepted: Mapping[str, judge.Accepted]  # by limit name


NO_FILE = File(None, False, {})


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """What an earlier process accepted."""

    files: Mapping[str, File]  # by file name
    first_seen: Mapping[str, float]  # by limit name, seconds since the epoch
    owners: Mapping[str, str]  # limit name → the file whose object counts
    same_boot: bool  # the kernel state of that process can still be there


EMPTY = Memory(files={}, first_seen={}, owners={}, same_boot=False)


class _Kept(NamedTuple):
    """What is to be remembered."""

    records: Mapping[str, judge.Record]
    first_seen: Mapping[str, float]
    owners: Mapping[str, str]


class Store:
    """Reads and writes the memory of one manifest directory."""

    def __init__(self, state_dir: pathlib.Path, manifests: pathlib.Path, program: str, *, writes: bool) -> None:
        digest = hashlib.sha256(os.fsencode(manifests)).hexdigest()[:16]
        self._path = state_dir / f"accepted-{digest}.json"
        self._program = program
        self._writes = writes
        self._file: later.Later[_Kept] = later.Later(
            self._path, self._encoded, name="accepted", delay_seconds=DELAY_SECONDS
        )

    @property
    def warning(self) -> str:
        """Why the state directory is of no use, "" if it is."""
        return self._file.warning

    def load(self) -> Memory:
        """What was remembered; EMPTY when there is nothing or nothing usable."""
        if self._writes:
            self._file.warning = durable.why_not_written(self._path)
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return EMPTY
        except OSError as error:
            self._file.warning = f"cannot read {self._path}: {error.strerror}"
            return EMPTY
        head, _, body = data.partition(b"\n")
        try:
            header = json.loads(head)
            if header["version"] != VERSION or header["sha256"] != hashlib.sha256(body).hexdigest():
                raise ValueError("another version or a wrong checksum")
            return _memory(header, json.loads(body), self._program)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._file.warning = f"{self._path} is not usable and starts anew: {error}"
            return EMPTY

    def save_soon(
        self, records: Mapping[str, judge.Record], first_seen: Mapping[str, float], owners: Mapping[str, str]
    ) -> None:
        """Write this within DELAY_SECONDS, or at `close`. The mappings must not be changed afterwards."""
        if self._writes:
            self._file.put(_Kept(records, first_seen, owners))

    def close(self) -> None:
        """Write what is waiting to be written."""
        self._file.close()

    def _encoded(self, kept: _Kept) -> bytes:
        body = _body(*kept)
        header = {
            "version": VERSION,
            "program": self._program,
            "layout": encoded.LAYOUT,
            "boot": _boot(),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        return json.dumps(header).encode() + b"\n" + body


def _body(records: Mapping[str, judge.Record], first_seen: Mapping[str, float], owners: Mapping[str, str]) -> bytes:
    files = []
    for name, record in records.items():
        limits = [[key, item.document, encoded.encode(item.entry)] for key, item in record.accepted.items()]
        # One file at a time, so that the loop's thread gets its turn in between.
        files.append(json.dumps([name, record.signature, record.clean, limits], separators=(",", ":")))
    rest = json.dumps({"firstSeen": first_seen, "owners": owners}, separators=(",", ":"))
    lines = ",\n".join(files)
    return f'{{"rest":{rest},"files":[\n{lines}\n]}}\n'.encode()


def _memory(header: Mapping[str, object], body: Mapping[str, object], program: str) -> Memory:
    files = {}
    entries, rest = body["files"], body["rest"]
    if not isinstance(entries, list) or not isinstance(rest, dict):
        raise TypeError("unexpected content")
    same_program = header["program"] == program and header["layout"] == encoded.LAYOUT
    first_seen: dict[str, float] = rest["firstSeen"]
    for name, signature, clean, limits in entries:
        known = judge.Signature(*signature) if signature is not None else None
        if same_program:
            found = {key: judge.Accepted(encoded.decode(fields), document, 0) for key, document, fields in limits}
        else:
            # What another version accepted is judged anew, and the files are read again.
            found, clean = _judged_again(limits, first_seen), False
        files[name] = File(known, clean, found)
    return Memory(
        files=files,
        first_seen=first_seen,
        owners=rest["owners"],
        same_boot=header["boot"] == _boot(),
    )


def _judged_again(
    limits: Iterable[tuple[str, str, object]], first_seen: Mapping[str, float]
) -> dict[str, judge.Accepted]:
    found = {}
    for key, document, _ in limits:
        item = judge.remembered(document, lambda name: first_seen.get(name, 0.0))
        if item is not None:
            found[key] = item
    return found


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def forget(state_dir: pathlib.Path) -> None:
    """Remove what any process remembered here; whatever cannot be removed stays."""
    for path in state_dir.glob("accepted-*.json"):
        with contextlib.suppress(OSError):
            path.unlink()
