"""The classifier `ebpf` on uplinks that only full kernels have, in whichever way its programs get there."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from bandwidth_lab import Network, TcpFlow, WireMeter, bpffs
from kernel.behaviour import holding
from kernels import links
from kernels.forked import ForkedNode

pytestmark = [pytest.mark.root, pytest.mark.kernels]

RATE = 1_000_000
WINDOW_SECONDS = 1.5
UNLIMITED = 1.5  # times the rate, that a client without a limit gets in an emulated machine at least


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    with bpffs.mounted() as made:
        yield made


@pytest.mark.parametrize("kind", ["vlan", "bond", "mq"])
def test_a_limit_holds_and_nothing_stays(network: Network, node: ForkedNode, folder: pathlib.Path, kind: str) -> None:
    """IPv4 and IPv6 have the limit together; a root that somebody chose stays, and so does all else after cleanup."""
    network, client = links.behind(network, kind)
    before = node.seen()
    node.options = ("--classifier", "ebpf", "--bpf-directory", str(folder), "--interface", "up0")
    node.limit("slow", [client.address4, client.address6], "1Mbit")
    report = node.once()
    assert (report["classifier"], report["failing"]) == ("ebpf", [])
    for family in (4, 6):
        with TcpFlow(network.server, client, family=family, congestion="cubic"), WireMeter(client) as meter:
            holding.assert_held(meter, RATE, family, window_seconds=WINDOW_SECONDS)
    assert node.once()["changes"] == 0
    node.lift("slow")
    node.limit("other", ["203.0.113.7"], "1Mbit")
    node.once()
    with TcpFlow(network.server, client, congestion="cubic"), WireMeter(client) as meter:
        assert max(meter.measure(WINDOW_SECONDS, 4) for _ in range(3)) > UNLIMITED * RATE
    node.cleanup()
    assert (node.seen(), bpffs.names(folder)) == (before, [])
