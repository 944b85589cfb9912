"""Manifest files for tests: limits as text, and a directory of them that a source follows."""

from __future__ import annotations

import os
import pathlib
import textwrap

from bandwidth_agent.source import Snapshot, accepted, directory
from bandwidth_api import addresses, plan
from bandwidth_api.conditions import Reason, Rejection

NOON = 1_800_000_000.0  # seconds since the epoch


class Clock:
    """Time that passes only when told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


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

    def _started(self, path: pathlib.Path | None = None) -> directory.Directory:
        path = self.path if path is None else path
        store = accepted.Store(self.state, path, self.program, writes=True)
        return directory.Directory(
            path,
            store,
            in_force=lambda: self.in_force,
            refuse=self._refuse,
            monotonic=self.monotonic,
            wall=self.wall,
        )

    def _refuse(self, entry: plan.PlanEntry) -> Rejection | None:
        protected = [prefix for prefix in entry.clients if addresses.write(prefix) in self.refused]
        return Rejection(Reason.PROTECTED_ADDRESS, "spec.clients[0]", "is protected") if protected else None

    def follow(self, path: pathlib.Path) -> None:
        """Follow another path from now on."""
        self.source.close()
        self.source = self._started(path)

    def restart(self) -> Snapshot:
        """End the source as a program ends, start another, and read."""
        self.follow(self.path)
        return self.source.read()

    def write(self, name: str, text: str, *, at: float = NOON - 3600) -> pathlib.Path:
        """Write a file as `cat >` does, last modified at `at`."""
        path = self.path / name
        path.write_text(text)
        os.utime(path, (at, at))
        return path

    def read(self) -> Snapshot:
        """What the source says after everything that was written so far."""
        self.source.drain()
        return self.source.read()

    def poll(self) -> Snapshot | None:
        """What the source says after the time of a poll, if it wants to be read at all."""
        self.monotonic.now += 2 * directory.POLL_SECONDS
        return self.source.read() if self.source.drain() else None
