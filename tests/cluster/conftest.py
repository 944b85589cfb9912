"""One real API server for all tests here, cleaned between them; operators as processes, agents simulated or real."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from bandwidth_lab import cluster_node, control_plane, node, previous
from bandwidth_lab.fault_proxy import FaultProxy
from bandwidth_lab.fleet import Fleet
from cluster.plugin import Plugin
from cluster.world import World

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

forked_programs = pytest.fixture(autouse=True, scope="module")(node.forked_programs)
no_false_alarm = pytest.fixture(autouse=True)(node.no_false_alarm)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that wait for long first, then those that share something, so that no worker is busy at the end
    while all others have nothing left to do."""
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    ours.sort(key=_turn)
    items[:] = [item for item in items if not item.path.is_relative_to(HERE)] + ours


def _turn(item: pytest.Item) -> int:
    if item.get_closest_marker("long") is not None:
        return 0
    return 1 if item.get_closest_marker("xdist_group") is not None else 2


@pytest.fixture(scope="session")
def plane() -> Iterator[control_plane.ControlPlane]:
    """An API server with our CRDs, access rules and policies; nothing runs the workloads that are applied with them."""
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


@pytest.fixture(scope="module")
def _led(plane: control_plane.ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(plane, tmp_path_factory.mktemp("led"))
    made.clean()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def led(_led: World) -> Iterator[World]:
    """A cluster whose operator leads through all tests of a module, as long as they pass.

    Without a limit, a node or an agent; what a test makes is gone when it ends.
    """
    if not _led.operators or _led.operators[-1].process.poll() is not None:
        _led.clean()
        _led.operator(f"operator-{len(_led.operators)}")
        _led.wait(_led.holder, "the operator leads")
    yield _led
    _led.leave()


@pytest.fixture
def nodes(world: World, network: Fleet) -> list[cluster_node.ClusterNode]:
    """The nodes of the network that a module makes, their agents not started."""
    return [world.real_node(f"node-{number}", host) for number, host in enumerate(network.nodes)]


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder with the programs of the version before."""
    return _programs(tmp_path_factory, previous.COMMIT)


@pytest.fixture(scope="session")
def before_sight(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder with the programs of the last version that saw nothing of traffic."""
    return _programs(tmp_path_factory, previous.BEFORE_SIGHT)


def _programs(tmp_path_factory: pytest.TempPathFactory, commit: str) -> pathlib.Path:
    try:
        return previous.programs(tmp_path_factory.mktemp("previous"), commit)
    except LookupError as error:  # a clone without history
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def plugin(plane: control_plane.ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Plugin:
    """The plugin's single file, in a PATH that holds nothing else but kubectl, sh and env, and a bare Python."""
    return Plugin(plane, tmp_path_factory.mktemp("path"))


@pytest.fixture
def proxy(plane: control_plane.ControlPlane) -> Iterator[FaultProxy]:
    """A proxy before the API server."""
    made = FaultProxy(plane.server, plane.directory / "certificates")
    yield made
    made.close()
