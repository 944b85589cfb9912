"""The host of the contract suite, in memory and real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contract import hosts


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.root)])
def host(request: pytest.FixtureRequest) -> Iterator[hosts.Host]:
    """A host without limits; the real one is a network namespace of its own."""
    if request.param == "fake":
        yield hosts.FakeHost()
        return
    with hosts.real_host() as real:
        yield real
