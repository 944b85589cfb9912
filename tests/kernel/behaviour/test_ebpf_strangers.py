"""Other programs on the uplink's way out that come first again and again, and send packets out of it themselves."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.bpf import system_call
from bandwidth_lab import WireMeter, bpffs
from bandwidth_lab.ebpf_datapath import DatapathNode
from kernel.behaviour import holding
from kernel.behaviour.test_ebpf import from_pod, node_with_pod
from kernel.bpf.test_strangers import NEIGHBOUR, by_mark, hands_around

pytestmark = pytest.mark.root

RATE = 8_000_000
RESTARTS = 3


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    with bpffs.mounted() as made:
        yield made


@contextlib.contextmanager
def comes_first(made: DatapathNode) -> Iterator[None]:
    """A program that finds the neighbour of all that comes, and sends it out of eth0; of what comes back the walk ends.

    It is before all that are there, while this lasts.
    """
    index = made.node.call(lambda: socket.if_nametoindex("eth0"))
    program = system_call.load(hands_around(by_mark, None, index, 0, NEIGHBOUR), "first")
    link = made.node.call(lambda: system_call.link_first(program, index))
    os.close(program)
    try:
        yield
    finally:
        system_call.detach_link(link)
        os.close(link)


def test_one_that_comes_first_with_each_of_its_restarts(tmp_path: pathlib.Path, folder: pathlib.Path) -> None:
    """Ours is first again with the next reading, the limit holds at the client, and nobody is called a conflict."""
    with node_with_pod(tmp_path, folder, "--classifier", "ebpf") as (made, node):
        node.bypassed = True  # for as long as the other one is first
        client = made.clients[0]
        node.limit("slow", [client.address4, client.address6], "8Mbit")
        node.start("--resync", "1", "--log-format", "json")
        node.until_rate(client.address4, RATE)
        with from_pod(made), WireMeter(client) as meter:
            holding.assert_held(meter, RATE)
            for _ in range(RESTARTS):
                with comes_first(made):
                    assert not node.kernel().programs["eth0"].first
                    node.until(lambda: node.kernel().programs == {"eth0": objects.Program(0)})
            with comes_first(made):
                node.until(lambda: node.kernel().programs == {"eth0": objects.Program(0)})
                holding.assert_held(meter, RATE)
        assert node.stop() == 0
        assert "ConflictingWriter" not in node.log.read_text()
