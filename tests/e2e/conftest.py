"""One kind cluster for all tests here, with uploads in it and clients outside; the chart is installed where needed.

A test that fails leaves logs, objects, kernels and measurements in build/e2e-<time>/<test>/ and says so.
"""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
import time
from collections.abc import Collection, Iterator

import pytest

from bandwidth_lab.kind import client, cluster, evidence, published, registry, release, services, shell
from bandwidth_lab.kind.published import Making, Published
from e2e.world import IMAGE, World

BUILD = pathlib.Path(__file__).resolve().parents[2] / "build"
FOLDER = BUILD / time.strftime("e2e-%Y%m%d-%H%M%S", time.gmtime())
RELEASES = ("0.90.0", "0.91.0")
CLIENTS = ("one", "two", "three", "four", "quiet")
ORDER = (
    "test_ipv6",
    "test_paths",
    "test_plugin",
    "test_life",
    "test_policy",
    "test_faults",
    "test_monitoring",
    "test_datapath",
    "test_release",
    "test_published",
)
_worlds: list[World] = []
_told: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What everything else stands on first: a broken path is not to be told as a broken upgrade.

    The cluster with IPv6 alone before all others: it is gone when the other one is made.
    """
    here = pathlib.Path(__file__).parent
    ours = [item for item in items if item.path.is_relative_to(here)]
    ours.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else len(ORDER))
    items[:] = [item for item in items if not item.path.is_relative_to(here)] + ours


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Collect the evidence of a failure while the cluster is as the failure left it."""
    report = yield
    if report.failed and _worlds:
        folder = FOLDER / item.name
        evidence.collect(_worlds[-1].cluster, folder, _worlds[-1].streams)
        report.sections.append(("evidence", f"logs, objects, kernels and measurements are in {folder}"))
    return report  # type: ignore[return-value]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was measured and is no verdict."""
    if _told:
        terminalreporter.section("measured")
        for line in _told:
            terminalreporter.write_line(line)


@contextlib.contextmanager
def _world(of: contextlib.AbstractContextManager[cluster.Cluster], uploads: Collection[str] | None) -> Iterator[World]:
    """A cluster with our images and these uploads in it, or all; its state is evidence when a test fails."""
    images = [f"{name}:{release.TAG}" for name in release.IMAGES]
    try:
        shell.check_machine(*images)
    except shell.NotUsableError as missing:
        pytest.exit(f"the end-to-end tests cannot run here:\n{missing}", returncode=2)
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(of)
        except cluster.ClusterFailedError as failed:
            pytest.exit(str(failed), returncode=2)
        made.load(*images)
        world = World(made, _told.append)
        services.start(made, [u for u in world.uploads.values() if uploads is None or u.name in uploads], IMAGE)
        _worlds.append(world)
        yield world
        _worlds.remove(world)


@pytest.fixture(scope="session")
def shared() -> Iterator[World]:
    """The cluster and the uploads in it."""
    with _world(cluster.made(FOLDER), None) as world:
        yield world


@pytest.fixture(scope="module")
def ipv6() -> Iterator[World]:
    """A cluster with IPv6 alone, in which nothing of ours is installed."""
    with _world(cluster.made_ipv6(FOLDER / "ipv6"), ("near",)) as world:
        yield world


@pytest.fixture(scope="session")
def place() -> Iterator[registry.Registry]:
    """A registry on this machine, whose files are gone with it."""
    with tempfile.TemporaryDirectory() as folder, registry.started(pathlib.Path(folder)) as started:
        yield started


@pytest.fixture(scope="session", autouse=True)
def _making(request: pytest.FixtureRequest) -> Iterator[Making | None]:
    """The releases, if a test wants them: begun before the first test, since tests mostly wait."""
    if not any("releases" in item.fixturenames for item in request.session.items):  # type: ignore[attr-defined]
        yield None
        return
    place: registry.Registry = request.getfixturevalue("place")
    with published.making(place.name, *RELEASES) as making:
        yield making


@pytest.fixture(scope="session")
def releases(_making: Making) -> tuple[Published, Published]:
    """Two releases of this tree in the registry, the older one first."""
    older, newer = _making.made()
    return older, newer


@pytest.fixture(scope="session")
def clients(shared: World) -> Iterator[dict[str, client.Client]]:
    """Containers outside the cluster, each with an address of its own in both families."""
    made = {role: client.Client(shared.cluster, role, IMAGE) for role in CLIENTS}
    with contextlib.ExitStack() as stack:
        for one in made.values():
            stack.enter_context(one)
        yield made


@pytest.fixture
def empty(shared: World, clients: dict[str, client.Client]) -> Iterator[World]:
    """The cluster without limits, whether the chart is installed or not."""
    shared.streams.clear()
    shared.lift_all()
    yield shared
    shared.lift_all()


@pytest.fixture
def world(empty: World) -> World:
    """The cluster with the chart installed, all of it ready, and without limits."""
    if not empty.release.installed:
        empty.release.install()
    empty.release.wait_ready()
    return empty
