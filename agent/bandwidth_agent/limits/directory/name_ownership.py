"""Which file's object counts for each limit, when several files use one name.

Owns what was read from each file and who owns the names in it. Reads no file and no clock.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

from bandwidth_agent.limits.directory import last_good_state, validation
from bandwidth_api import plan
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds.policy import Policy


class NameOwnership:
    """The records of a directory's files, and the limits that they come to."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self.records: dict[str, validation.Record] = {}  # by file name
        self.entries: dict[str, plan.PlanEntry] = {}  # by limit name: what counts
        self.troubled: set[str] = set()  # files with problems, warnings or policies
        self.absent: set[str] = set()  # files that are gone, and whose successor is waited for
        self._files: dict[str, set[str]] = {}  # limit name → files that use it
        self._owners: dict[str, str] = {}  # limit name → the file whose object counts
        self._contested: set[str] = set()  # limit names in several files

    def __contains__(self, key: str) -> bool:
        """Whether any file uses this limit name."""
        return key in self._files

    @property
    def contested(self) -> dict[str, str]:
        """The limit names that several files use, with the file that counts."""
        return {key: self._owners[key] for key in self._contested}

    def replace(self, name: str, record: validation.Record | None) -> set[str]:
        """Put a file's record in place of the one before; returns the limits that have to be settled again."""
        before = self.records.get(name)
        lost = before.accepted if before is not None else {}
        found = record.accepted if record is not None else {}
        for key in lost.keys() - found.keys():
            self._files[key].discard(name)
        for key in found:
            self._files.setdefault(key, set()).add(name)
        if record is None:
            self.records.pop(name, None)
        else:
            self.records[name] = record
        if record is None or record.clean:
            self.troubled.discard(name)
        else:
            self.troubled.add(name)
        return {key for key in lost.keys() | found.keys() if lost.get(key) is not found.get(key)}

    def settle(self, key: str, memory: last_good_state.Memory) -> None:
        """Decide whose object counts: the one accepted first stays, if only by an earlier process, which `memory` is
        of; among new ones the first file by path."""
        files = self._files[key]
        if not files:
            for mapping in (self._files, self._owners, self.entries):
                mapping.pop(key, None)
            self._contested.discard(key)
            return
        self._owners[key] = owner = self._owner(key, files, memory)
        self.entries[key] = self.records[owner].accepted[key].entry
        (self._contested.add if files - self.absent - {owner} else self._contested.discard)(key)

    def _owner(self, key: str, files: set[str], memory: last_good_state.Memory) -> str:
        if key not in self._contested and files - self.absent:
            files = files - self.absent  # a limit that moves from a file that is gone to a new one
        if len(files) > 1:
            known = (self._owners.get(key), memory.owners.get(key))
            held = (name for name in files if key in memory.files.get(name, last_good_state.NO_FILE).accepted)
            return next((name for name in known if name in files), "") or min(held, default="") or min(files)
        (name,) = files
        return name

    def problems(self) -> Iterator[Problem]:
        """What is broken in the files, and which objects do not count."""
        for name in sorted(self.troubled):
            yield from self.records[name].problems
        for key in sorted(self._contested):
            yield from self._duplicates(key)

    def warnings(self) -> Iterator[str]:
        for name in sorted(self.troubled):
            yield from self.records[name].warnings

    def policies(self) -> tuple[Policy, ...]:
        """The policies of all files, each name once: of several the one in the first file by path counts."""
        found: dict[str, Policy] = {}
        for name in sorted(self.troubled):  # a file with a policy is never clean
            for key, policy in self.records[name].policies.items():
                found.setdefault(key, policy)
        return tuple(found.values())

    def _duplicates(self, key: str) -> Iterator[Problem]:
        owner = self._path / self._owners[key]
        for name in sorted(self._files[key] - self.absent - {self._owners[key]}):
            file, field = str(self._path / name), "metadata.name"
            message = f"{file}: {field}: {key} is also in {owner}, which was accepted first and counts; remove one"
            yield Problem(Reason.DUPLICATE_NAME, message, field, key, file)

    def file_of(self, key: str) -> str:
        """The file that a limit is from, "" for one that is in none."""
        owner = self._owners.get(key)
        return "" if owner is None else str(self._path / owner)
