"""Several uplinks share one pair: each packet goes back to the one that it came from."""

from __future__ import annotations

import pathlib

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.bpf import probe
from kernel.bpf import uplinks
from kernel.bpf.node import Node

pytestmark = pytest.mark.root


@pytest.mark.parametrize("tcx", [True, False])
def test_two_uplinks(directory: pathlib.Path, tcx: bool) -> None:
    """Also when routes change, and when one of them is given up."""
    if tcx and not probe.has_tcx():
        pytest.skip("this kernel has no TCX")
    with uplinks.host() as host:
        node = Node(host, directory, tcx=tcx)
        uplinks.limited(node, ["eth0", "eth1"])
        for device in ("eth0", "eth1"):
            uplinks.addressed(host, device)
            uplinks.assert_each_is_limited_once(node, f"far-{device}")
            host.ip(f"address flush dev {device}")
        node.apply(objects.DeleteProgram("eth0"))
        assert node.programs == {"eth1": objects.Program(0)}
        uplinks.addressed(host, "eth1")
        uplinks.assert_each_is_limited_once(node, "far-eth1")
        node.close()
