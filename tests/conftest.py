"""What holds for all tests: how hypothesis behaves, and who has the machine for itself when several run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "project",
    deadline=None,  # a busy machine is no error
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=True,  # what passes here passes everywhere: it must not depend on luck
)
hypothesis.settings.register_profile(  # new cases, and many of them: make test-search
    "search", parent=hypothesis.settings.get_profile("project"), derandomize=False, max_examples=2000
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "project"))


# Whoever starts tests in the background may ignore these, and programs that are started here would too.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


MEASURING = ("paired", "alone")  # marks of the tests that measure; `paired` two at a time, `alone` one at a time
SEATS = 2  # for as many cores as the smallest machine has that runs all of this


def _measuring(item: pytest.Item) -> str:
    return next((mark for mark in MEASURING if item.get_closest_marker(mark) is not None), "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that measure at the end, where no other test waits for them."""
    items.sort(key=lambda item: ("", *MEASURING).index(_measuring(item)))


@pytest.fixture(autouse=True)
def _machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of several workers of one run, those that measure wait until all others are done, and these for them.

    There are as many seats as tests may measure at a time: who measures takes one of them, or all when it wants the
    machine for itself; all others share all of them.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    measuring, seats = _measuring(request.node), tmp_path_factory.getbasetemp().parent
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((seats / f"seat-{number}").open("a")) for number in range(SEATS)]
        if measuring == "paired":
            _take_one([file.fileno() for file in files])
        else:
            for file in files:  # always in this order, so that no two wait for each other
                fcntl.flock(file, fcntl.LOCK_EX if measuring else fcntl.LOCK_SH)
        yield


def _take_one(seats: list[int]) -> None:
    """Take a seat that is free, or wait for one; half of the workers wait for each."""
    for seat in seats:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(seat, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
    worker = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    fcntl.flock(seats[worker % len(seats)], fcntl.LOCK_EX)
