"""A server and a client on one link."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bandwidth_lab import Network, pair
from bandwidth_lab.namespaces import Namespace


@pytest.fixture
def network() -> Iterator[Network]:
    with pair(prefix="kw-") as made:
        yield made


@pytest.fixture
def server(network: Network) -> Namespace:
    """Where the windows are; its interface is eth0."""
    return network.server.namespace
