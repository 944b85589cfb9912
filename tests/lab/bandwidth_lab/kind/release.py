"""The chart in a cluster: installed, changed and removed by helm, as a user does it."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from bandwidth_lab.kind import shell
from bandwidth_lab.kind.cluster import Cluster

ROOT = pathlib.Path(__file__).resolve().parents[4]
CHART = ROOT / "deploy/helm/client-bandwidth-operator"
NAME = "client-bandwidth"
NAMESPACE = "client-bandwidth"
TAG = "dev"
IMAGES = ("client-bandwidth-operator", "client-bandwidth-agent")
WAIT_SECONDS = 180


class Release:
    """The one release of a cluster."""

    def __init__(self, cluster: Cluster, chart: pathlib.Path = CHART) -> None:
        self.cluster = cluster
        self.chart = chart

    def helm(self, *arguments: str, timeout: float = WAIT_SECONDS + 30.0) -> str:
        command = ["helm", "--namespace", NAMESPACE, *arguments]
        return shell.run(command, timeout=timeout, env=self.cluster.environment())

    def install(self, *, chart: pathlib.Path | None = None, tag: str = TAG, values: Sequence[str] = ()) -> None:
        """Install or upgrade, and wait until all is ready. `values` are further words for --set."""
        settings = [f"operator.image.tag={tag}", f"agent.image.tag={tag}", *values]
        self.helm(
            "upgrade",
            "--install",
            NAME,
            str(chart or self.chart),
            "--create-namespace",
            *(word for setting in settings for word in ("--set", setting)),
            "--wait",
            f"--timeout={WAIT_SECONDS}s",
        )
        self.wait_ready()

    def wait_ready(self, *, seconds: float = 120.0) -> None:
        """Wait until operator and every agent are Ready and every node has reported to this operator."""
        for program in ("operator", "agent"):
            self.cluster.wait_pods(NAMESPACE, f"app.kubernetes.io/name=client-bandwidth-{program}", seconds=seconds)

    def uninstall(self, *arguments: str) -> None:
        self.helm("uninstall", NAME, "--wait", f"--timeout={WAIT_SECONDS}s", *arguments)

    @property
    def installed(self) -> bool:
        return NAME in self.helm("list", "-q", "--all").split()

    def pods(self, program: str) -> list[Mapping[str, Any]]:
        """The pods of `operator` or `agent`."""
        selector = f"app.kubernetes.io/name=client-bandwidth-{program}"
        pods: list[Mapping[str, Any]] = self.cluster.get("-n", NAMESPACE, "pods", "-l", selector)["items"]
        return pods

    def pod_on(self, program: str, node: str) -> str:
        """The name of the program's pod on a node."""
        names = (pod["metadata"]["name"] for pod in self.pods(program) if pod["spec"].get("nodeName") == node)
        return str(next(names))
