"""Manifest files for tests: limits as text, and a directory of them that a source follows."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import textwrap
from collections.abc import Callable, Mapping

from bandwidth_agent.limits.directory import last_good_state, manifest_source
from bandwidth_agent.limits.directory.filesystem import followed_directory, settling
from bandwidth_api import addresses, plan
from bandwidth_api.conditions import Problem, Reason
from unit.clock import Clock

NOON = 1_800_000_000.0  # seconds since the epoch


def limit(name: str, client: str = "203.0.113.7", rate: str = "5Mbit", **spec: object) -> str:
    """One limit as YAML; `spec` adds fields."""
    more = "".join(f"  {key}: {value}\n" for key, value in spec.items())
    return (
        textwrap.dedent(f"""\
        apiVersion: clientbandwidth.io/v1alpha1
        kind: ClientBandwidthLimit
        metadata:
          name: {name}
        spec:
          clients: ["{client}"]
          egress: {{rate: {rate}}}
        """)
        + more
    )


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All that a source holds after a reading."""

    entries: Mapping[str, plan.PlanEntry]
    problems: tuple[object, ...]
    complete: bool
    warnings: tuple[str, ...] = ()
    file_of: Callable[[str], str] = dataclasses.field(default=str, compare=False)


class Place:
    """A manifest directory and its state directory, with the sources that follow it one after the other."""

    def __init__(self, root: pathlib.Path) -> None:
        self.path = root / "manifests"
        self.state = root / "state"
        self.path.mkdir()
        self.monotonic, self.wall = Clock(), Clock(NOON)
        self.in_force: frozenset[str] = frozenset()
        self.program = "1"
        self.refused: set[str] = set()  # clients that the node refuses
        self.source = self._started()

    def _started(self, path: pathlib.Path | None = None) -> manifest_source.ManifestSource:
        path = self.path if path is None else path
        store = last_good_state.Store(self.state, path, self.program, writes=True)
        return manifest_source.ManifestSource(
            path,
            store,
            {},
            in_force=lambda: self.in_force,
            refuse=self._refuse,
            monotonic=self.monotonic,
            wall=self.wall,
        )

    def _refuse(self, entry: plan.PlanEntry) -> Problem | None:
        protected = [prefix for prefix in entry.clients if addresses.write(prefix) in self.refused]
        return Problem(Reason.PROTECTED_ADDRESS, "is protected", "spec.clients[0]") if protected else None

    def follow(self, path: pathlib.Path) -> None:
        """Follow another path from now on."""
        self.source.close()
        self.source = self._started(path)

    def restart(self) -> Snapshot:
        """End the source as a program ends, start another, and read."""
        self.follow(self.path)
        return self.now()

    def write(self, name: str, text: str, *, at: float = NOON - 3600) -> pathlib.Path:
        """Write a file as `cat >` does, last modified at `at`."""
        path = self.path / name
        path.write_text(text)
        os.utime(path, (at, at))
        return path

    def now(self) -> Snapshot:
        """What the source says after a reading."""
        source = self.source
        source.read()
        return Snapshot(dict(source.entries), source.problems, source.complete, source.warnings, source.file_of)

    def read(self) -> Snapshot:
        """What the source says after everything that was written so far."""
        self.source.drain()
        return self.now()

    def settled(self) -> Snapshot:
        """The same, when what is gone has been gone for long enough."""
        self.read()
        self.monotonic.now += settling.GONE_SECONDS
        return self.read()

    def poll(self) -> Snapshot | None:
        """What the source says after the time of a poll, if it wants to be read at all."""
        self.monotonic.now += 2 * followed_directory.POLL_SECONDS
        return self.now() if self.source.drain() else None
