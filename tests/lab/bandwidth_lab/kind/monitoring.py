"""Debian's Prometheus in a kind cluster: it finds pods as the chart's PodMonitors say, and has the chart's rules.

It runs on the node of the control plane, from where every pod can be reached. The Prometheus operator is not there:
what it makes of a PodMonitor is made here. Debian's Prometheus cannot ask an API server for pods, so kubectl does, each
second, and leaves them in a file in Prometheus' words. Times of rules are hastened (`prometheus.hastened`).
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import yaml

from bandwidth_lab import prometheus
from bandwidth_lab.kind import release, shell
from bandwidth_lab.kind.cluster import Cluster
from bandwidth_lab.kind.node import Node

# With these the chart brings all that is for Prometheus, and its agents can be scraped.
VALUES = (
    "podMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "dashboard.enabled=true",
    "agent.metrics.topClients=3",
    "agent.uplinkCapacity={*=1Gbit}",
    "policies.enabled=true",
)
FOREIGN_CRDS = release.ROOT / "tests/cluster/chart/foreign-crds.yaml"
PORT = 9090
FOLDER = "/var/lib/prometheus-of-tests"
INTERVAL = "1s"
START_SECONDS = 30.0

# Each port of each pod, labelled as Prometheus' own discovery of pods does, as far as it is used here.
_PODS = """\
[{"targets": []}{{range .items}}{{$pod := .}}{{range .spec.containers}}{{$container := .}}{{range .ports}},
{"targets": ["{{$pod.status.podIP}}:{{.containerPort}}"], "labels": {
"__meta_kubernetes_namespace": "{{$pod.metadata.namespace}}", "__meta_kubernetes_pod_name": "{{$pod.metadata.name}}",
"__meta_kubernetes_pod_phase": "{{$pod.status.phase}}", "__meta_kubernetes_pod_node_name": "{{$pod.spec.nodeName}}",
"__meta_kubernetes_pod_label_app_kubernetes_io_name": "{{index $pod.metadata.labels "app.kubernetes.io/name"}}",
"__meta_kubernetes_pod_container_name": "{{$container.name}}",
"__meta_kubernetes_pod_container_port_name": "{{.name}}"}}{{end}}{{end}}{{end}}]
"""
_DISCOVERY = f"""\
cd {FOLDER}
while sleep 1; do
  kubectl --kubeconfig /etc/kubernetes/admin.conf -n {release.NAMESPACE} get pods -o go-template-file=pods.template \\
    --request-timeout=5s >pods.part 2>/dev/null && mv pods.part pods.json
done
"""

Series = Mapping[str, Any]


class Prometheus:
    """One that runs."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.began = time.time()

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer of its API."""
        url = f"http://{self._node.address(4)}:{PORT}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=shell.TIMEOUT_SECONDS) as answer:
            return json.load(answer)["data"]

    def now(self, expression: str) -> list[Series]:
        """The series of an expression, as they are."""
        found: list[Series] = self.ask("query", query=expression)["result"]
        return found

    def numbers(self, expression: str) -> int:
        """How many numbers an expression has had since this Prometheus runs."""
        span = {"start": f"{self.began:.0f}", "end": f"{time.time():.0f}", "step": "2s"}
        found: list[Series] = self.ask("query_range", query=expression, **span)["result"]
        return sum(not math.isnan(float(number)) for series in found for _, number in series["values"])

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {one["labels"]["alertname"] for one in self.ask("alerts")["alerts"] if one["state"] == "firing"}

    def text(self, alert: str) -> Mapping[str, str]:
        """The annotations of an alert that fires."""
        found: Mapping[str, str] = next(
            one["annotations"] for one in self.ask("alerts")["alerts"] if one["labels"]["alertname"] == alert
        )
        return found

    def await_firing(self, *alerts: str, seconds: float = 90.0) -> None:
        shell.eventually(f"{', '.join(alerts)} fire", lambda: self.firing().issuperset(alerts), seconds=seconds)

    def await_quiet(self, *alerts: str, seconds: float = 120.0) -> None:
        shell.eventually(f"{', '.join(alerts)} end", lambda: self.firing().isdisjoint(alerts), seconds=seconds)

    def await_targets(self, count: int) -> None:
        """Wait until so many programs of ours are scraped, and none in vain."""

        def all_up() -> bool:
            up = [float(series["value"][1]) for series in self.now("up")]
            return len(up) == count and all(up)

        shell.eventually(f"{count} programs are scraped", all_up)


def prepare(cluster: Cluster) -> None:
    """Have the kinds of the Prometheus operator in the cluster, without which the chart's objects are refused."""
    cluster.kubectl("apply", "--server-side", "-f", str(FOREIGN_CRDS))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s", timeout=70)


