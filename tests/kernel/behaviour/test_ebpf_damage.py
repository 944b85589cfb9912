"""What others take away from programs, names and tables: found, put right, and never there twice."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel import model
from bandwidth_lab import WireMeter, bpffs, ebpf
from bandwidth_lab.ebpf_datapath import DatapathNode
from bandwidth_lab.node import Node
from kernel.behaviour import holding
from kernel.behaviour.test_ebpf import from_pod, node_with_pod
from kernel.bpf.damages import DAMAGES

pytestmark = pytest.mark.root

RATE = 8_000_000
WEB = {"ports": [{"protocol": "TCP", "port": 80}]}


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    with bpffs.mounted() as made:
        yield made


def whole(node: Node, folder: pathlib.Path) -> tuple[model.State, list[str]]:
    """All that is ours, and its names."""
    return node.kernel(), bpffs.names(folder)


def attached(made: DatapathNode) -> int:
    """How many programs are at TCX on eth0's way out, ours and the datapath's."""
    return len(made.node.call(lambda: ebpf.at_tcx("eth0", "egress")))


def test_what_others_take_away_or_change_is_put_right(tmp_path: pathlib.Path, folder: pathlib.Path) -> None:
    """Each kind of it, while an agent runs and its client is sent what it can take; at the end nothing is left."""
    with node_with_pod(tmp_path, folder, "--classifier", "ebpf") as (made, node):
        node.bypassed = True  # until it is put right, packets do leave past a limit, and that may be told
        client = made.clients[0]
        found = node.snapshot()
        node.limit("slow", [client.address4, client.address6], "8Mbit")
        node.limit("web", [client.address4], "1Mbit", egress=WEB)
        node.start("--resync", "0.5", "--log-format", "json")
        node.until_rate(client.address4, RATE)
        with from_pod(made), WireMeter(client) as meter:
            holding.assert_held(meter, RATE)
            before, programs = whole(node, folder), attached(made)
            for damage in DAMAGES.values():
                damage(folder)
                node.until(lambda: (whole(node, folder), attached(made)) == (before, programs))
            holding.assert_held(meter, RATE)
        assert node.stop() == 0
        node.cleanup()
        assert (node.snapshot(), bpffs.names(folder), node.kernel()) == (found, [], model.EMPTY)
