"""The last complete plan of a cluster on this node's disk: a node that boots while the API is away shapes all the same.

One file, written beside, synced and renamed, with a layout version and a checksum: a head line, then one line for each
slice. Written by a thread of its own as soon as the plan changed, so that no change of a limit waits for a disk. What
cannot be used is set aside and told; nothing is ever applied from half a file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping

import structlog

from bandwidth_agent.source import durable, later
from bandwidth_api import slices

LAYOUT = 1
NAME = "plan.json"
SPACING_SECONDS = 1.0  # between two writes, while the plan changes all the time

log = structlog.get_logger("cluster")


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A complete plan as it was read, and what else a start without the API needs to know."""

    node: str
    labels: Mapping[str, str]
    slices: Mapping[str, slices.Slice]
    retire: bool
    resource_version: str  # of the collection of slices


class Store:
    """The file in one state directory. `load` first; `save` from one thread, `close` at the end."""

    def __init__(self, state_dir: pathlib.Path, node: str, crashed: Callable[[str, BaseException], None]) -> None:
        self._path = state_dir / NAME
        self._node = node
        self._lines: dict[str, tuple[slices.Slice, bytes]] = {}  # what is written already need not be encoded again
        self._file = later.Later(
            self._path, self._encoded, name="store", spacing_seconds=SPACING_SECONDS, crashed=crashed
        )

    @property
    def warning(self) -> str:
        """Why the state directory is of no use, "" if it is."""
        return self._file.warning

    def load(self) -> Stored | None:
        """The plan of the last process; None when there is none, or none that can be used."""
        self._file.warning = durable.why_not_written(self._path)
        durable.sweep(self._path)
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._file.warning = f"cannot read {self._path}: {error.strerror}"
            return None
        try:
            stored = _decoded(data)
            if stored.node != self._node:
                raise ValueError(f"it is the plan of node {stored.node!r}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._set_aside(str(error))
            return None
        return stored

    def _set_aside(self, why: str) -> None:
        aside = self._path.with_name(f"{NAME}.unusable")
        log.warning("the plan on disk cannot be used and is set aside", file=str(self._path), why=why, aside=str(aside))
        with contextlib.suppress(OSError):
            os.replace(self._path, aside)

    def save(self, plan: Stored) -> None:
        """Write this plan soon."""
        self._file.put(plan)

    def close(self) -> None:
        """Write what is waiting to be written."""
        self._file.close()

    def _encoded(self, plan: Stored) -> bytes:
        lines = {}
        for name in sorted(plan.slices):
            item, known = plan.slices[name], self._lines.get(name)
            lines[name] = known if known is not None and known[0] is item else (item, _line(item))
        self._lines = lines
        body = b"".join(line for _, line in lines.values())
        head = {
            "layout": LAYOUT,
            "schema": slices.SCHEMA,
            "node": plan.node,
            "labels": dict(plan.labels),
            "retire": plan.retire,
            "resourceVersion": plan.resource_version,
        }
        text = json.dumps(head, separators=(",", ":"), sort_keys=True).encode() + b"\n" + body
        return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def _line(item: slices.Slice) -> bytes:
    wire = {"name": item.name, "digest": item.digest, "term": item.term, "entries": slices.write(item)["entries"]}
    return json.dumps(wire, separators=(",", ":")).encode() + b"\n"


def _decoded(data: bytes) -> Stored:
    """What was written. Raises ValueError, KeyError, TypeError or AttributeError for anything else."""
    checksum, _, text = data.partition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() != checksum:
        raise ValueError("its checksum is wrong")
    head, *lines = text.splitlines()
    said = json.loads(head)
    if (said["layout"], said["schema"]) != (LAYOUT, slices.SCHEMA):
        raise ValueError(f"another version wrote it (layout {said['layout']!r}, schema {said['schema']!r})")
    found = {}
    for line in lines:
        wire = json.loads(line)
        entries = tuple([slices.read_entry(each) for each in wire["entries"]])
        found[wire["name"]] = slices.Slice(wire["name"], entries, wire["digest"], wire["term"])
    return Stored(said["node"], said["labels"], found, said["retire"] is True, said["resourceVersion"])


def forget(state_dir: pathlib.Path) -> None:
    """Remove the plan of any process; whatever cannot be removed stays."""
    for name in (NAME, f"{NAME}.unusable"):
        with contextlib.suppress(OSError):
            (state_dir / name).unlink()
