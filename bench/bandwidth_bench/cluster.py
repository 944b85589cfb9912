"""The cluster under test: a real API server with etcd, the operator as a process, nodes and their agents' tokens.

Owns the processes and what /proc and the API server's own metrics say of them. Everything runs with the rights that
the manifests of `deploy/` give it; only the filling with objects is done by an administrator.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ipaddress
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bandwidth_bench import stage
from bandwidth_kube import client, connection
from bandwidth_lab import control_plane

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMESPACE = "client-bandwidth"
GROUP = "/apis/clientbandwidth.io/v1alpha1"
LIMITS = f"{GROUP}/clientbandwidthlimits"
SLICES = f"{GROUP}/bandwidthplanslices"
STATES = f"{GROUP}/nodebandwidthstates"
QUERIES = f"{GROUP}/clienttrafficqueries"
TRAFFIC = f"{GROUP}/nodeclienttraffics"
NODES = "/api/v1/nodes"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/client-bandwidth-operator"
ACCOUNTS = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"

FIRST = int(ipaddress.IPv4Address("10.0.0.1"))
WRITERS = 8
PATIENCE_SECONDS = 900.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
WRITING = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})

Object = dict[str, Any]
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def missing() -> str:
    """What is missing for a cluster here; empty if nothing is."""
    try:
        control_plane.binaries()
    except control_plane.BinariesMissingError as error:
        return str(error)
    return ""


def limit_name(number: int) -> str:
    return f"client-{number:05}"


def limit(number: int, rate: str = "5Mbit") -> Object:
    """One of many limits, each for an address of its own in 10.0.0.0/8."""
    return {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "ClientBandwidthLimit",
        "metadata": {"name": limit_name(number)},
        "spec": {
            "clients": [str(ipaddress.IPv4Address(FIRST + number))],
            "egress": {"rate": rate},
            "reason": "mailbox sync loop, ticket 4711",
        },
    }


class Operator:
    """One `bandwidth-operator run`."""

    def __init__(self, kubeconfig: pathlib.Path, log: pathlib.Path, name: str) -> None:
        self.log_path = log
        self.started_at = time.monotonic()
        self._port = 0
        words = ("run", "--kubeconfig", str(kubeconfig), "--log-format", "json", "--metrics-address", "127.0.0.1:0")
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "bandwidth_operator.cli", *words],
                stdout=out,
                stderr=out,
                env={"PATH": os.environ["PATH"], "POD_NAMESPACE": NAMESPACE, "POD_NAME": name},
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def get(self, path: str) -> str:
        """What it serves there, "" while it serves nothing; what is not ready says why."""
        if not self._port:
            found = re.search(r'"port": (\d+)', self.log)
            if not found:
                return ""
            self._port = int(found[1])
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=30) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.code} {error.read().decode()}"
        except OSError:
            return ""

    def metrics(self) -> Series:
        return series(self.get("/metrics"))

    def get_metric(self, name: str) -> float:
        return total(self.metrics(), name)

    def ready_limits(self) -> float:
        """How many limits it has judged to be Ready."""
        return total(self.metrics(), "bandwidth_operator_limits", reason="Ready")

    def resident_mib(self) -> float:
        return resident_mib(self.process.pid)

    def peak_mib(self) -> float:
        return peak_mib(self.process.pid)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process.pid)

    def stop(self) -> None:
        """End it the polite way, so that the next one leads at once."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(30)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


