"""A node of a test cluster: a host of the lab on which the real agent runs and follows a real API server.

The agent dials the API server's own address on loopback; a relay carries it out of the namespace. Looks at the kernel
as `node` does. Makes no object in the cluster: who calls has made the Node and hands over a token bound to it.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import urllib.parse
from collections.abc import Sequence

from bandwidth_lab import node, pages
from bandwidth_lab.namespaces import Process
from bandwidth_lab.relay import Relay
from bandwidth_lab.topology import Host

METRICS = "127.0.0.1:9482"


class ClusterNode:
    """The agent of one node. `kernel` looks at what it did; `name` is that of the Node."""

    def __init__(self, name: str, host: Host, folder: pathlib.Path, kubeconfig: pathlib.Path, *options: str) -> None:
        self.name = name
        self.folder = folder
        self.options = options
        self._relays: dict[int, Relay] = {}
        self.move(host)
        self.follow(kubeconfig)

    def move(self, host: Host) -> None:
        """Run on this host from the next start on: the same node with its disk, booted again."""
        self.disconnect()
        self.host = host
        self.kernel = node.Node(host.namespace, self.folder, interface=host.interface)

    def follow(self, kubeconfig: pathlib.Path) -> None:
        """Use this kubeconfig from the next start on."""
        self.kubeconfig = kubeconfig
        server = json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        self._port = int(urllib.parse.urlsplit(server).port or 443)

    # ── the way to the API server ──────────────────────────────────────────────────────────────────────────────

    def connect(self) -> None:
        """Let the node reach the API server."""
        if self._port not in self._relays:
            self._relays[self._port] = Relay(self.host.namespace, self._port)

    def disconnect(self) -> None:
        """Let the node reach nothing any more."""
        for relay in self._relays.values():
            relay.close()
        self._relays.clear()

    # ── the program ────────────────────────────────────────────────────────────────────────────────────────────

    def command(self) -> list[str]:
        where = ("--kubeconfig", str(self.kubeconfig), "--node-name", self.name, "--state-dir", str(self.kernel.state))
        return [
            str(self.kernel.program),
            "run",
            *where,
            "--metrics-address",
            METRICS,
            "--log-format",
            "json",
            *self.options,
        ]

    def start(self, *, connected: bool = True) -> None:
        """Run the agent; its log goes on in one file over restarts."""
        if connected:
            self.connect()
        environment = {"PATH": os.environ["PATH"], "PYTHONFAULTHANDLER": "1"}
        self.kernel.start_command(self.command(), environment)

    @property
    def process(self) -> Process:
        assert self.kernel.process is not None
        return self.kernel.process

    def stop(self) -> int:
        """End the agent as a kubelet does; its exit code."""
        return self.kernel.stop()

    def kill(self) -> None:
        self.kernel.kill()

    def close(self) -> None:
        """End the agent if it runs, and its way out."""
        if self.kernel.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        self.disconnect()

    @property
    def log(self) -> str:
        return self.kernel.log.read_text() if self.kernel.log.exists() else ""

    def page(self, path: str) -> tuple[int, str]:
        """What the agent serves at /metrics, /healthz or /readyz; status 0 while it does not listen."""
        return self.host.namespace.call(lambda: _get(path))

    # ── what is in force ───────────────────────────────────────────────────────────────────────────────────────

    def rates(self, clients: Sequence[str]) -> list[int | None]:
        """The rate in bits per second of each client's class; None for those in none."""
        return [self.kernel.rate_of(client) for client in clients]


def _get(path: str) -> tuple[int, str]:
    try:
        return pages.get(METRICS, path)
    except OSError:
        return 0, ""