@contextlib.contextmanager
def running(cluster: Cluster) -> Iterator[Prometheus]:
    """Run it with what the installed release says. Raises LookupError where Prometheus cannot be had."""
    program = prometheus.programs() / "prometheus"
    node = cluster.control_plane
    node.run("mkdir", "-p", FOLDER)
    if not node.run("sh", "-c", f"ls {FOLDER}/prometheus 2>/dev/null", check=False):
        shell.run(["docker", "cp", str(program), f"{node.name}:{FOLDER}/prometheus"])
    files = {name: yaml.safe_dump(content) for name, content in _files(cluster).items()}
    for name, text in (files | {"pods.template": _PODS, "discover": _DISCOVERY}).items():
        write = ["docker", "exec", "-i", node.name, "sh", "-c", f"cat >{FOLDER}/{name}"]
        shell.run(write, stdin=text)
    words = [f"--config.file={FOLDER}/config.yaml", f"--storage.tsdb.path={FOLDER}/data-{time.time_ns()}"]
    command = f"exec {FOLDER}/prometheus {' '.join(words)} --web.listen-address=:{PORT} >{FOLDER}/log 2>&1"
    command = f"sh {FOLDER}/discover & echo $$ $! >{FOLDER}/pids; {command}"
    shell.run(["docker", "exec", "-d", node.name, "sh", "-c", command])
    made = Prometheus(node)
    try:
        _await_answer(made, node)
        yield made
    finally:
        node.run("sh", "-c", f"kill $(cat {FOLDER}/pids)", check=False)


def _await_answer(made: Prometheus, node: Node) -> None:
    def answers() -> bool:
        try:
            return bool(made.ask("status/runtimeinfo"))
        except OSError:
            return False

    try:
        shell.eventually("Prometheus answers", answers, seconds=START_SECONDS)
    except TimeoutError as late:
        raise TimeoutError(f"{late}\n{node.run('tail', '-n', '20', f'{FOLDER}/log', check=False)}") from None


def _files(cluster: Cluster) -> dict[str, Any]:
    """Its configuration and its rules, as the Prometheus operator makes them of the objects of the release."""
    monitors = cluster.get("-n", release.NAMESPACE, "podmonitors")["items"]
    groups = [
        {**group, "rules": prometheus.hastened(group["rules"])}
        for one in cluster.get("-n", release.NAMESPACE, "prometheusrules")["items"]
        for group in one["spec"]["groups"]
    ]
    return {
        "rules.yaml": {"groups": groups},
        "config.yaml": {
            "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [_scraped(monitor) for monitor in monitors],
        },
    }


def _scraped(monitor: Mapping[str, Any]) -> dict[str, Any]:
    spec = monitor["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    labels = spec["selector"]["matchLabels"]
    return {
        "job_name": f"podMonitor/{monitor['metadata']['namespace']}/{monitor['metadata']['name']}/0",
        "file_sd_configs": [{"files": ["pods.json"], "refresh_interval": INTERVAL}],
        "relabel_configs": [
            {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
            *(_kept(f"__meta_kubernetes_pod_label_{_label(name)}", value) for name, value in labels.items()),
            _kept("__meta_kubernetes_pod_container_port_name", endpoint["port"]),
            *(
                {"source_labels": [f"__meta_kubernetes_{source}"], "target_label": target}
                for source, target in (
                    ("namespace", "namespace"),
                    ("pod_container_name", "container"),
                    ("pod_name", "pod"),
                )
            ),
            {"target_label": "endpoint", "replacement": endpoint["port"]},
            *(
                {"source_labels": one["sourceLabels"], "target_label": one["targetLabel"]}
                for one in endpoint.get("relabelings", ())
            ),
        ],
    }


def _kept(label: str, value: str) -> dict[str, Any]:
    return {"source_labels": [label], "regex": value, "action": "keep"}


def _label(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def queries(dashboard: Mapping[str, Any]) -> Collection[tuple[str, str]]:
    """Every query of a dashboard with the title of its panel, its variables replaced."""
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", "10s").replace("$limit", ".*"))
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
