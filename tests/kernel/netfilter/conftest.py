"""Namespaces for the netfilter tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bandwidth_lab import Lab
from kernel.netfilter.nodes import PREFIX, Node


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(PREFIX) as made:
        yield made


@pytest.fixture
def node(lab: Lab) -> Node:
    """A namespace with nothing in it but a default route."""
    namespace = lab.namespace("node")
    lab.link(namespace, "eth0", lab.namespace("beside"), "eth0")
    namespace.ip(
        "address add 192.0.2.10/24 dev eth0",
        "address add 2001:db8:0:1::10/64 dev eth0 nodad",
        "route add default via 192.0.2.1 dev eth0",
        "route add default via 2001:db8:0:1::1 dev eth0",
    )
    return Node(namespace)
