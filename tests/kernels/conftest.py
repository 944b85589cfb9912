"""Tests for kernels that have what real nodes have: fq_codel, cake, fq, prio, flower, vlan, bond and their like.

They are collected only where the running kernel has fq_codel, which stands for all of these; `make test-kernels` runs
them on Debian's 6.1 and 6.12 in a virtual machine. What they test differs from kernel to kernel; what does not is
in tests/kernel.
"""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from bandwidth_lab import Network, pair
from kernels.forked import ForkedNode

_PROBE = ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "fq_codel"]
FULL_KERNEL = subprocess.run(_PROBE, capture_output=True, timeout=60).returncode == 0
collect_ignore_glob = [] if FULL_KERNEL else ["test_*.py"]
# Setting the clock is for a machine of which nothing is kept.
if "virtme" not in pathlib.Path("/proc/cmdline").read_text():
    collect_ignore_glob.append("test_clock.py")


@pytest.fixture
def network() -> Iterator[Network]:
    with pair(prefix="kb-") as made:
        yield made


@pytest.fixture
def node(network: Network, tmp_path: pathlib.Path) -> ForkedNode:
    return ForkedNode(network.server.namespace, tmp_path)
