"""A host with an agent behind a router, and its programs as a user calls them."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from bandwidth_lab import Network, star
from bandwidth_lab.node import Node


@pytest.fixture
def network() -> Iterator[Network]:
    with star(clients=2, prefix="kp-") as made:
        yield made


class Host(Node):
    """A node whose programs are called as a user does, whatever they answer."""

    def call(self, program: str, *more: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run one program to its end."""
        return self.run_command(self.command(program, *more), timeout=timeout, check=False)


@pytest.fixture
def host(network: Network, tmp_path: pathlib.Path) -> Host:
    return Host(network.server.namespace, tmp_path)
