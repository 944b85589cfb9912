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
from collections.abc import Callable, Container, Iterable, Mapping
from typing import NamedTuple

from bandwidth_agent.limits import atomic_file, background_writer
from bandwidth_agent.limits.directory import validation
from bandwidth_agent.limits.directory.filesystem.files import Signature
from bandwidth_api import json_values, names, plan

VERSION = 2
LAYOUT = "exact entries"  # how entries are written; what another layout holds is validated again from its documents
DELAY_SECONDS = 5.0
_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")


class File(NamedTuple):
    """One manifest file as it was remembered."""

    signature: Signature | None
    clean: bool  # nothing in it was broken, so with the same signature it need not be read again
    accepted: Mapping[str, validation.Accepted]  # by limit name


NO_FILE = File(None, False, {})


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """What an earlier process accepted."""

    files: Mapping[str, File]  # by file name
    first_seen: Mapping[str, float]  # by limit name, seconds since the epoch
    owners: Mapping[str, str]  # limit name → the file whose object counts
    same_boot: bool  # the kernel state of that process can still be there

    def unchanged(self, path: str, signature: Signature) -> validation.Record | None:
        """The record of a file in which nothing broken was found, if it is still that file."""
        file = self.files.get(os.path.basename(path))
        if file is None or not file.clean or file.signature != signature:
            return None
        return validation.Record(path, signature, file.accepted)

    def holds(self, name: str, record: validation.Record) -> bool:
        """Whether the record is what is remembered of the file."""
        file = self.files.get(name)
        return file is not None and record.accepted is file.accepted

    def of(self, path: str, in_force: Callable[[], Container[str]]) -> validation.Record | None:
        """What was accepted from a file, as far as it is still in force; `in_force`: by cut name, asked if need be.

        After a reboot nothing is in force, and what was accepted counts; within one boot, what is not in the kernel
        was taken out of it on purpose, and a broken file must not bring it back.
        """
        file = self.files.get(os.path.basename(path))
        if file is None:
            return None
        kept = {
            key: item
            for key, item in file.accepted.items()
            if not self.same_boot or names.short_limit(key) in in_force()
        }
        return validation.Record(path, None, kept)


EMPTY = Memory(files={}, first_seen={}, owners={}, same_boot=False)


class _Kept(NamedTuple):
    """What is to be remembered."""

    records: Mapping[str, validation.Record]
    first_seen: Mapping[str, float]
    owners: Mapping[str, str]


class Store:
    """Reads and writes the memory of one manifest directory."""

    def __init__(self, state_dir: pathlib.Path, manifests: pathlib.Path, program: str, *, writes: bool) -> None:
        digest = hashlib.sha256(os.fsencode(manifests)).hexdigest()[:16]
        self._path = state_dir / f"accepted-{digest}.json"
        self._program = program
        self._writes = writes
        self._file: background_writer.BackgroundWriter[_Kept] = background_writer.BackgroundWriter(
            self._path, self._encoded, name="accepted", delay_seconds=DELAY_SECONDS
        )

    @property
    def warning(self) -> str:
        """Why the state directory is of no use, "" if it is."""
        return self._file.warning

    def load(self) -> Memory:
        """What was remembered; EMPTY when there is nothing or nothing usable."""
        if self._writes:
            self._file.warning = atomic_file.why_not_written(self._path)
        try:
            head, _, body = atomic_file.read(self._path).partition(b"\n")
            header = atomic_file.decoded(head)
            if header["version"] != VERSION or header["sha256"] != hashlib.sha256(body).hexdigest():
                raise ValueError("another version or a wrong checksum")
            return _memory(header, atomic_file.decoded(body), self._program)
        except FileNotFoundError:
            return EMPTY
        except OSError as error:
            self._file.warning = f"cannot read {self._path}: {error.strerror}"
            return EMPTY
        except atomic_file.ODD as error:
            self._file.warning = f"{self._path} cannot be used and is begun again: {error}"[:300]
            return EMPTY

    def save_soon(
        self, records: Mapping[str, validation.Record], first_seen: Mapping[str, float], owners: Mapping[str, str]
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
            "layout": LAYOUT,
            "boot": _boot(),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        return json.dumps(header).encode() + b"\n" + body


def _body(
    records: Mapping[str, validation.Record], first_seen: Mapping[str, float], owners: Mapping[str, str]
) -> bytes:
    files = []
    for name, record in records.items():
        limits = [
            [key, item.document, plan.write_entry(item.entry, exact=True)] for key, item in record.accepted.items()
        ]
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
    same_program = header["program"] == program and header["layout"] == LAYOUT
    first_seen = {json_values.text(name): json_values.seconds(seen) for name, seen in rest["firstSeen"].items()}
    owners = {json_values.text(name): json_values.text(file) for name, file in rest["owners"].items()}
    for name, signature, clean, limits in entries:
        known = Signature(*map(json_values.whole, signature)) if signature is not None else None
        if type(clean) is not bool:
            raise TypeError("unexpected content")
        if same_program:
            found = {
                json_values.text(key): validation.Accepted(
                    plan.read_entry(entry, exact=True), json_values.text(document), 0
                )
                for key, document, entry in limits
            }
            if any(key != item.entry.limit for key, item in found.items()):
                raise ValueError("a limit of another name than its own")
        else:
            # What another version accepted is validated again, and the files are read again.
            found, clean = _validated_again(limits, first_seen), False
        files[json_values.text(name)] = File(known, clean, found)
    return Memory(
        files=files,
        first_seen=first_seen,
        owners=owners,
        same_boot=header["boot"] == _boot(),
    )


def _validated_again(
    limits: Iterable[tuple[str, str, object]], first_seen: Mapping[str, float]
) -> dict[str, validation.Accepted]:
    found = {}
    for key, document, _ in limits:
        item = validation.remembered(document, lambda name: first_seen.get(name, 0.0))
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
