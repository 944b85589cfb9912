"""One real API server for all tests here, cleaned between them; operators as processes, agents simulated or real."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from bandwidth_lab import control_plane
from cluster.world import World

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def plane() -> Iterator[control_plane.ControlPlane]:
    """An API server with our CRDs, access rules and policies; nobody runs the workloads that are applied with them."""
    with control_plane.running() as running:
        for path in ("install.yaml", "crds"):
            running.kubectl("apply", "--server-side", "-f", str(ROOT / "deploy" / path))
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield running


@pytest.fixture
def world(plane: control_plane.ControlPlane, tmp_path: pathlib.Path) -> Iterator[World]:
    """An empty cluster; everything that a test starts in it has ended afterwards."""
    made = World(plane, tmp_path)
    made.clean()
    try:
        yield made
    finally:
        made.close()
