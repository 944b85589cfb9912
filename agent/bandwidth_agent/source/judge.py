"""What one manifest file says: the limits that are accepted, and one clear problem for each thing that is broken.

Pure: a text and what was accepted from this file before go in, a `Record` comes out. Does no I/O, and never decides
between two files that use the same name (`directory`).
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from bandwidth_agent import report
from bandwidth_agent.source import manifest
from bandwidth_api import compile as compiler
from bandwidth_api import limit, names, plan
from bandwidth_api.conditions import Reason, Rejection

_LIST_KINDS = ("List", f"{names.LIMIT_KIND}List")


class Signature(NamedTuple):
    """What changes when a file does."""

    modified_ns: int
    changed_ns: int
    size: int
    inode: int
    device: int


@dataclasses.dataclass(frozen=True, slots=True)
class Accepted:
    """A limit as it was last accepted.

    `document` is what was written, as JSON: to be judged again by another version of this program.
    """

    entry: plan.PlanEntry
    document: str
    line: int  # in its chunk, from 0


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """All that is known of one file."""

    path: str
    signature: Signature | None  # None: it could not be read
    accepted: Mapping[str, Accepted]  # by name, in the order of the file, those included that are only kept
    problems: tuple[report.Failing, ...] = ()
    warnings: tuple[str, ...] = ()
    chunks: Mapping[str, tuple[Accepted, ...]] = dataclasses.field(default_factory=dict)  # wholly accepted text
    again: bool = False  # what is wrong may become right without an edit

    @property
    def clean(self) -> bool:
        return not self.problems and not self.warnings


class _Fault(NamedTuple):
    """Something broken in the file; `name` is "" where no name could be read."""

    line: int
    name: str
    reason: Reason
    field: str
    message: str

    @property
    def misnamed(self) -> bool:
        """Whether the name itself is what is broken."""
        return self.field == "metadata.name" and self.reason is Reason.INVALID


Born = Callable[[str], float]  # the time at which a limit of this name was first seen, seconds since the epoch
# What a limit's own rules do not know, such as the addresses of this node.
Refuse = Callable[[plan.PlanEntry], Rejection | None]


def refuse_none(_entry: plan.PlanEntry) -> Rejection | None:
    """For sources that judge a limit by itself."""
    return None


def text(
    path: str, signature: Signature | None, data: bytes, before: Record | None, born: Born, refuse: Refuse
) -> Record:
    """Judge the whole content of a file; what `before` accepted stays in force where the text is broken."""
    reading = _Reading(path, before, born, refuse)
    try:
        decoded = manifest.decode(data)
        if not decoded.strip():
            raise manifest.UnreadableError("the file is empty; delete it to lift its limits")
        if path.lower().endswith(".json"):
            reading.take(None, lambda: manifest.read_json(decoded), 1)
        else:
            for chunk in manifest.split(decoded):
                reading.take(chunk.text, functools.partial(manifest.read_yaml, chunk), chunk.line)
    except manifest.UnreadableError as error:
        reading.faults.append(_Fault(0, "", Reason.UNREADABLE, "", str(error)))
    return reading.record(signature)


def unreadable(path: str, signature: Signature | None, why: str, before: Record | None) -> Record:
    """The record of a file that cannot be read at all."""
    reading = _Reading(path, before, lambda _: 0.0, refuse_none)
    reading.faults.append(_Fault(0, "", Reason.UNREADABLE, "", why))
    return reading.record(signature)


def remembered(document: str, born: Born) -> Accepted | None:
    """Judge a document again that was accepted by another program; None if it is not acceptable any more."""
    value = json.loads(document)
    judged = _parsed(value, born) if isinstance(value, dict) else ()
    return Accepted(_entry(judged), document, 0) if isinstance(judged, limit.Limit) else None


def _entry(judged: limit.Limit) -> plan.PlanEntry:
    """A limit in the units of the plan; one host divides no rate."""
    return compiler.entry(judged, now=0.0)  # it is dated, so now does not matter


class _Reading:
    """One file while it is read."""

    def __init__(self, path: str, before: Record | None, born: Born, refuse: Refuse) -> None:
        self._path = path
        self._before: Mapping[str, Accepted] = before.accepted if before is not None else {}
        self._known: Mapping[str, tuple[Accepted, ...]] = before.chunks if before is not None else {}
        self._born = born
        self._refuse = refuse
        self._accepted: dict[str, Accepted] = {}
        self._lines: dict[str, int] = {}
        self._warnings: list[str] = []
        self._chunks: dict[str, tuple[Accepted, ...]] = {}
        self.faults: list[_Fault] = []

    def take(self, key: str | None, read: Callable[[], list[manifest.Document]], line: int) -> None:
        """Judge one chunk, or take it from the last reading if not a character of it changed."""
        known = self._known.get(key) if key is not None else None
        if known is not None:
            self._add(line, known)
        else:
            try:
                documents = read()
            except manifest.UnreadableError as error:
                self.faults.append(_Fault(error.line or line, "", Reason.UNREADABLE, "", str(error)))
                return
            faults, warnings = len(self.faults), len(self._warnings)
            known = tuple(self._judged(documents, line))
            self._add(line, known)
            if len(self.faults) > faults or len(self._warnings) > warnings:
                return
        if key is not None:
            self._chunks[key] = known

    def _add(self, line: int, found: Iterable[Accepted]) -> None:
        for item in found:
            name = item.entry.limit
            if name in self._accepted:
                message = f"the name is already used in line {self._lines[name]} of this file; the first one counts"
                fault = _Fault(line + item.line, name, Reason.DUPLICATE_NAME, "metadata.name", message)
                self.faults.append(fault)
            else:
                self._accepted[name] = item
                self._lines[name] = line + item.line

    def _judged(self, documents: Iterable[manifest.Document], line: int) -> Iterator[Accepted]:
        for at, value in documents:
            for item in _items(value):
                verdict = self._verdict(at, item)
                if isinstance(verdict, _Fault):
                    self.faults.append(verdict)
                elif verdict is not None:
                    yield dataclasses.replace(verdict, line=at - line)

    def _verdict(self, line: int, value: object) -> Accepted | _Fault | None:
        if value is None:
            return None
        if not isinstance(value, dict):
            return _Fault(line, "", Reason.UNREADABLE, "", "not a Kubernetes object: a mapping is expected")
        kind, version = value.get("kind"), value.get("apiVersion")
        name = _name(value)
        if kind != names.LIMIT_KIND and not (isinstance(kind, str) and isinstance(version, str)):
            return _Fault(line, name, Reason.UNREADABLE, "", "not a Kubernetes object: it has no apiVersion and kind")
        ours = str(version).partition("/")[0] == names.GROUP
        if kind != names.LIMIT_KIND and not ours:
            where = self._where(line)
            self._warnings.append(f"{where}: {kind} {name or 'without a name'} is no {names.LIMIT_KIND}; ignored")
            return None
        if kind != names.LIMIT_KIND:
            message = f"{kind} is not written by hand; only {names.LIMIT_KIND} is read here"
            return _Fault(line, name, Reason.INVALID, "kind", message)
        judged = _parsed(value, self._born)
        if isinstance(judged, limit.Limit):
            entry = _entry(judged)
            rejection = self._refuse(entry)
            if rejection is None:
                return Accepted(entry, json.dumps(value, separators=(",", ":"), default=str), 0)
            judged = (rejection,)
        return _of_rejections(line, name, judged)

    def _where(self, line: int) -> str:
        return f"{self._path}:{line}" if line else self._path

    def record(self, signature: Signature | None) -> Record:
        """The outcome, with what has to be kept of the reading before."""
        accepted, problems = dict(self._accepted), []
        # A broken document whose name cannot be read, or is none, may be any of those that are missing now.
        nameless = [fault for fault in self.faults if not fault.name or fault.misnamed]
        told: set[str] = set()
        for name, item in self._before.items():
            own = [fault for fault in self.faults if fault.name == name]
            if name in accepted or not (own or nameless):
                continue
            accepted[name] = item
            problems.append(self._failing(name, (own or nameless)[0], kept=True))
            told.update(fault.name for fault in own or nameless)
        problems += [
            self._failing(fault.name or os.path.basename(self._path), fault, kept=False)
            for fault in self.faults
            if fault.name not in told
        ]
        again = any(fault.reason is Reason.PROTECTED_ADDRESS for fault in self.faults)
        # A file of one document that changed has no other to save the judging of.
        chunks = self._chunks if len(self._chunks) > 1 else {}
        return Record(self._path, signature, accepted, tuple(problems), tuple(self._warnings), chunks, again)

    def _failing(self, name: str, fault: _Fault, *, kept: bool) -> report.Failing:
        words = [self._where(fault.line)]
        if fault.field:
            words.append(fault.field)
        message = ": ".join([*words, fault.message])
        if kept:
            message += " (the limit stays in force as it was before)"
        reason = Reason.KEPT_PREVIOUS if kept else fault.reason
        return report.Failing(name, reason.value, message, self._path, fault.field)


def _items(value: object) -> Iterator[object]:
    """The objects of a document: itself, or the items of a List."""
    if isinstance(value, dict) and value.get("kind") in _LIST_KINDS and isinstance(value.get("items"), list):
        yield from value["items"]
    else:
        yield value


def _name(document: Mapping[str, object]) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _of_rejections(line: int, name: str, rejections: tuple[Rejection, ...]) -> _Fault:
    """All that is wrong with one object as one fault: the first field leads, the others follow in the message."""
    first, *others = rejections
    message = "; ".join([first.message, *(f"{r.field}: {r.message}" for r in others)])
    return _Fault(line, name, first.reason, first.field, message)


def _parsed(document: Mapping[str, object], born: Born) -> limit.Limit | tuple[Rejection, ...]:
    """The limit or what is wrong with it; a limit without a creationTimestamp counts from when it was first seen."""
    metadata, name = document.get("metadata"), _name(document)
    if isinstance(metadata, dict) and name and metadata.get("creationTimestamp") is None:
        created = datetime.datetime.fromtimestamp(born(name), datetime.UTC)
        document = {**document, "metadata": {**metadata, "creationTimestamp": created}}
    return limit.parse(document)
