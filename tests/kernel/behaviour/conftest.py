"""A server with an agent, and clients behind a router, each test its own."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from bandwidth_lab import Network, node, star
from bandwidth_lab.node import Node
from kernel.behaviour.passes import Passes

forked_programs = pytest.fixture(autouse=True, scope="module")(node.forked_programs)


@pytest.fixture
def network() -> Iterator[Network]:
    with star(clients=2, prefix="kb-") as made:
        yield made


@pytest.fixture(name="node")
def _node(network: Network, tmp_path: pathlib.Path) -> Node:
    return Node(network.server.namespace, tmp_path)


@pytest.fixture
def passes(node: Node) -> Passes:
    """Passes of the agent of that server, which end where a test wants."""
    return Passes(node)
