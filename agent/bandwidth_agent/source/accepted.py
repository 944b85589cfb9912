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
import threading
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bandwidth_agent.source import durable, encoded, judge

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


class Store:
    """Reads and writes the memory of one manifest directory."""

    def __init__(self, state_dir: pathlib.Path, manifests: pathlib.Path, program: str, *, writes: bool) -> None:
        digest = hashlib.sha256(os.fsencode(manifests)).hexdigest()[:16]
        self._path = state_dir / f"accepted-{digest}.json"
        self._program = program
        self._writes = writes
        self._condition = threading.Condition()
        self._pending: tuple[Mapping[str, judge.Record], Mapping[str, float], Mapping[str, str]] | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self.warning = ""  # why the state directory is of no use, if it is not

    def load(self) -> Memory:
        """What was remembered; EMPTY when there is nothing or nothing usable."""
        if self._writes:
            self.warning = durable.why_not_written(self._path)
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return EMPTY
        except OSError as error:
            self.warning = f"cannot read {self._path}: {error.strerror}"
            return EMPTY
        head, _, body = data.partition(b"\n")
        try:
            header = json.loads(head)
            if header["version"] != VERSION or header["sha256"] != hashlib.sha256(body).hexdigest():
                raise ValueError("another version or a wrong checksum")
            return _memory(header, json.loads(body), self._program)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.warning = f"{self._path} is not usable and starts anew: {error}"
            return EMPTY

    def save_soon(
        self, records: Mapping[str, judge.Record], first_seen: Mapping[str, float], owners: Mapping[str, str]
    ) -> None:
        """Write this within DELAY_SECONDS, or at `close`. The mappings must not be changed afterwards."""
        if not self._writes:
            return
        with self._condition:
            self._pending = (records, first_seen, owners)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="accepted", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Write what is waiting to be written."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()
        self._write_pending()

    def _run(self) -> None:
        while True:
            with self._condition:
                if self._condition.wait_for(lambda: self._closing, timeout=DELAY_SECONDS):
                    return
            self._write_pending()

    def _write_pending(self) -> None:
        with self._condition:
            pending, self._pending = self._pending, None
        if pending is None:
            return
        body = _body(*pending)
        header = {
            "version": VERSION,
            "program": self._program,
            "layout": encoded.LAYOUT,
            "boot": _boot(),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        try:
            durable.replace(self._path, json.dumps(header).encode() + b"\n" + body)
        except OSError as error:
            self.warning = f"cannot write {self._path}: {error.strerror}"
        else:
            self.warning = ""


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
