"""The bypassed limits of one node on its disk: an agent that starts again does not call them in force.

Owns one small file, written whole by a thread of its own, and only where something was found. Nothing depends on it: a
file that cannot be read or written, or is another host's, costs what it would have said and nothing else. It names no
limit: a finding counts for whoever is enforced in the same form, and has the way past it in the same place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import structlog

from bandwidth_agent.limits import atomic_file, background_writer
from bandwidth_agent.planner import limit_status
from bandwidth_agent.sight.truth import judge, look
from bandwidth_api import addresses, json_values
from bandwidth_api.plan import ClassKey, PlanEntry, Prefix, write_entry

NAME = "bypassed.json"
LAYOUT = 1
MOST = 32_768  # findings; there are not as many classes
READ_MAX_BYTES = 16 << 20
SPACING_SECONDS = 5.0  # between two writes, while findings come and go
AGAIN_SECONDS = 60.0  # until a write that failed is tried again
_NOT_ENFORCED = ("created", "expires", "nodeSelector")  # of an entry: an edit of these changes no packet
_COUNT_MAX = 1 << 62

log = structlog.get_logger("truth")


class Stored(NamedTuple):
    """A finding as it is on disk."""

    form: str  # a digest of the limit, as far as it is enforced
    way: str  # how limits were enforced on the interface
    finding: judge.Finding


Found = Mapping[ClassKey, Sequence[judge.Finding]]


def form(key: ClassKey, entry: PlanEntry) -> str:
    """Return the digest of what is enforced for one class of a limit."""
    wire = {name: value for name, value in write_entry(entry).items() if name not in _NOT_ENFORCED}
    text = json.dumps([*key, wire], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def way(context: limit_status.PassContext, interface: str) -> str | None:
    """Return how limits are enforced on an interface, as text that is equal for the same way; None if they are not."""
    place = context.placements.get(interface)
    return f"{place.kind} {context.classifier.kind}" if place is not None and place.kind != "none" else None


def _ways(context: limit_status.PassContext) -> Mapping[str, str | None]:
    return {name: way(context, name) for name in context.placements}


class Memory:
    """What is found of the limits of one node, over the restarts of its agent. Loses what it cannot keep."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: Mapping[str, Sequence[Stored]] | None = None  # by form, until a pass shows whose they are
        self._recalled: tuple[object, ...] = ()  # what they were last compared with
        self._basis: tuple[object, ...] = ()  # what `_wanted` was made of
        self._wanted: Sequence[Stored] = ()

    def recall(self, context: limit_status.PassContext, *, complete: bool) -> Iterator[tuple[ClassKey, judge.Finding]]:
        """Yield what an earlier process found of these limits, as far as they are enforced as they were then.

        `complete`: there are no other limits, so what is known of others is forgotten.
        """
        if self._waiting is None:
            self._waiting = self._store.load()
        compared = complete, context.classes, _ways(context)
        if not self._waiting or compared == self._recalled:
            return
        self._recalled = compared
        left: dict[str, list[Stored]] = {}
        seen: set[str] = set()
        for key, entry in context.classes.items():
            digest = form(key, entry)
            seen.add(digest)
            for item in self._waiting.get(digest, ()):
                now = way(context, item.finding.interface)
                if now is None:
                    left.setdefault(digest, []).append(item)  # the interface may come yet
                elif now == item.way:
                    yield key, item.finding
        others = {} if complete else {d: items for d, items in self._waiting.items() if d not in seen}
        self._waiting = others | left

    def keep(self, found: Found, context: limit_status.PassContext, now: float) -> None:
        """Store what is found now. `now`: monotonic seconds."""
        waiting = [item for items in (self._waiting or {}).values() for item in items]
        basis = found, waiting, context.classes if found else None, _ways(context)
        if basis != self._basis:
            self._basis = basis
            self._wanted = (*self._described(found, context), *waiting)
        self._store.save(self._wanted, now)

    @staticmethod
    def _described(found: Found, context: limit_status.PassContext) -> Iterator[Stored]:
        for key, findings in found.items():
            entry = context.classes.get(key)
            if entry is None:
                continue
            digest = form(key, entry)
            for finding in findings:
                how = way(context, finding.interface)
                if how is not None:
                    yield Stored(digest, how, finding)


