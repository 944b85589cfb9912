"""A directory of manifest files as the source of a host's limits.

Owns when files are read again and what they come to. The directory is followed by `followed_directory`, a file is read
by `file_reader` once `settling` finds it whole, validated by `validation`, `name_ownership` decides between two files
that use one name, and `last_good_state` is what outlives the process.

    followed_directory ──names──▶ examine, wait while a file is being saved ──▶ read ──▶ name_ownership ──▶ Wanted

A directory that is gone, for whatever reason, lifts nothing: what was accepted stays until it is back.
"""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable, Container, Iterable, Mapping
from types import MappingProxyType

from bandwidth_agent.limits import Wanted
from bandwidth_agent.limits.directory import file_reader, last_good_state, name_ownership, validation
from bandwidth_agent.limits.directory.filesystem import files, followed_directory
from bandwidth_api import plan
from bandwidth_api.compiler import compile as compiler
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds.policy import Policy

RELIST_SECONDS = followed_directory.RELIST_SECONDS
SETTLE_SECONDS = 12.0  # a program that reads once waits so long for saves under way


class ManifestSource:
    """Follows the manifests of one directory, for this host as the one node of its own plan.

    `labels` are what the limits' node selectors see; `in_force` returns the limits that the kernel holds, by cut name.
    """

    def __init__(
        self,
        path: pathlib.Path,
        store: last_good_state.Store,
        labels: Mapping[str, str],
        *,
        in_force: Callable[[], Container[str]],
        refuse: validation.Refuse = validation.refuse_none,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = pathlib.Path(os.path.abspath(path))
        self._store = store
        self._labels = dict(labels)
        self._monotonic = monotonic
        self._directory = followed_directory.FollowedDirectory(self._path)
        self._reader = file_reader.FileReader(
            self._path, store.load(), in_force=in_force, refuse=refuse, monotonic=monotonic, wall=wall
        )
        self._names = name_ownership.NameOwnership(self._path)
        self._noted: set[str] = set()  # files to examine
        self._dirty: set[str] = set()  # files to read
        self._unread: set[str] = set()  # files of the first listing of which nothing is known yet
        self._relist = True
        self._listed_at = self._again_at = float("-inf")
        self._listed = False  # the directory was listed once
        self._unsaved = False
        self._changed = True  # what `wanted` returns is not of what is known now
        # As of the last `read`:
        self._plan = plan.Plan({})  # all limits but the disabled
        self.problems: tuple[Problem, ...] = ()  # one for each thing that is broken, a kept limit's included
        self.warnings: tuple[str, ...] = ()  # worth knowing, but no limit suffers from it
        self.complete = False  # everything has been read, so what is not there may be deleted

    # ── what may have changed ──────────────────────────────────────────────────────────────────────────────────

    def fileno(self) -> int | None:
        """The watch's descriptor, or None while the directory has to be polled."""
        return self._directory.fileno()

    def due(self) -> float | None:
        """When to `drain` again even without an event, because a save is under way; monotonic seconds."""
        return None if self._directory.gone else self._reader.settling.due()

    def drain(self) -> bool:
        """Take note of events; True if anything that counts has changed. Cheap enough for every turn."""
        now = self._monotonic()
        noticed = self._directory.noticed()
        settling = self._reader.settling
        settling.heard(noticed.names, now)
        self._relist |= noticed.relist
        self._noted |= {name for name in noticed.names if files.counts(name)}
        if self._directory.identity() != self._directory.root:
            self._relist = True
        if not self._relist and now - self._listed_at >= self._directory.poll_seconds():
            self._noted |= self._differing()
        if now - self._again_at >= RELIST_SECONDS:
            self._again_at = now
            self._dirty |= {name for name in self._names.troubled if self._names.records[name].again}
        if not self._relist and not self._directory.gone:
            self._dirty |= {name for name in self._noted | settling.ripe(now) if self._ready(name)}
            self._noted = set()
        self._changed |= self._relist or bool(self._dirty)
        return self._changed

    def look_again(self) -> None:
        """Make the next `wanted` list the directory, and read again each file that differs or had a problem."""
        self._relist = self._changed = True
        self._noted |= self._names.troubled

    def _differing(self) -> set[str]:
        """The files whose signature is not the one that was read."""
        gone = self._directory.gone
        found = self._listing()
        if found is None or gone:
            self._relist = found is not None  # it is back: everything may be different
            return set()
        return self._changed_in(found) | (self._names.records.keys() - found.keys())

    def _changed_in(self, found: Mapping[str, files.Listed]) -> set[str]:
        records = self._names.records
        return {
            name
            for name, (_, signature) in found.items()
            if name not in records or signature is None or records[name].signature != signature
        }

    def _listing(self) -> dict[str, files.Listed] | None:
        self._listed_at = self._monotonic()
        return self._directory.listing()

    def _ready(self, name: str) -> bool:
        """Whether this file is whole, and so to be read now."""
        self._reader.events_missing = bool(self._directory.unwatched_reason)
        ready, gone = self._reader.examine(name, self._names.records.get(name))
        if gone:
            self._names.absent.add(name)
        return ready

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────────────

    def wanted(self, now: float) -> Wanted:
        """What this host should enforce at `now`, seconds since the epoch; reads first what changed."""
        if self._changed:
            self.read()
        return Wanted(
            entries=compiler.active(self._plan, self._labels, now),
            problems=self.problems,
            complete=self.complete,
            until=compiler.next_expiry(self._plan, now),
            warnings=self.warnings,
            file_of=self._names.file_of,
        )

    def read(self) -> None:
        """Read the files that changed."""
        self._reader.events_missing = bool(self._directory.unwatched_reason)
        if self._relist:
            self._read_all()
        else:
            self._take(self._dirty)
        self._dirty = set()
        self._changed = False
        if self._unsaved:
            self._store.save_soon(dict(self._names.records), dict(self._reader.first_seen), self._names.contested)
            self._unsaved = False
        entries = self._names.entries.items()
        self._plan = plan.Plan({name: entry for name, entry in entries if entry.mode is not plan.Mode.DISABLED})
        self.complete = self._listed and not self._unread
        self._explain()

    def _explain(self) -> None:
        problems, warnings = [*self._names.problems()], [*self._names.warnings()]
        gone, unwatched = self._directory.gone, self._directory.unwatched_reason
        if gone:
            problems.append(Problem(Reason.UNREADABLE, gone, name=str(self._path), file=str(self._path)))
        if self._store.warning:
            warnings.append(self._store.warning)
        if unwatched and not gone:
            warnings.append(f"{self._path} is polled, because it cannot be watched: {unwatched}")
        self.problems, self.warnings = tuple(problems), tuple(warnings)

    def settle(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Read until no save is under way any more, for SETTLE_SECONDS at most; for a program that reads only once."""
        end = self._monotonic() + SETTLE_SECONDS
        while True:
            self.drain()
            self.read()
            due = self.due()
            if due is None or self._monotonic() >= end:
                return
            sleep(max(0.01, due - self._monotonic()))

    def _read_all(self) -> None:
        directory, reader = self._directory, self._reader
        identity = directory.identity()
        if identity != directory.root or not directory.watched:
            if identity is not None and identity != directory.root and self._listed:
                reader.settling.replaced(self._monotonic())
            directory.follow(identity)
            reader.events_missing = bool(directory.unwatched_reason)
        found = self._listing()
        self._relist = False
        if found is None:
            return  # looked for again at every poll
        records = self._names.records
        if directory.unmounted(found, expected=bool(records)):
            return
        known = records.keys() | reader.memory.files.keys()
        self._take(self._changed_in(found) | (known - found.keys()) | self._dirty | self._noted, found)
        self._noted = set()
        if not self._listed:
            self._unsaved |= not reader.memory.same_boot or bool(reader.memory.files.keys() - found.keys())
            # Every file has a record of its own now; of what is gone nothing is remembered.
            reader.memory, self._listed = last_good_state.EMPTY, True
            reader.first_seen = {name: seen for name, seen in reader.first_seen.items() if name in self._names}

    def _take(self, named: Iterable[str], listed: Mapping[str, files.Listed] = MappingProxyType({})) -> None:
        """Read these files again, or find them gone, and settle which file owns the names they use or used.

        `listed`: what a listing a moment ago found, which saves asking again for each of ten thousand files.
        """
        touched: set[str] = set()
        moved = False
        for name in sorted(named):
            before = self._names.records.get(name)
            at = listed.get(name)
            path = os.path.join(self._path, name)
            link = os.path.islink(path) if at is None else at.link
            self._directory.note_link(name, path, link=link)
            outcome = self._reader.read(name, before, at, link=link, known=before is not None)
            self._note(name, outcome)
            record = outcome.record
            if record is not before:
                moved = True
                self._unsaved |= record is None or not self._reader.memory.holds(name, record)
                touched |= self._names.replace(name, record)
                self._reader.keep_first_seen(record.accepted if record is not None else ())
        for key in sorted(touched):  # new limits get their class numbers in the order in which they come out of here
            self._names.settle(key, self._reader.memory)
            if key not in self._names:
                self._reader.first_seen.pop(key, None)
        if moved:
            self._directory.follow_links()

    def _note(self, name: str, outcome: file_reader.Outcome) -> None:
        """Remember what is still on its way."""
        if outcome.waits and outcome.gone:
            self._names.absent.add(name)
        if not outcome.waits:
            self._names.absent.discard(name)
            self._unread.discard(name)
            if name not in self._reader.parts:
                self._reader.settling.done(name)
        elif outcome.record is None and not self._listed:
            self._unread.add(name)

    # ── the end ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def entries(self) -> Mapping[str, plan.PlanEntry]:
        """Every accepted limit by name, also the disabled, the expired, and those that are kept as they were."""
        return self._names.entries

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Every policy that could be read, also one that is kept as it was because its file is broken."""
        return self._names.policies()

    def file_of(self, limit: str) -> str:
        """The file that a limit is from, "" for one that is in none."""
        return self._names.file_of(limit)

    @property
    def memory_trouble(self) -> str:
        """Why nothing can be remembered, "" if it can; after `close`, whether the last of it could."""
        return self._store.warning

    def close(self) -> None:
        """Stop watching and write what is to be remembered."""
        self._directory.close()
        self._store.close()
