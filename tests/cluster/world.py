"""What a test of the cluster has at hand: objects to write and read, operators and agents to start and to kill."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from bandwidth_kube import client, connection
from bandwidth_lab import pages, warm
from bandwidth_lab.cluster_node import ClusterNode
from bandwidth_lab.control_plane import ControlPlane
from bandwidth_lab.namespaces import Process
from bandwidth_lab.node import PROGRAM, pause_seconds
from bandwidth_lab.simulated_agents import SimulatedAgent
from bandwidth_lab.topology import Host
from cluster import helm

T = TypeVar("T")
Object = dict[str, Any]

OPERATOR = PROGRAM.with_name("bandwidth-operator")
NAMESPACE = "client-bandwidth"
GROUP = "/apis/clientbandwidth.io/v1alpha1"
LIMITS = f"{GROUP}/clientbandwidthlimits"
SLICES = f"{GROUP}/bandwidthplanslices"
STATES = f"{GROUP}/nodebandwidthstates"
QUERIES = f"{GROUP}/clienttrafficqueries"
POLICIES = f"{GROUP}/clientbandwidthpolicies"
TRAFFIC = f"{GROUP}/nodeclienttraffics"
NODES = "/api/v1/nodes"
PATIENCE_SECONDS = 60.0  # until something that must come has failed to come, on a machine with much else to do
EVENTS = "/api/v1/namespaces/default/events"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"


def limit(name: str, clients: Sequence[str] = ("203.0.113.7",), rate: str = "5Mbit", **spec: Any) -> Object:
    """A ClientBandwidthLimit."""
    egress = {"rate": rate} | spec.pop("egress", {})
    return {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "ClientBandwidthLimit",
        "metadata": {"name": name},
        "spec": {"clients": list(clients), "egress": egress, **spec},
    }


class Operator:
    """One `bandwidth-operator run` process."""

    def __init__(
        self,
        kubeconfig: pathlib.Path,
        log: pathlib.Path,
        name: str,
        words: Sequence[str],
        program: pathlib.Path = OPERATOR,
    ) -> None:
        self.log_path = log
        self.name = name
        self.program = program
        command = [str(program), "run", "--kubeconfig", str(kubeconfig), "--log-format", "json", *words]
        pod = {"POD_NAMESPACE": NAMESPACE, "POD_NAME": name}
        environment = {"PATH": os.environ["PATH"], "PYTHONFAULTHANDLER": "1", **pod}
        self.process: Process
        with open(log, "ab") as out:
            if program == OPERATOR:
                to = out.fileno()
                self.process = warm.start(command, stdout=to, stderr=to, environment=environment, dies_with_parent=True)
            else:
                command = ["setpriv", "--pdeathsig", "KILL", *command]
                self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, text=True)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def dump(self) -> None:
        """End it and have it write into its log what each of its threads was doing."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(10)

    def stop(self, seconds: float = PATIENCE_SECONDS) -> int:
        """End it the polite way; returns the exit code."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it the other way."""
        self.process.kill()
        self.process.wait(10)


class PatientClient(client.Client):
    """Requests of a test, which has nothing better to do than to wait for a busy API server."""

    def request(self, *arguments: Any, **options: Any) -> Object:
        return super().request(*arguments, **({"timeout_seconds": PATIENCE_SECONDS} | options))


