"""Two namespaces per test, and the driver in one of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel.linux.rtnl import tc
from bandwidth_lab import namespaces, pair, topology
from kernel.tc.node import Driver, Tools


@pytest.fixture
def network() -> Iterator[topology.Network]:
    with pair(prefix="kt-") as made:
        yield made


@pytest.fixture
def node(network: topology.Network) -> namespaces.Namespace:
    """The namespace whose traffic control is under test; its interface is eth0."""
    return network.server.namespace


@pytest.fixture
def kernel(node: namespaces.Namespace) -> Iterator[tc.TrafficControl]:
    traffic_control = node.call(tc.TrafficControl)
    yield traffic_control
    traffic_control.close()


@pytest.fixture
def tools(node: namespaces.Namespace) -> Tools:
    return Tools(node)


@pytest.fixture
def driver(kernel: tc.TrafficControl) -> Driver:
    return Driver(kernel)