class Cluster:
    """An API server with our kinds and access rules, and who uses it."""

    def __init__(self, plane: control_plane.ControlPlane, folder: pathlib.Path) -> None:
        self.plane = plane
        self.folder = folder
        self.api = client.Client(connection.load(plane.kubeconfig()), "bench", connections=WRITERS)
        self.operators: list[Operator] = []

    # ── objects ────────────────────────────────────────────────────────────────────────────────────────────────

    def fill(self, numbers: Sequence[int], rate: str = "5Mbit") -> float:
        """Create limits over several connections at once, as fast as the API server takes them; seconds it took."""
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
            for done in [pool.submit(self.api.request, "POST", LIMITS, body=limit(n, rate)) for n in numbers]:
                done.result()
        return time.monotonic() - start

    def edit(self, number: int, rate: str) -> None:
        body = {"spec": {"egress": {"rate": rate}}}
        path = f"{LIMITS}/{limit_name(number)}"
        self.api.request("PATCH", path, body=body, content_type=client.MERGE_PATCH)

    def items(self, path: str) -> list[Object]:
        return self.api.listed(path).items

    def clear(self, *paths: str) -> None:
        """Delete all objects of these kinds."""
        for path in paths:
            self.api.request("DELETE", path, timeout_seconds=PATIENCE_SECONDS)

    def exists(self, path: str) -> bool:
        try:
            self.api.request("GET", path)
        except client.RefusedError as refused:
            if refused.status != 404:
                raise
            return False
        return True

    def statuses_ready(self) -> int:
        """How many limits say of themselves that they are Ready."""
        return sum(is_ready(item) for item in self.items(LIMITS))

    # ── programs ───────────────────────────────────────────────────────────────────────────────────────────────

    def operator(self, name: str) -> Operator:
        """Start an operator under its own service account."""
        token = self.api.request("POST", f"{ACCOUNTS}/client-bandwidth-operator/token", body=_token_request({}))[
            "status"
        ]["token"]
        started = Operator(self.plane.kubeconfig("operator", token=str(token)), self.folder / f"{name}.log", name)
        self.operators.append(started)
        return started

    def agent_kubeconfigs(self, nodes: Sequence[str]) -> dict[str, pathlib.Path]:
        """Make Nodes, and a kubeconfig for the agent of each with a token bound to its Node."""
        return {name: self._agent_kubeconfig(name) for name in nodes}

    def _agent_kubeconfig(self, name: str) -> pathlib.Path:
        node = self.api.request("POST", NODES, body={"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        bound = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
        request = _token_request({"boundObjectRef": bound})
        answer = self.api.request("POST", f"{ACCOUNTS}/client-bandwidth-agent/token", body=request)
        return self.plane.kubeconfig("agent", token=str(answer["status"]["token"]))

    def close(self) -> None:
        """End what was started here."""
        for operator in self.operators:
            if operator.process.poll() is None:
                operator.kill()
        self.api.close()

    # ── what the API server counts ─────────────────────────────────────────────────────────────────────────────

    def metrics(self) -> Series:
        """One scrape of the API server."""
        return series(self.plane.kubectl("get", "--raw", "/metrics").stdout)

    def api_cpu_seconds(self) -> float:
        """CPU that API server and etcd have used."""
        return sum(cpu_seconds(pid) for pid in self.plane.pids)


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """A cluster with nothing in it but our kinds and access rules; all of it is gone afterwards."""
    with control_plane.running() as plane, stage.folder() as folder:
        install(plane)
        made = Cluster(plane, folder)
        try:
            yield made
        finally:
            made.close()


def install(plane: control_plane.ControlPlane) -> None:
    """Our kinds, access rules and policies from `deploy/`."""
    deploy = ROOT / "deploy"
    rendered = deploy / "install.yaml"
    others = (
        [rendered] if rendered.exists() else [deploy / "rbac" / "namespace.yaml", deploy / "rbac", deploy / "policies"]
    )
    for path in (deploy / "crds", *others):
        plane.kubectl("apply", "--server-side", "-f", str(path))
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    for kind in (LIMITS, SLICES, STATES):
        until(lambda kind=kind: plane.kubectl("get", "--raw", kind, check=False).returncode == 0, kind, pause=0.2)  # type: ignore[misc]


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS, pause: float = 0.02) -> float:
    """Ask until the answer is true; seconds waited."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(pause)
    return time.monotonic() - start


def now() -> float:
    """Seconds on a clock for differences."""
    return time.monotonic()


def since(start: float) -> float:
    """Seconds since `now` was that."""
    return time.monotonic() - start


_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def series(text: str) -> Series:
    """An exposition in Prometheus' form."""
    found: Series = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            found[match[1], frozenset(_LABEL.findall(match[2] or ""))] = float(match[3])
    return found


def total(of: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    """The sum over all series of this name that have these labels."""
    wanted = set(labels.items())
    return sum(value for (each, found), value in of.items() if each == name and wanted <= found)


def writes(before: Series, after: Series) -> dict[str, float]:
    """Writes that the API server carried out or refused in between, by resource."""
    found: dict[str, float] = {}
    for (name, labels), value in after.items():
        if name != "apiserver_request_total":
            continue
        of = dict(labels)
        count = value - before.get((name, labels), 0.0)
        if count and of.get("verb") in WRITING:
            key = of["resource"] + (f"/{of['subresource']}" if of.get("subresource") else "")
            found[key] = found.get(key, 0.0) + count
    return found


def delta(before: Series, after: Series, name: str, **labels: str) -> float:
    """By how much the sum over these series grew."""
    return total(after, name, **labels) - total(before, name, **labels)


def refused(before: Series, after: Series) -> float:
    """Requests that the API server refused because there were too many."""
    return delta(before, after, "apiserver_request_total", code="429")


def cpu_seconds(pid: int) -> float:
    """CPU that a process and the commands it ran have used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS_PER_SECOND


def resident_mib(pid: int) -> float:
    """Memory that a process holds now."""
    return _status_kib(pid, "VmRSS") / 1024


def peak_mib(pid: int) -> float:
    """The most memory that a process has held."""
    return _status_kib(pid, "VmHWM") / 1024


def _status_kib(pid: int, field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def _token_request(spec: Object) -> Object:
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
    return request | {"spec": {"expirationSeconds": 7200} | spec}


def is_ready(item: Object) -> bool:
    """Whether a limit's status says so, and speaks of the limit as it is now."""
    status = item.get("status") or {}
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
    return ready and status.get("observedGeneration") == item["metadata"]["generation"]


def object_bytes(item: Object) -> int:
    """The size of an object as JSON without spaces."""
    return len(json.dumps(item, separators=(",", ":"), ensure_ascii=False).encode())
