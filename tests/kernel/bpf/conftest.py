"""A server and a client on one link, and the driver in the server's namespace: at TCX, and as a filter."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel.linux.bpf import probe
from bandwidth_lab import Network, bpffs, pair
from bandwidth_lab.namespaces import Namespace
from kernel.bpf.node import Node

WAYS = {"tcx": True, "filter": False}


@pytest.fixture
def network() -> Iterator[Network]:
    with pair(prefix="kb-") as made:
        yield made


@pytest.fixture
def server(network: Network) -> Namespace:
    """Where programs are put; its interface is eth0."""
    return network.server.namespace


@pytest.fixture
def directory() -> Iterator[pathlib.Path]:
    with bpffs.mounted() as folder:
        yield folder


@pytest.fixture(params=WAYS)
def node(request: pytest.FixtureRequest, server: Namespace, directory: pathlib.Path) -> Iterator[Node]:
    tcx = WAYS[request.param]
    if tcx and not probe.has_tcx():
        pytest.skip("this kernel has no TCX: its datapaths are filters")
    made = Node(server, directory, tcx=tcx)
    yield made
    made.close()
