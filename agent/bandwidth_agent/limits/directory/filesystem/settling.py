"""Decides whether a file is complete, or is being saved at this moment. Pure: the time is a parameter.

    file                                   what is done
    ─────────────────────────────────────  ──────────────────────────────────────────────────────────────────────
    no process has it open for writing     it is read
    a process has it open for writing      we wait and look again; unchanged for OPEN_REST_SECONDS it is read as a
                                           part: the rest of it may still come
    it is empty                            we wait: between its creation and the first byte every file is empty
    it is unknown whether it is open       it is read when its writer has closed it, or when it has not changed a while
    it is gone                             its limits stay for GONE_SECONDS, in which a new file may come; in a
                                           directory that has just replaced another: until that is quiet

Owns how long each file has looked as it does. Reads no file and decides nothing about limits.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_agent.limits.directory.filesystem import files

GONE_SECONDS = 0.5
EMPTY_SECONDS = 1.0
REST_SECONDS = 0.3
LOOK_SECONDS = 0.25  # from one look at a file that is open to the next, should no event report that it was closed
OPEN_REST_SECONDS = 10.0
OPEN_SECONDS = 60.0  # the same, for a file that never rests
POPULATING_SECONDS = 30.0  # at most, until a new directory counts as it is


class Action(enum.Enum):
    READ = "read"
    PART = "part"
    WAIT = "wait"


class FileState(NamedTuple):
    """A file as it was last examined."""

    signature: files.Signature | None  # None: there is none, or a symlink that leads nowhere
    writing: bool | None  # a program has it open to write; None: that cannot be known
    age_seconds: float  # since it was modified, by the wall clock
    expected: bool  # something in force is from it


@dataclasses.dataclass(slots=True)
class _Waiting:
    signature: files.Signature | None
    since: float  # when it was first seen like that
    first: float  # when the waiting began
    due: float


class Settling:
    """The files that we wait for. All times are monotonic seconds."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._closed: set[str] = set()
        self._replaced_at: float | None = None  # when the directory took the place of another
        self._active_at = 0.0  # when something last happened in it

    def heard(self, names: Mapping[str, bool | None], now: float) -> None:
        """Record events by name: True: closed by its writer; False: created, or gone; None: anything else."""
        if names:
            self._active_at = now
        for name, whole in names.items():
            if whole:
                self._closed.add(name)
            elif whole is False:
                self._closed.discard(name)

    def replaced(self, now: float) -> None:
        """Record that another directory has replaced the one before; its files may still be coming."""
        self._replaced_at = self._active_at = now
        for waiting in self._waiting.values():
            if waiting.signature is None:
                waiting.since, waiting.due = now, now + GONE_SECONDS

    def action(self, name: str, state: FileState, now: float) -> Action:
        """Return what to do with a file that differs from when it was last read; a second call returns the same."""
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = _Waiting(state.signature, now, now, now)
        elif waiting.signature != state.signature:
            waiting.signature, waiting.since = state.signature, now
        action, waiting.due = self._decided(name, state, waiting, now)
        if action is not Action.READ:
            self._waiting[name] = waiting
        return action

    def _decided(self, name: str, state: FileState, waiting: _Waiting, now: float) -> tuple[Action, float]:
        if state.signature is None:
            due = self._gone_for_good_at(waiting, now) if state.expected else now
        elif state.writing:
            if now - waiting.since >= OPEN_REST_SECONDS or now - waiting.first >= OPEN_SECONDS:
                return Action.PART, now + LOOK_SECONDS
            return Action.WAIT, now + LOOK_SECONDS
        elif state.signature.size == 0:
            due = _rested_at(EMPTY_SECONDS, state, waiting, now)
        elif state.writing is None and name not in self._closed:
            due = _rested_at(REST_SECONDS, state, waiting, now)
        else:
            due = now
        return (Action.READ if due <= now else Action.WAIT), due

    def _gone_for_good_at(self, waiting: _Waiting, now: float) -> float:
        due = waiting.since + GONE_SECONDS
        if self._replaced_at is None:
            return due
        quiet_at = self._active_at + GONE_SECONDS
        if quiet_at <= now or now - self._replaced_at >= POPULATING_SECONDS:
            self._replaced_at = None
            return due
        return max(due, quiet_at)

    def torn(self, name: str, signature: files.Signature | None, now: float) -> None:
        """Record that a file changed while it was read; it is examined again."""
        self._closed.discard(name)
        self._waiting[name] = _Waiting(signature, now, now, now + LOOK_SECONDS)

    def done(self, name: str) -> None:
        """Record that a file was read or found to be gone; we wait for it no longer."""
        self._waiting.pop(name, None)
        self._closed.discard(name)

    def ripe(self, now: float) -> set[str]:
        """Return the names that are due to be examined again."""
        return {name for name, waiting in self._waiting.items() if waiting.due <= now}

    def due(self) -> float | None:
        """Return when the next name is due; None if there is none."""
        return min((waiting.due for waiting in self._waiting.values()), default=None)


def _rested_at(seconds: float, state: FileState, waiting: _Waiting, now: float) -> float:
    return min(waiting.since + seconds, now + seconds - max(0.0, state.age_seconds))