class Store:
    """The file of one node. Used by one thread; `close` writes what still waits."""

    def __init__(self, state_dir: pathlib.Path, host: str) -> None:
        """`host`: what no other node, and no other set of limits on this node, has in common with this one."""
        self._path = state_dir / NAME
        self._host = host
        self._file: background_writer.BackgroundWriter[Sequence[Stored]] = background_writer.BackgroundWriter(
            self._path, self._encoded, name="findings", spacing_seconds=SPACING_SECONDS
        )
        self._kept: Sequence[Stored] | None = None  # what is or will be on disk; None: nothing of this process
        self._put_at = 0.0
        self._complained = ""

    def load(self) -> dict[str, list[Stored]]:
        """Return by form what an earlier process has found here; nothing where that cannot be read."""
        try:
            atomic_file.sweep(self._path)
            stored = _decoded(atomic_file.read(self._path, READ_MAX_BYTES), self._host)
        except FileNotFoundError:
            return {}
        except (OSError, *atomic_file.ODD) as error:
            log.warning(
                "what was found bypassed before cannot be read; packets will show it again",
                file=str(self._path),
                why=f"{type(error).__name__}: {error}"[:300],
            )
            return {}
        self._kept = stored
        by_form: dict[str, list[Stored]] = {}
        for item in stored:
            by_form.setdefault(item.form, []).append(item)
        return by_form

    def save(self, found: Iterable[Stored], now: float) -> None:
        """Write these soon, if they differ from what is there; one that could not be written is tried again."""
        wanted = tuple(found)[:MOST]
        failed = self._file.warning
        if failed and failed != self._complained:
            log.warning("what is found bypassed cannot be kept over a restart", why=failed)
        self._complained = failed
        if wanted == tuple(self._kept or ()) and not (failed and now - self._put_at >= AGAIN_SECONDS):
            return
        self._kept, self._put_at = wanted, now
        self._file.put(wanted)

    def close(self) -> None:
        """Write what is waiting to be written."""
        self._file.close()

    def _encoded(self, stored: Sequence[Stored]) -> bytes:
        head = json.dumps({"layout": LAYOUT, "host": self._host})
        body = "".join(f"{line}\n" for line in (head, *map(_line, stored))).encode()
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _line(item: Stored) -> str:
    finding = item.finding
    family, address = finding.client
    client = addresses.write(Prefix(family, address, addresses.BITS[family]))
    numbers = finding.packets, finding.left_bytes, finding.through_bytes
    return json.dumps([item.form, item.way, *numbers, finding.interface, client, *finding.scope], separators=(",", ":"))


def _decoded(data: bytes, host: str) -> tuple[Stored, ...]:
    """What was written. Raises one of atomic_file.ODD for anything else, also where the checksum is right."""
    checksum, _, text = data.partition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() != checksum:
        raise ValueError("its checksum is wrong")
    head, *lines = text.removesuffix(b"\n").split(b"\n")
    header = atomic_file.decoded(head)
    if header["layout"] != LAYOUT:
        raise ValueError(f"another version wrote it (layout {json_values.shown(header['layout'])})")
    if header["host"] != host:
        raise ValueError(f"it is of another host or other limits: {json_values.shown(header['host'])}")
    return tuple(_read(json_values.items(atomic_file.decoded(line))) for line in lines[:MOST])


def _read(wire: list[Any]) -> Stored:
    digest, how, packets, left, through, interface, client, where, family, protocol, port = wire
    prefix = addresses.parse(json_values.text(client, most=43))
    if prefix.length != addresses.BITS[prefix.family]:
        raise ValueError("a client that is no single address")
    scope = look.Scope(
        json_values.text(where, most=15),
        json_values.within(family, 0, 6),
        json_values.within(protocol, -1, 255),
        json_values.within(port, -1, 65535),
    )
    finding = judge.Finding(
        json_values.within(packets, 0, _COUNT_MAX),
        json_values.within(left, 0, _COUNT_MAX),
        json_values.within(through, 0, _COUNT_MAX),
        json_values.text(interface, least=1, most=15),
        (prefix.family, prefix.network),
        scope,
    )
    return Stored(json_values.text(digest, most=64), json_values.text(how, most=64), finding)


def forget(state_dir: pathlib.Path) -> None:
    """Remove the file of any process; if it cannot be removed it stays."""
    with contextlib.suppress(OSError):
        (state_dir / NAME).unlink()
