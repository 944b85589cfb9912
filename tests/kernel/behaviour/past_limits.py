"""A node whose pod's packets skip netfilter, with an agent, and what that agent has found."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

from bandwidth_lab import TcpFlow, ebpf
from bandwidth_lab.ebpf_datapath import DatapathNode, datapath_node
from bandwidth_lab.node import Node

FOUND_SECONDS = 20.0  # on a busy machine; what it takes is a benchmark


@contextlib.contextmanager
def bypassed_node(
    tmp_path: pathlib.Path, *options: str, way: ebpf.Way = "tcx", **how: object
) -> Iterator[tuple[DatapathNode, Node]]:
    """A node whose pod's packets skip netfilter, and its agent, which is not started yet."""
    with datapath_node(prefix="kb-", way=way, **how) as made:  # type: ignore[arg-type]
        node = Node(made.node, tmp_path, *options)
        node.bypassed = True
        yield made, node


def from_pod(made: DatapathNode, family: int = 4, rate: float | None = None, client: int = 0) -> TcpFlow:
    """A transfer from the pod to a client, who dialled the node port."""
    return TcpFlow(
        made.pod, made.clients[client], family=family, port=made.port, dial=made.dial(family), rate_bits_per_second=rate
    )


def found(node: Node, name: str = "slow") -> bool:
    """Whether the agent has said that packets leave past this limit."""
    return any(f'"limit": "{name}"' in line for line in node.alarms())


def ended(node: Node) -> bool:
    """Whether the agent has said that a limit is in force again."""
    return "no longer failing" in node.log.read_text()
