"""What the tests here share: the cluster with its uploads, clients outside, the release, and limits by kubectl."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bandwidth_lab.kind import client, cluster, release, services, shell
from bandwidth_lab.kind.node import Node

IMAGE = "client-bandwidth-agent:dev"  # has the Python that servers and clients need, and is in every node already
MBIT = 1_000_000
LIMIT = 6 * MBIT
OFFERED = 24 * MBIT  # what a client gets without a limit, as payload
QUIET = 8 * MBIT
NEVER_ABOVE = 1.05  # of the limit, in any second: its burst, and the moment at which a busy machine reads counters
NODE_STATES = "nodebandwidthstates.clientbandwidth.io"


class World:
    """The cluster as the tests see it. `front` is the node that clients dial; some pods are there, some on `back`."""

    def __init__(self, of: cluster.Cluster, tell: Callable[[str], None]) -> None:
        self.cluster = of
        self.tell = tell  # a measurement that is no verdict, for the end of the run
        self.release = release.Release(of)
        places = of.workers or of.nodes
        self.front, self.back = places[0], places[-1]
        self.streams: list[client.Stream] = []
        self.uploads = {
            upload.name: upload
            for upload in (
                services.Upload("near", self.front.name, 30001),
                services.Upload("far", self.back.name, 30002),
                services.Upload("local", self.front.name, 30003, policy="Local"),
                services.Upload("host", self.front.name, 30004, host_network=True),
            )
        }

    def node(self, name: str) -> Node:
        return next(node for node in self.cluster.nodes if node.name == name)

    def flow(self, name: str, family: int, rate: float = OFFERED, node: Node | None = None) -> tuple[float, str, int]:
        """A download of an upload through a node, for `client.Client.download`."""
        return rate, (node or self.front).address(family), self.uploads[name].port

    @contextlib.contextmanager
    def downloading(self, by: client.Client, **flows: tuple[float, str, int]) -> Iterator[client.Stream]:
        """A stream that a failure of this test will tell about."""
        with by.download(**flows) as stream:
            self.streams.append(stream)
            yield stream

    def limit(self, name: str, clients: Sequence[str], rate: int = LIMIT, **spec: Any) -> None:
        """`kubectl apply` a limit; `spec` may hold any further field, and `ports` and the like of its egress."""
        egress = {key: spec.pop(key) for key in ("burst", "sharing", "distribution", "ports") if key in spec}
        self.cluster.apply(
            {
                "apiVersion": "clientbandwidth.io/v1alpha1",
                "kind": "ClientBandwidthLimit",
                "metadata": {"name": name},
                "spec": {"clients": list(clients), "egress": {"rate": f"{rate // 1000}kbit", **egress}, **spec},
            }
        )

    def in_force(self, name: str, *, seconds: float = 60.0) -> None:
        """Wait until a limit is Ready in its present form."""
        self.cluster.kubectl(
            "wait", f"cbl/{name}", "--for=condition=Ready", f"--timeout={seconds:g}s", timeout=seconds + 10
        )

    def condition(self, name: str, kind: str) -> Mapping[str, Any]:
        """A condition of a limit; empty when it is not there."""
        conditions: list[Mapping[str, Any]] = self.cluster.get("cbl", name).get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    def lift_all(self) -> None:
        """Delete every limit."""
        with contextlib.suppress(shell.FailedCommandError):  # without our CRDs there is none
            self.cluster.kubectl("delete", "clientbandwidthlimits", "--all", "--timeout=30s")

    def shown(self, node: Node) -> Mapping[str, Any]:
        """What `bandwidth-agent show` says on a node."""
        return self.told(node, "show", "--interval", "2")

    def told(self, node: Node, program: str, *words: str) -> Mapping[str, Any]:
        """The JSON that a program of the agent prints on a node."""
        pod = self.release.pod_on("agent", node.name)
        called = ("bandwidth-agent", program, "-o", "json", *words)
        printed: Mapping[str, Any] = json.loads(
            self.cluster.kubectl("-n", release.NAMESPACE, "exec", pod, "--", *called)
        )
        return printed

    def kernels(self) -> dict[str, dict[str, str]]:
        """The kernel state of every node, without counters."""
        return {node.name: node.kernel_state() for node in self.cluster.nodes}


def slowed(rate: float, limit: float = LIMIT) -> bool:
    """The rate is that of a download which a limit slows down."""
    return 0.9 * limit <= rate <= NEVER_ABOVE * limit


def free(rate: float, offered: float = OFFERED) -> bool:
    """The rate is that of a download which only a busy machine slows down."""
    return rate >= 0.85 * offered


def fastest(stream: client.Stream, family: int, since: float, until: float = float("inf")) -> float:
    """The rate of the fastest second between two times."""
    return max(rate for _, rate in stream.seconds(family, since, until))
