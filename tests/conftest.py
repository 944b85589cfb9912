"""What holds for all tests: how hypothesis behaves, and who has the machine for itself when several run at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "project",
    deadline=None,  # a busy machine is no error
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize="CI" in os.environ,  # what lands or not must not depend on luck; elsewhere new cases are welcome
)
hypothesis.settings.load_profile("project")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that want the machine for themselves at the end, where nobody has to wait for them."""
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)


@pytest.fixture(autouse=True)
def _machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of several workers of one run, one that makes a test marked `alone` waits for all others, and they for it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    alone = request.node.get_closest_marker("alone") is not None
    with (tmp_path_factory.getbasetemp().parent / "machine").open("a") as machine:
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