class World:
    """One test's view of the cluster."""

    def __init__(self, plane: ControlPlane, directory: pathlib.Path) -> None:
        self.plane = plane
        self.directory = directory
        self.api = PatientClient(connection.load(plane.kubeconfig()), "test")
        self.operators: list[Operator] = []
        self.agents: dict[str, SimulatedAgent] = {}
        self.real: dict[str, ClusterNode] = {}

    # ── objects ────────────────────────────────────────────────────────────────────────────────────────────────

    def clean(self) -> None:
        """Delete everything that an earlier test left."""
        for path in (POLICIES, LIMITS, QUERIES, TRAFFIC, SLICES, STATES, NODES, EVENTS, LEASES):
            self.api.request("DELETE", path)

    def leave(self) -> None:
        """End the agents and delete limits and nodes, so that an operator which goes on has nothing to do."""
        for agent in self.agents.values():
            agent.stop()
        self.agents.clear()
        self.api.request("DELETE", LIMITS)
        self.wait(lambda: not self.rates(), "no limit is planned any more")
        for path in (STATES, NODES, EVENTS):
            self.api.request("DELETE", path)

    def create(self, *limits: Object) -> None:
        for each in limits:
            self.api.request("POST", LIMITS, body=each)

    def edit(self, name: str, **spec: Any) -> None:
        """Merge fields into the spec of a limit; None removes one."""
        self.api.request("PATCH", f"{LIMITS}/{name}", body={"spec": spec}, content_type=client.MERGE_PATCH)

    def delete(self, name: str) -> None:
        self.api.request("DELETE", f"{LIMITS}/{name}")

    def get(self, path: str) -> Object:
        return self.api.request("GET", path)

    def items(self, path: str) -> list[Object]:
        return self.api.listed(path).items

    def versions(self) -> dict[str, str]:
        """The resource version of each of our objects, heartbeats aside: equal when nothing was written."""
        return {
            f"{path}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for path in (LIMITS, SLICES)
            for item in self.items(path)
        }

    def rates(self) -> dict[str, int]:
        """The rate in bits per second of each limit in the plan."""
        entries = [e for s in self.items(SLICES) for e in s["spec"].get("entries", ())]
        return {e["name"]: e["rate"] for e in entries}

    def holder(self) -> str:
        """Who holds the operators' Lease; "" while there is none."""
        leases = self.items(LEASES)
        return str(leases[0]["spec"].get("holderIdentity") or "") if leases else ""

    def state(self, node: str) -> Object:
        """What a node reports; nothing before it does."""
        item = next((i for i in self.items(STATES) if i["metadata"]["name"] == node), {})
        return dict(item.get("status") or {})

    def settled(self, seconds: float = 1.5) -> None:
        """Wait until nothing was written for a while."""
        since, seen = time.monotonic(), self.versions()

        def quiet() -> bool:
            nonlocal since, seen
            if (now_seen := self.versions()) != seen:
                since, seen = time.monotonic(), now_seen
            return time.monotonic() - since > seconds

        self.wait(quiet, "writes come to rest")

    def status(self, name: str) -> Object:
        """What is said of a limit; nothing before anything is."""
        return dict(self.get(f"{LIMITS}/{name}").get("status") or {})

    def conditions(self, name: str) -> dict[str, Object]:
        return {c["type"]: c for c in self.status(name).get("conditions") or ()}

    def ready(self, name: str) -> str:
        """The reason of the condition Ready, "" before there is one."""
        return str(self.conditions(name).get("Ready", {}).get("reason", ""))

    def in_force(self, name: str, generation: int) -> bool:
        """Whether this version of a limit is Ready."""
        ready = self.conditions(name).get("Ready", {})
        return bool(ready.get("status") == "True" and ready.get("observedGeneration") == generation)

    def wait_ready(self, *names: str, reason: str = "Ready", seconds: float = PATIENCE_SECONDS) -> None:
        for name in names:
            self.wait(lambda name=name: self.ready(name) == reason, f"{name} is {reason}", seconds)  # type: ignore[misc]

    def nodes(self, *names: str, labels: Mapping[str, str] | None = None) -> None:
        for name in names:
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": dict(labels or {})}}
            self.api.request("POST", NODES, body=node)

    def policy(self, name: str, *settings: str, home: pathlib.Path) -> None:
        """Have one of the chart's policies as it is with these values, whatever it was changed to before."""
        text = helm.policy(name, *settings, home=home)
        self.plane.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=text)
        self.plane.kubectl("apply", "--server-side", "-f", "-", stdin=text)

    # ── programs ───────────────────────────────────────────────────────────────────────────────────────────────

    def operator(
        self, name: str = "operator", *words: str, server: str | None = None, program: pathlib.Path = OPERATOR
    ) -> Operator:
        """Start an operator with the rights of deploy/install.yaml and no others."""
        kubeconfig = self.plane.kubeconfig("operator", token=self.operator_token(), server=server)
        started = Operator(kubeconfig, self.directory / f"{name}.log", name, words, program)
        self.operators.append(started)
        return started

    def operator_token(self) -> str:
        return self._token("client-bandwidth-operator", {})

    def agent_token(self, node: str) -> str:
        """A token as a kubelet hands it to the agent's pod, bound to its node."""
        uid = self.get(f"{NODES}/{node}")["metadata"]["uid"]
        return self._token(
            "client-bandwidth-agent", {"boundObjectRef": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}}
        )

    def _token(self, account: str, spec: Object) -> str:
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str(self.api.request("POST", path, body=request)["status"]["token"])

    def label(self, node: str, labels: Mapping[str, str | None]) -> None:
        """Merge labels into those of a node; None removes one."""
        body = {"metadata": {"labels": dict(labels)}}
        self.api.request("PATCH", f"{NODES}/{node}", body=body, content_type=client.MERGE_PATCH)

    def agent(self, node: str, labels: Mapping[str, str] | None = None, **options: Any) -> SimulatedAgent:
        """Make a node and start a simulated agent on it, with the rights of an agent and a token of its node."""
        self.nodes(node, labels=labels)
        return self.agent_on(node, labels, **options)

    def agent_on(self, node: str, labels: Mapping[str, str] | None = None, **options: Any) -> SimulatedAgent:
        """Start a simulated agent on a node that is there; it has reported when this returns."""
        where = connection.load(self.plane.kubeconfig("agent", token=self.agent_token(node)))
        started = SimulatedAgent(where, node, labels=labels, **options)
        started.start()
        self.agents[node] = started
        self.wait(lambda: self.state(node), f"{node} reports")
        return started

    def real_node(self, name: str, host: Host, *options: str, labels: Mapping[str, str] | None = None) -> ClusterNode:
        """Make a node of a host of the lab; its agent, the real one, is yet to be started."""
        self.nodes(name, labels=labels)
        folder = self.directory / name
        made = ClusterNode(name, host, folder, self.agent_kubeconfig(name), *options)
        self.real[name] = made
        return made

    def start(self, *nodes: ClusterNode) -> None:
        """Start the agents of these nodes and wait until each has reported."""
        for node in nodes:
            node.start()
        for node in nodes:
            self.wait(lambda node=node: self.state(node.name), f"{node.name} reports")  # type: ignore[misc]

    def agent_kubeconfig(self, node: str, server: str | None = None) -> pathlib.Path:
        return self.plane.kubeconfig("agent", token=self.agent_token(node), server=server)

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """While this lasts there is no API server; afterwards it is as it was."""
        self.plane.stop_api()
        try:
            yield
        finally:
            self.plane.start_api()

    def close(self) -> None:
        """End everything that was started."""
        for agent in self.agents.values():
            agent.stop()
        for node in self.real.values():
            node.close()
        for operator in self.operators:
            operator.kill()
        self.api.close()

    def wait(self, condition: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
        """Ask again and again until the answer is true; returns it. What is not said yet is not so yet."""
        deadline = time.monotonic() + seconds
        answer: T | None = None
        while (asked := time.monotonic()) < deadline:
            try:
                answer = condition()
                if answer:
                    return answer
            except (client.ApiError, LookupError) as error:
                answer = error  # type: ignore[assignment]
            time.sleep(pause_seconds(time.monotonic() - asked, least=0.05))
        for operator in self.operators:
            operator.dump()
        logs = "".join(f"\n── {o.name}\n{o.log[-9000:]}" for o in (*self.operators, *self.real.values()))
        raise AssertionError(
            f"not within {seconds} s: {what}; last answer {json.dumps(answer, default=repr)[:2000]}{logs}"
        )


def get(port: str, path: str) -> tuple[int, str]:
    """What a program here serves on a port of loopback: status and text."""
    return pages.get(f"127.0.0.1:{port}", path)
