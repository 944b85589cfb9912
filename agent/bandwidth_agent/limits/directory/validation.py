"""Validates one manifest file: the limits that are accepted, and one clear problem for each thing that is broken.

Pure: a text and what was accepted from this file before go in, a `Record` comes out. Does no I/O, and never decides
between two files that use the same name (`directory`).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from bandwidth_agent.limits.directory import manifest
from bandwidth_agent.limits.directory.filesystem import files
from bandwidth_api import names, plan
from bandwidth_api.compiler import compile as compiler
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import limit, policy

_LIST_KINDS = ("List", f"{names.LIMIT_KIND}List", f"{names.POLICY_KIND}List")


@dataclasses.dataclass(frozen=True, slots=True)
class Accepted:
    """A limit as it was last accepted.

    `document` is what was written, as JSON: to be validated again by another version of this program.
    """

    entry: plan.PlanEntry
    document: str
    line: int  # in its chunk, from 0


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """All that is known of one file."""

    path: str
    signature: files.Signature | None  # None: it could not be read
    accepted: Mapping[str, Accepted]  # by name, in the order of the file, those included that are only kept
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    chunks: Mapping[str, tuple[Accepted, ...]] = dataclasses.field(default_factory=dict)  # wholly accepted text
    again: bool = False  # what is wrong may become right without an edit
    policies: Mapping[str, policy.Policy] = dataclasses.field(default_factory=dict)  # by name, like `accepted`

    @property
    def clean(self) -> bool:
        """Whether nothing is broken in it. A file with policies is read at each start: only limits are remembered."""
        return not self.problems and not self.warnings and not self.policies


class _Fault(NamedTuple):
    """Something broken in the file, and where; the problem has no name where none could be read."""

    line: int  # 0: in the file as a whole
    problem: Problem

    @property
    def nameless(self) -> bool:
        """Whether no name could be read, or what was read is none."""
        problem = self.problem
        return not problem.name or (problem.field == "metadata.name" and problem.reason is Reason.INVALID)


Born = Callable[[str], float]  # the time at which a limit of this name was first seen, seconds since the epoch
# What a limit's own rules do not know, such as the addresses of this node.
Refuse = Callable[[plan.PlanEntry], Problem | None]


def refuse_none(_entry: plan.PlanEntry) -> Problem | None:
    """For sources that validate a limit by itself."""
    return None


def text(
    path: str,
    signature: files.Signature | None,
    data: bytes,
    before: Record | None,
    born: Born,
    refuse: Refuse,
    unfinished: str = "",
) -> Record:
    """Validate the whole content of a file; what `before` accepted stays in force where the text is broken.

    `unfinished`: why more of it may come; then what is missing in it stays in force too.
    """
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
        reading.unreadable(0, str(error))
    if unfinished:
        reading.unreadable(0, unfinished)
    return reading.record(signature)


def unreadable(path: str, signature: files.Signature | None, why: str, before: Record | None) -> Record:
    """The record of a file that cannot be read at all."""
    reading = _Reading(path, before, lambda _: 0.0, refuse_none)
    reading.unreadable(0, why)
    return reading.record(signature)


def remembered(document: str, born: Born) -> Accepted | None:
    """Validate a document again that was accepted by another program; None if it is not acceptable any more."""
    parsed = limit.parse(json.loads(document))
    return Accepted(_entry(parsed, born), document, 0) if isinstance(parsed, limit.Limit) else None


def _entry(accepted: limit.Limit, born: Born) -> plan.PlanEntry:
    """A limit in the units of the plan; one that no API server created counts from when it was first seen."""
    created_at = accepted.created_at
    return compiler.entry(accepted, now=born(accepted.name) if created_at is None else created_at)


class _Reading:
    """One file while it is read."""

    def __init__(self, path: str, before: Record | None, born: Born, refuse: Refuse) -> None:
        self._path = path
        self._before: Mapping[str, Accepted] = before.accepted if before is not None else {}
        self._known: Mapping[str, tuple[Accepted, ...]] = before.chunks if before is not None else {}
        self._policies_before: Mapping[str, policy.Policy] = before.policies if before is not None else {}
        self._policies: dict[str, policy.Policy] = {}
        self._born = born
        self._refuse = refuse
        self._accepted: dict[str, Accepted] = {}
        self._lines: dict[str, int] = {}
        self._warnings: list[str] = []
        self._chunks: dict[str, tuple[Accepted, ...]] = {}
        self._faults: list[_Fault] = []

    def unreadable(self, line: int, why: str) -> None:
        """Note what cannot be read at all; it may hold any limit."""
        self._faults.append(_Fault(line, Problem(Reason.UNREADABLE, why)))

    def take(self, key: str | None, read: Callable[[], list[manifest.Document]], line: int) -> None:
        """Validate one chunk, or take it from the last reading if not a character of it changed."""
        known = self._known.get(key) if key is not None else None
        if known is not None:
            self._add(line, known)
        else:
            try:
                documents = read()
            except manifest.UnreadableError as error:
                self.unreadable(error.line or line, str(error))
                return
            faults, others = len(self._faults), len(self._warnings) + len(self._policies)
            known = tuple(self._accepted_in(documents, line))
            self._add(line, known)
            if len(self._faults) > faults or len(self._warnings) + len(self._policies) > others:
                return
        if key is not None:
            self._chunks[key] = known

    def _add(self, line: int, found: Iterable[Accepted]) -> None:
        for item in found:
            name = item.entry.limit
            if name in self._accepted:
                message = f"the name is already used in line {self._lines[name]} of this file; the first one counts"
                problem = Problem(Reason.DUPLICATE_NAME, message, "metadata.name", name)
                self._faults.append(_Fault(line + item.line, problem))
            else:
                self._accepted[name] = item
                self._lines[name] = line + item.line

    def _accepted_in(self, documents: Iterable[manifest.Document], line: int) -> Iterator[Accepted]:
        for at, value in documents:
            for item in _items(value):
                found = self._validated(at, item)
                if isinstance(found, Problem):
                    self._faults.append(_Fault(at, found))
                elif found is not None:
                    yield dataclasses.replace(found, line=at - line)

    def _validated(self, line: int, value: object) -> Accepted | Problem | None:
        if value is None:
            return None
        if not isinstance(value, dict):
            return Problem(Reason.UNREADABLE, "not a Kubernetes object: a mapping is expected")
        kind, version = value.get("kind"), value.get("apiVersion")
        name = _name(value)
        if kind != names.LIMIT_KIND and not (isinstance(kind, str) and isinstance(version, str)):
            return Problem(Reason.UNREADABLE, "not a Kubernetes object: it has no apiVersion and kind", name=name)
        ours = str(version).partition("/")[0] == names.GROUP
        if kind != names.LIMIT_KIND and not ours:
            where = self._where(line)
            self._warnings.append(f"{where}: {kind} {name or 'without a name'} is no {names.LIMIT_KIND}; ignored")
            return None
        if kind == names.POLICY_KIND:
            return self._policy(name, value)
        if kind != names.LIMIT_KIND:
            message = f"{kind} is not written by hand; only {names.LIMIT_KIND} and {names.POLICY_KIND} are read here"
            return Problem(Reason.INVALID, message, "kind", name)
        parsed = limit.parse(value)
        if not isinstance(parsed, limit.Limit):
            return _joined(name, parsed)
        entry = _entry(parsed, self._born)
        problem = self._refuse(entry)
        if problem is not None:
            return problem._replace(name=name)
        return Accepted(entry, json.dumps(value, separators=(",", ":"), default=str), 0)

    def _policy(self, name: str, value: object) -> Problem | None:
        """Take a policy, or return what is wrong with it."""
        parsed = policy.parse(value)
        if not isinstance(parsed, policy.Policy):
            return _joined(name, parsed)
        if name in self._policies:
            message = "the name is already used by another policy in this file; the first one counts"
            return Problem(Reason.DUPLICATE_NAME, message, "metadata.name", name)
        self._policies[name] = parsed
        return None

    def _where(self, line: int) -> str:
        return f"{self._path}:{line}" if line else self._path

    def record(self, signature: files.Signature | None) -> Record:
        """The outcome, with what has to be kept of the reading before."""
        accepted, problems = dict(self._accepted), []
        # A broken document whose name cannot be read, or is none, may be any of those that are missing now.
        nameless = [fault for fault in self._faults if fault.nameless]
        reported: set[str] = set()
        for name, item in self._before.items():
            own = [fault for fault in self._faults if fault.problem.name == name]
            if name in accepted or not (own or nameless):
                continue
            accepted[name] = item
            problems.append(self._problem(name, (own or nameless)[0], kept=True))
            reported.update(fault.problem.name for fault in own or nameless)
        for name, kept in self._policies_before.items():
            if name not in self._policies and (nameless or any(f.problem.name == name for f in self._faults)):
                self._policies[name] = kept
        problems += [
            self._problem(fault.problem.name or os.path.basename(self._path), fault, kept=False)
            for fault in self._faults
            if fault.problem.name not in reported
        ]
        again = any(fault.problem.reason is Reason.PROTECTED_ADDRESS for fault in self._faults)
        # A file of one document that changed has no other whose validation could be saved.
        chunks = self._chunks if len(self._chunks) > 1 else {}
        return Record(
            self._path, signature, accepted, tuple(problems), tuple(self._warnings), chunks, again, self._policies
        )

    def _problem(self, name: str, fault: _Fault, *, kept: bool) -> Problem:
        reason, message = fault.problem.reason, f"{self._where(fault.line)}: {fault.problem}"
        if kept:
            reason, message = Reason.KEPT_PREVIOUS, f"{message} (the limit stays in force as it was before)"
        return Problem(reason, message, fault.problem.field, name, self._path)


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


def _joined(name: str, problems: tuple[Problem, ...]) -> Problem:
    """All that is wrong with one object as one problem: the first field leads, the others follow in the message."""
    first, *others = problems
    return first._replace(message="; ".join([first.message, *map(str, others)]), name=name)
