"""A kind cluster, Flux's controllers beside it, and a Git repository that they follow."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import time
from collections.abc import Iterator

import pytest

from bandwidth_lab import git_server
from bandwidth_lab.kind import cluster, evidence, flux, release, shell
from flux.pipeline import Pipeline

BUILD = pathlib.Path(__file__).resolve().parents[2] / "build"
FOLDER = BUILD / time.strftime("flux-%Y%m%d-%H%M%S", time.gmtime())
PREFIX = "cbl-flux-"
_clusters: list[cluster.Cluster] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Collect the evidence of a failure while the cluster is as the failure left it."""
    report = yield
    if report.failed and _clusters:
        folder = FOLDER / item.name
        evidence.collect(_clusters[-1], folder)
        seen = _clusters[-1].kubectl("get", "gitrepositories,kustomizations", "-A", "-o", "yaml", check=False)
        (folder / "flux.yaml").write_text(seen)
        report.sections.append(("evidence", f"logs, objects and kernels are in {FOLDER}"))
    return report  # type: ignore[return-value]


@pytest.fixture(scope="session")
def pipeline() -> Iterator[Pipeline]:
    """The cluster that follows the repository, in which nothing of ours is yet."""
    images = [f"{name}:{release.TAG}" for name in release.IMAGES]
    try:
        shell.check_machine(*images)
    except shell.NotUsableError as missing:
        pytest.exit(f"these tests cannot run here:\n{missing}", returncode=2)
    if missing := flux.lacking():
        pytest.exit(f"these tests cannot run here:\n{missing}", returncode=2)
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(cluster.made(FOLDER, prefix=PREFIX))
        made.load(*images)
        _clusters.append(made)
        server = stack.enter_context(git_server.GitServer(FOLDER / "git"))
        controllers = stack.enter_context(flux.running(made, FOLDER))
        yield Pipeline(made, server, controllers)
        _clusters.clear()
