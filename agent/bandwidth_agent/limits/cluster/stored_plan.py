"""The last complete plan of a cluster on this node's disk: a node that boots while the API is away shapes all the same.

One file, written beside, synced and renamed, with a layout version and a checksum: a head line, then one line for each
slice. Written by a thread of its own as soon as the plan changed, so that no change of a limit waits for a disk. What
cannot be used, be it well-formed or not, is set aside and reported; nothing is ever applied from half a file.
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

from bandwidth_agent.limits import atomic_file, background_writer
from bandwidth_api import json_values
from bandwidth_api.crds import slices
from bandwidth_api.plan import read_entry

LAYOUT = 1
NAME = "plan.json"
TEXT_MAX = 400  # characters of a name, a label, a version
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
        self._file = background_writer.BackgroundWriter(
            self._path, self._encoded, name="store", spacing_seconds=SPACING_SECONDS, crashed=crashed
        )

    @property
    def warning(self) -> str:
        """Why the state directory is of no use, "" if it is."""
        return self._file.warning

    def load(self) -> Stored | None:
        """The plan of the last process; None when there is none, or none that can be used."""
        self._file.warning = atomic_file.why_not_written(self._path)
        atomic_file.sweep(self._path)
        try:
            stored = _decoded(atomic_file.read(self._path))
            if stored.node != self._node:
                raise ValueError(f"it is the plan of node {stored.node!r}")
        except FileNotFoundError:
            return None
        except OSError as error:
            self._file.warning = f"cannot read {self._path}: {error.strerror}"
            return None
        except atomic_file.ODD as error:
            self._set_aside(f"{type(error).__name__}: {error}"[:300])
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
    """What was written. Raises one of atomic_file.ODD for anything else, also where the checksum is right."""
    checksum, _, text = data.partition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() != checksum:
        raise ValueError("its checksum is wrong")
    head, *lines = text.removesuffix(b"\n").split(b"\n")
    header = atomic_file.decoded(head)
    if (header["layout"], header["schema"]) != (LAYOUT, slices.SCHEMA):
        raise ValueError(f"another version wrote it (layout {header['layout']!r}, schema {header['schema']!r})")
    found = {}
    for line in lines:
        wire = atomic_file.decoded(line)
        name, term = _text(wire["name"]), wire["term"]
        if slices.slice_number(name) is None or type(term) is not int or type(wire["entries"]) is not list:
            raise ValueError("a line of it is no slice")
        found[name] = slices.Slice(
            name, tuple([read_entry(each) for each in wire["entries"]]), _text(wire["digest"]), term
        )
    labels = {_text(key): _text(value) for key, value in header["labels"].items()}
    if type(header["retire"]) is not bool:
        raise TypeError("it is not clear whether it says retire")
    return Stored(_text(header["node"]), labels, found, header["retire"], _text(header["resourceVersion"]))


def _text(value: object) -> str:
    return json_values.text(value, most=TEXT_MAX)


def forget(state_dir: pathlib.Path) -> None:
    """Remove the plan of any process; whatever cannot be removed stays."""
    for name in (NAME, f"{NAME}.unusable"):
        with contextlib.suppress(OSError):
            (state_dir / name).unlink()
