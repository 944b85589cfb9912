"""The limits that policies made on one host, one file each, and the status of each policy, in the state directory.

    STATE/made/fair-use-03e9b06641.json     a limit; whoever deletes the file pardons the client
    STATE/policies.json                     what each policy sees, and whom it remembers

Owns these files. They are written by a thread of their own, so that no change of limits waits for a disk; what cannot
be written costs a warning, and a restart then knows less.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from bandwidth_agent.limits import atomic_file
from bandwidth_agent.policies import makers
from bandwidth_api.crds import limit
from bandwidth_api.crds.limit import Limit
from bandwidth_api.policy import made_limit

STATUSES = "policies.json"
DIRECTORY = makers.DIRECTORY
_SUFFIX = ".json"
_FILE_MAX_BYTES = 64 * 1024
_FILES_MAX = 10_000
_STATUSES_MAX_BYTES = 16 * 1024 * 1024

Json = dict[str, Any]


class MadeFiles:
    """The files of one state directory. Called by one thread."""

    def __init__(self, state_dir: pathlib.Path, *, writes: bool = True) -> None:
        self._made, self._statuses = state_dir / DIRECTORY, state_dir / STATUSES
        self._writes = writes
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="made")
        self._written: set[str] = set()  # limits whose file is there
        self._failed: dict[pathlib.Path, str] = {}  # by file: why it cannot be kept

    @property
    def warning(self) -> str:
        """Why not all can be kept, "" if it can."""
        return next(iter(tuple(self._failed.values())), "")

    def file_of(self, name: str) -> pathlib.Path:
        """Return the file of a limit."""
        return self._made / (name + _SUFFIX)

    def load(self) -> dict[str, Limit]:
        """Return the limits that are kept; a file that holds none that a policy made is left alone."""
        found = {}
        for name in self._listed():
            try:
                document = atomic_file.decoded(atomic_file.read(self.file_of(name), _FILE_MAX_BYTES))
            except (OSError, *atomic_file.ODD):
                continue
            parsed = limit.parse(document)
            if isinstance(parsed, Limit) and parsed.name == name and _is_made(parsed):
                found[name] = parsed
                self._written.add(name)
        return found

    def statuses(self) -> Mapping[str, Json]:
        """Return the status of each policy as it was written last, by name; empty where none can be read."""
        try:
            found = atomic_file.decoded(atomic_file.read(self._statuses, _STATUSES_MAX_BYTES))
        except (OSError, *atomic_file.ODD):
            return {}
        return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}

    def written_at(self) -> float | None:
        """Return when the statuses were written or confirmed last, seconds since the epoch; None: there are none."""
        try:
            return self._statuses.stat().st_mtime
        except OSError:
            return None

    def gone(self) -> frozenset[str]:
        """Return the limits whose files somebody deleted. Where the directory cannot be read nobody did."""
        known = frozenset(self._written)  # before the directory is read, since files are written meanwhile
        if not known:
            return frozenset()
        try:
            there = {name.removesuffix(_SUFFIX) for name in os.listdir(self._made)}
        except OSError:
            return frozenset()
        return known - there

    def keep(self, name: str, document: Json, *, change: bool) -> None:
        """Write a limit soon; one that is changed only if nobody has deleted its file."""
        change = change and name in self._written
        if not change:
            self._written.discard(name)
        self._submit(self._put, name, json.dumps(document, indent=2).encode() + b"\n", change)

    def delete(self, name: str) -> None:
        """Remove a limit's file soon."""
        self._written.discard(name)
        self._submit(self._remove, name)

    def keep_statuses(self, statuses: Mapping[str, Json]) -> None:
        """Write the status of each policy soon."""
        self._submit(self._put_statuses, json.dumps(statuses, indent=1).encode() + b"\n")

    def confirm_statuses(self) -> None:
        """Let `written_at` say soon that what is written is so still."""
        self._submit(self._touch_statuses)

    def close(self) -> None:
        """Write what is still to be written."""
        self._pool.shutdown()

    def _listed(self) -> Iterable[str]:
        try:
            names = sorted(os.listdir(self._made))[:_FILES_MAX]
        except OSError:
            return ()
        return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX) and not name.startswith(".")]

    def _submit(self, function: Any, *words: object) -> None:
        if self._writes:
            self._pool.submit(function, *words)

    def _put(self, name: str, data: bytes, change: bool) -> None:
        if change and not self.file_of(name).exists():
            return  # it is gone, and the next round finds that out
        if self._replaced(self.file_of(name), data):
            self._written.add(name)

    def _put_statuses(self, data: bytes) -> None:
        self._replaced(self._statuses, data)

    def _touch_statuses(self) -> None:
        with contextlib.suppress(OSError):  # why it could not be written is told already
            os.utime(self._statuses)

    def _replaced(self, path: pathlib.Path, data: bytes) -> bool:
        try:
            atomic_file.replace(path, data)
        except OSError as error:
            self._failed[path] = f"cannot write {path}: {error.strerror}; after a restart policies know less"
            return False
        self._failed.pop(path, None)
        return True

    def _remove(self, name: str) -> None:
        path = self.file_of(name)
        self._failed.pop(path, None)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            pass
        except OSError as error:
            self._failed[path] = f"cannot remove {path}: {error.strerror}"


def _is_made(found: Limit) -> bool:
    return found.created_at is not None and made_limit.read(found, found.created_at) is not None


def forget(state_dir: pathlib.Path) -> None:
    """Remove what policies made and remembered; whatever cannot be removed stays."""
    for path in (*(state_dir / DIRECTORY).glob("*.json"), state_dir / STATUSES):
        with contextlib.suppress(OSError):
            path.unlink()
