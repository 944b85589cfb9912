"""Limits on the nodes of a cluster whose eBPF datapath leads NodePorts past netfilter."""

from __future__ import annotations

import pathlib

import pytest

from bandwidth_lab import WireMeter, bpffs, ebpf, ebpf_nodes
from bandwidth_lab.namespaces import Namespace
from bandwidth_lab.node import Node
from kernel.behaviour import holding

pytestmark = pytest.mark.root

FOUND_SECONDS = 20.0  # on a busy machine; what it takes is a benchmark
RATE = 6_000_000


@pytest.mark.parametrize("direct", [False, True], ids=["by the dialled node", "direct"])
def test_the_node_that_answers_finds_the_bypass(tmp_path: pathlib.Path, direct: bool) -> None:
    """The dialled node where the answer comes by it, though the pod is elsewhere, else the pod's own; no other one."""
    with ebpf_nodes.datapath_nodes(prefix="kb-", direct=direct) as made:
        agents = {role: Node(host.namespace, tmp_path / role) for role, host in made.nodes.items()}
        client = made.clients[0]
        for agent in agents.values():
            for family in (4, 6):
                agent.limit(f"ipv{family}", [client.address(family)], "8Mbit")
            agent.start()
        for agent in agents.values():
            agent.until_rate(client.address4, 8_000_000)
        answers, other = (agents["back"], agents["front"]) if direct else (agents["front"], agents["back"])
        answers.bypassed = True
        with made.flow("back", 4), made.flow("back", 6):
            for family in (4, 6):
                answers.until(lambda: any(f'"ipv{family}"' in line for line in answers.alarms()), FOUND_SECONDS)  # noqa: B023
        assert not other.alarms()
        for agent in agents.values():
            assert agent.stop() == 0


@pytest.mark.parametrize("direct", [False, True], ids=["by the dialled node", "direct"])
def test_with_programs_a_limit_holds_wherever_the_pod_is(tmp_path: pathlib.Path, direct: bool) -> None:
    """Both families, others are free, and each node ends with what it had: the program of its datapath."""
    with bpffs.mounted() as folder, ebpf_nodes.datapath_nodes(clients=2, prefix="kb-", direct=direct) as made:
        theirs = {role: _at_tcx(host.namespace) for role, host in made.nodes.items()}
        agents = [
            Node(host.namespace, tmp_path / role, "--bpf-directory", str(folder)) for role, host in made.nodes.items()
        ]
        client, other = made.clients
        for agent in agents:
            for family in (4, 6):
                agent.limit(f"ipv{family}", [client.address(family)], "6Mbit")
            agent.start()
        for agent in agents:
            agent.until(lambda: "eth0" in agent.kernel().programs)  # noqa: B023
        for pod in ("front", "back"):
            for family in (4, 6):
                with made.flow(pod, family), WireMeter(client) as meter:
                    holding.assert_held(meter, RATE, family)
                with made.flow(pod, family, client=1), WireMeter(other) as meter:
                    holding.assert_free(meter, RATE, family)
        for agent in agents:
            assert agent.stop() == 0
            agent.cleanup()
        assert {role: _at_tcx(host.namespace) for role, host in made.nodes.items()} == theirs
        assert not bpffs.names(folder)


def _at_tcx(node: Namespace) -> list[int]:
    return node.call(lambda: ebpf.at_tcx("eth0", "egress"))
