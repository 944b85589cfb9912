"""A directory of manifest files as a source of limits.

Owns when files are read again; which there are and what they hold is read by `files`, what one says is judged in
`judge`, which of two files that use one name counts by `claims`, when one may have changed is known by `watch`, what
outlives the process is kept by `accepted`.

    watch ──names──▶ read the file if its signature differs ──▶ judge ──▶ claims ──▶ Snapshot

A directory that is gone, for whatever reason, lifts nothing: what was accepted stays until it is back. An unmounted
disk leaves an empty directory in its place, which is no wish either.
"""

from __future__ import annotations

import os
import pathlib
import stat
import time
from collections.abc import Callable, Container, Iterable, Mapping
from types import MappingProxyType

from bandwidth_agent import report
from bandwidth_agent.source import Snapshot, accepted, claims, files, judge, watch
from bandwidth_api import names
from bandwidth_api.conditions import Reason

POLL_SECONDS = 0.4  # no more often, however often it is asked
RELIST_SECONDS = 60.0  # a look at everything, should an event have been missed
SETTLED_SECONDS = 0.3  # without events: a file younger than this may be half written
RACY_SECONDS = 0.05  # a file changed so recently can change again without a new time
MAX_LINK_DIRECTORIES = 32


class Directory:
    """Follows the manifests of one directory. `in_force` says which limits the kernel holds, by cut name."""

    def __init__(
        self,
        path: pathlib.Path,
        store: accepted.Store,
        *,
        in_force: Callable[[], Container[str]],
        refuse: judge.Refuse = judge.refuse_none,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = pathlib.Path(os.path.abspath(path))
        self._store = store
        self._in_force = in_force
        self._refuse = refuse
        self._monotonic = monotonic
        self._wall = wall
        self._memory = store.load()
        self._watch = watch.Watch()
        self._root: tuple[str, int, int] | None = None  # real path, device, inode
        self._device: int | None = None  # of the directory whose files were read last
        self._claims = claims.Claims(self._path)
        self._first_seen: dict[str, float] = dict(self._memory.first_seen)
        self._links: dict[str, set[str]] = {}  # file → the real directories that its symlink leads to and through
        self._dirty: set[str] = set()
        self._unsettled: dict[str, judge.Signature] = {}
        self._newborn: dict[str, float] = {}  # first seen in the file that is being read
        self._relist = True
        self._listed_at = self._again_at = float("-inf")
        self._complete = False
        self._unsaved = False
        self._gone = ""  # why the directory cannot be listed now

    # ── what may have changed ──────────────────────────────────────────────────────────────────────────────────

    def fileno(self) -> int | None:
        """The watch's descriptor, or None while the directory has to be polled."""
        return None if self._polled() else self._watch.fileno()

    def _polled(self) -> bool:
        watched = self._watch.fileno() is not None and not self._watch.error
        return bool(not watched or self._gone or self._unsettled or len(self._links) > MAX_LINK_DIRECTORIES)

    def drain(self) -> bool:
        """Take note of events; True if anything that counts may have changed. Cheap enough for every turn."""
        noticed = self._watch.noticed()
        self._relist |= noticed.relist
        self._dirty |= {name for name in noticed.names if files.counts(name)}
        if self._identity() != self._root:
            self._relist = True
        since = self._monotonic() - self._listed_at
        if not self._relist and since >= (POLL_SECONDS if self._polled() else RELIST_SECONDS):
            self._dirty |= self._differing()
        if self._monotonic() - self._again_at >= RELIST_SECONDS:
            self._again_at = self._monotonic()
            self._dirty |= {name for name in self._claims.troubled if self._claims.records[name].again}
        return self._relist or bool(self._dirty)

    def _identity(self) -> tuple[str, int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        if self._root is not None and (found.st_dev, found.st_ino) == self._root[1:]:
            return self._root
        return os.path.realpath(self._path), found.st_dev, found.st_ino

    def _differing(self) -> set[str]:
        """The files whose signature is not the one that was read; those that are being written wait for next time."""
        gone = self._gone
        found = self._listing()
        if found is None or gone:
            self._relist = found is not None  # it is back: everything may be different
            return set()
        before, self._unsettled = self._unsettled, {}
        differing = self._claims.records.keys() - found.keys()
        for name, (_, signature) in found.items():
            record = self._claims.records.get(name)
            if record is not None and record.signature == signature:
                continue
            age = self._wall() - signature.modified_ns / 1e9 if signature is not None else 0.0
            if signature is None or age > SETTLED_SECONDS or before.get(name) == signature:
                differing.add(name)
            else:
                self._unsettled[name] = signature
        return differing

    def _listing(self) -> dict[str, files.Listed] | None:
        """All files that count, with their signatures; None when the directory cannot be listed."""
        self._listed_at = self._monotonic()
        try:
            found = files.listing(self._path)
        except OSError as error:
            self._gone = f"{self._path}: {files.why(error)}; what was accepted from it stays until it is back"
            return None
        self._gone = ""
        return found

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self) -> Snapshot:
        """Read the files that changed and return all limits."""
        if self._relist:
            self._read_all()
        else:
            self._take(self._dirty)
        self._dirty = set()
        if self._unsaved:
            self._store.save_soon(dict(self._claims.records), dict(self._first_seen), self._claims.contested)
            self._unsaved = False
        return self._snapshot()

    def _read_all(self) -> None:
        identity = self._identity()
        if identity != self._root or self._watch.fileno() is None:
            self._root = identity
            if identity is not None:
                self._watch.start(identity[0])
                self._follow_links()
        found = self._listing()
        self._relist = False
        if found is None:
            return  # looked for again at every poll
        device = identity[1] if identity is not None else None
        records = self._claims.records
        if records and not found and device != self._device:
            stays = "what was accepted stays until that is mounted again, or a manifest is here"
            self._gone = f"{self._path} is empty and not on the file system that was here; {stays}"
            return
        self._device = device
        self._unsettled = {}
        changed = {
            name
            for name, (_, signature) in found.items()
            if name not in records or records[name].signature != signature
        }
        self._take(changed | (records.keys() - found.keys()) | self._dirty, found)
        if not self._complete:
            self._unsaved |= not self._memory.same_boot or bool(self._memory.files.keys() - found.keys())
            # Every file has a record of its own now; of what is gone nothing is remembered.
            self._memory, self._complete = accepted.EMPTY, True
            self._first_seen = {name: self._first_seen[name] for name in self._first_seen if name in self._claims}

    def _take(self, named: Iterable[str], listed: Mapping[str, files.Listed] = MappingProxyType({})) -> None:
        """Read these files again, or find them gone, and settle who owns the names they use or used.

        `listed`: what a listing a moment ago said, which saves asking again for each of ten thousand files.
        """
        touched: set[str] = set()
        moved = False
        for name in sorted(named):
            before = self._claims.records.get(name)
            self._newborn = {}
            record = self._read_file(name, before, listed.get(name))
            if record is not before:
                moved = True
                self._unsaved |= record is None or not self._known(name, record)
                touched |= self._claims.replace(name, record)
                accepted_now = record.accepted if record is not None else {}
                for key in self._newborn.keys() & accepted_now.keys():
                    self._first_seen.setdefault(key, self._newborn[key])
        for key in touched:
            self._claims.settle(key, self._memory)
            if key not in self._claims:
                self._first_seen.pop(key, None)
        if moved:
            self._follow_links()

    def _read_file(self, name: str, before: judge.Record | None, listed: files.Listed | None) -> judge.Record | None:
        """The record of a file as it is now; None when it is not there."""
        path = os.path.join(self._path, name)
        self._links.pop(name, None)
        if os.path.islink(path) if listed is None else listed.link:
            self._links[name] = {os.path.dirname(os.path.realpath(path)), *watch.links_on_the_way(pathlib.Path(path))}
        signature = None if listed is None else listed.signature
        try:
            if signature is None:
                found = os.stat(path)
                if stat.S_ISDIR(found.st_mode):
                    return None
                signature = files.signature(found)
            known = self._unchanged(path, signature) if before is None else None
            if known is not None:
                return known
            data = files.content(path)
        except FileNotFoundError:
            if name not in self._links:
                return None
            return judge.unreadable(path, None, "the symlink leads nowhere", before or self._remembered(name))
        except OSError as error:
            return judge.unreadable(path, signature, files.why(error), before or self._remembered(name))
        racy = self._wall() - signature.modified_ns / 1e9 < RACY_SECONDS
        born = self._born(signature)
        before = before or self._remembered(name)
        return judge.text(path, None if racy else signature, data, before, born, self._refuse)

    def _born(self, signature: judge.Signature | None) -> judge.Born:
        """When a limit without a creationTimestamp was first seen: when its file came to where it is.

        That is the inode's change time: a file moved or copied here with an old modification time is new here.
        """
        moment = signature.changed_ns / 1e9 if signature is not None else self._wall()

        def born(name: str) -> float:
            known = self._first_seen.get(name)
            return self._newborn.setdefault(name, moment) if known is None else known

        return born

    # ── what an earlier process accepted ───────────────────────────────────────────────────────────────────────

    def _unchanged(self, path: str, signature: judge.Signature) -> judge.Record | None:
        """The record of a file that an earlier process read without finding anything broken, if it is still that."""
        file = self._memory.files.get(os.path.basename(path))
        if file is None or not file.clean or file.signature != signature:
            return None
        return judge.Record(path, signature, file.accepted)

    def _known(self, name: str, record: judge.Record) -> bool:
        """Whether the record is what the memory has of the file."""
        file = self._memory.files.get(name)
        return file is not None and record.accepted is file.accepted

    def _remembered(self, name: str) -> judge.Record | None:
        """What was accepted from a file by an earlier process, as far as it is still in force.

        After a reboot nothing is in force, and what was accepted counts; within one boot, what is not in the kernel
        was taken out of it on purpose, and a broken file must not bring it back.
        """
        file = self._memory.files.get(name)
        if file is None:
            return None
        kept = {
            key: item
            for key, item in file.accepted.items()
            if not self._memory.same_boot or names.short_limit(key) in self._in_force()
        }
        return judge.Record(os.path.join(self._path, name), None, kept)

    # ── what it comes to ───────────────────────────────────────────────────────────────────────────────────────

    def _snapshot(self) -> Snapshot:
        problems, warnings = [*self._claims.problems()], [*self._claims.warnings()]
        if self._gone:
            problems.append(report.Failing(str(self._path), Reason.UNREADABLE.value, self._gone, str(self._path)))
        if self._store.warning:
            warnings.append(self._store.warning)
        if self._watch.error and not self._gone:
            warnings.append(f"{self._path} is polled, because it cannot be watched: {self._watch.error}")
        entries = dict(self._claims.entries)
        return Snapshot(entries, tuple(problems), self._complete, tuple(warnings), self._claims.file_of)

    def _follow_links(self) -> None:
        if len(self._links) <= MAX_LINK_DIRECTORIES:
            self._watch.follow(watch.links_on_the_way(self._path).union(*self._links.values()))

    @property
    def memory_trouble(self) -> str:
        """Why nothing can be remembered, "" if it can; after `close`, whether the last of it could."""
        return self._store.warning

    def close(self) -> None:
        """Stop watching and write what is to be remembered."""
        self._watch.close()
        self._store.close()
