"""One manifest file at a time: whether it is whole or still being saved, and what it holds now, as a record.

Owns which files are waited for, and when each limit was first seen. Decides nothing between two files.
"""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable, Container
from typing import NamedTuple

from bandwidth_agent.limits.directory import last_good_state, validation
from bandwidth_agent.limits.directory.filesystem import files, settling

RACY_SECONDS = 0.05  # a file changed so recently can change again without a new time

_UNFINISHED = "it is still open for writing by another program; what it does not name stays in force until it is closed"


class Outcome(NamedTuple):
    """What reading a file came to."""

    record: validation.Record | None  # None: it is not there
    waits: bool = False  # the record is as before, because a save is under way
    gone: bool = False  # nothing is there, and its successor is waited for


class FileReader:
    """Reads the files of one directory. `in_force` returns the limits that the kernel holds, by cut name."""

    def __init__(
        self,
        path: pathlib.Path,
        memory: last_good_state.Memory,
        *,
        in_force: Callable[[], Container[str]],
        refuse: validation.Refuse = validation.refuse_none,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._in_force = in_force
        self._refuse = refuse
        self._monotonic = monotonic
        self._wall = wall
        self.memory = memory  # of an earlier process; empty once every file was read
        self.first_seen: dict[str, float] = dict(memory.first_seen)  # by limit
        self.settling = settling.Settling()
        self.events_missing = False  # others may write whom this kernel does not know
        self._newborn: dict[str, float] = {}  # first seen in the file that is being read
        self.parts: set[str] = set()  # files that were read although another program has them open

    def examine(self, name: str, record: validation.Record | None) -> tuple[bool, bool]:
        """Whether this file is to be read now, and whether nothing is there while its successor is waited for."""
        with files.seen(os.path.join(self._path, name)) as seen:
            action = self._action(name, seen, record)
            if action is settling.Action.PART and name in self.parts:
                return record is None or record.signature != seen.signature, False
            waits = action is settling.Action.WAIT
            return not waits, waits and _nothing(seen)

    def _action(self, name: str, seen: files.Seen, record: validation.Record | None) -> settling.Action:
        if seen.error is not None and seen.error.errno in files.STARVED:  # it means nothing about the file
            self.settling.torn(name, None, self._monotonic())
            return settling.Action.WAIT
        if seen.error is not None or seen.directory:
            return settling.Action.READ
        writing = None if self.events_missing and not seen.writing else seen.writing
        age = self._wall() - seen.signature.modified_ns / 1e9 if seen.signature is not None else 0.0
        state = settling.FileState(seen.signature, writing, age, record is not None and bool(record.accepted))
        return self.settling.action(name, state, self._monotonic())

    def read(
        self, name: str, before: validation.Record | None, listed: files.Listed | None, *, link: bool, known: bool
    ) -> Outcome:
        """What is in a file now. `known`: this process has a record of it; else the memory may have."""
        self._newborn = {}
        path = os.path.join(self._path, name)
        if before is None and listed is not None and listed.signature is not None and not link:
            unchanged = self.memory.unchanged(path, listed.signature)
            if unchanged is not None:
                return Outcome(unchanged)
        before = before or self.memory.of(path, self._in_force)
        with files.seen(path) as seen:
            action = self._action(name, seen, before)
            if action is settling.Action.WAIT:
                return Outcome(before, waits=True, gone=_nothing(seen))
            if _nothing(seen):
                lost = link and not seen.directory
                return Outcome(validation.unreadable(path, None, "the symlink leads nowhere", before) if lost else None)
            if seen.error is None and action is settling.Action.READ and not known and seen.signature is not None:
                unchanged = self.memory.unchanged(path, seen.signature)
                if unchanged is not None:
                    return Outcome(unchanged)
            return self._content(name, path, seen, before, part=action is settling.Action.PART)

    def _content(
        self, name: str, path: str, seen: files.Seen, before: validation.Record | None, *, part: bool
    ) -> Outcome:
        (self.parts.add if part else self.parts.discard)(name)
        try:
            if seen.error is not None:
                raise seen.error
            data = files.content(seen.descriptor)
        except OSError as error:
            return Outcome(validation.unreadable(path, seen.signature, files.why(error), before))
        signature = files.signature(os.fstat(seen.descriptor))
        if signature != seen.signature and not part:
            self.settling.torn(name, signature, self._monotonic())
            return Outcome(before, waits=True)
        racy = self._wall() - signature.modified_ns / 1e9 < RACY_SECONDS and not part
        unfinished = _UNFINISHED if part else ""
        known = None if racy else signature
        return Outcome(validation.text(path, known, data, before, self._born(signature), self._refuse, unfinished))

    def _born(self, signature: files.Signature) -> validation.Born:
        """When a limit without a creationTimestamp was first seen: when its file came to where it is.

        That is the inode's change time: a file moved or copied here with an old modification time is new here.
        """
        moment = signature.changed_ns / 1e9

        def born(name: str) -> float:
            known = self.first_seen.get(name)
            return self._newborn.setdefault(name, moment) if known is None else known

        return born

    def keep_first_seen(self, accepted: Container[str]) -> None:
        """Remember when those limits were first seen that were accepted from the file read last."""
        for key, moment in self._newborn.items():
            if key in accepted:
                self.first_seen.setdefault(key, moment)


def _nothing(seen: files.Seen) -> bool:
    return seen.signature is None and seen.error is None
