"""A registry on this machine, Debian's docker-registry: one process on loopback, where a release is pushed to, and one
on the network of the cluster's nodes, which pull what they call by its loopback name. Both have the same files.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import pathlib
import socket
import subprocess
from collections.abc import Iterator

from bandwidth_lab.kind import shell
from bandwidth_lab.kind.cluster import Cluster
from bandwidth_lab.kind.release import ROOT

_CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {files}}}, delete: {{enabled: true}}}}
http: {{addr: "{address}:{port}", secret: tests}}
"""


class Registry:
    """A running registry. `name` is what it is called, by whoever pushes and by the nodes."""

    def __init__(self, folder: pathlib.Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._port = _free_port()
        self.name = f"localhost:{self._port}"
        self._serve("127.0.0.1")

    def open_to(self, cluster: Cluster) -> None:
        """Let every node of a cluster pull from it."""
        self._serve(_gateway())
        environment = {**os.environ, "KIND_CLUSTER": cluster.name}
        shell.run([str(ROOT / "tools/kind-registry"), self.name], env=environment)

    def _serve(self, address: str) -> None:
        """A process for one address, which ends with the registry."""
        program = shell.run([str(ROOT / "tools/debian-program"), "docker-registry"], timeout=shell.TIMEOUT_SECONDS * 3)
        config = self._folder / f"{address}.yml"
        config.write_text(_CONFIG.format(files=self._folder / "files", address=address, port=self._port))
        log = self._stack.enter_context((self._folder / f"{address}.log").open("wb"))
        process = subprocess.Popen([program.strip(), "serve", str(config)], stdout=log, stderr=log)
        self._stack.callback(_end, process)

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection((address, self._port), timeout=5):
                return True
            return False

        shell.eventually(f"a registry answers at {address}", answers, seconds=30)


@contextlib.contextmanager
def started(folder: pathlib.Path) -> Iterator[Registry]:
    """A registry whose files are in `folder`, and are left there."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        yield Registry(folder, stack)


def _gateway() -> str:
    """This machine's IPv4 address on Docker's network `kind`."""
    (network,) = json.loads(shell.run(["docker", "network", "inspect", "kind"]))
    addresses = [ipaddress.ip_address(one["Gateway"]) for one in network["IPAM"]["Config"] if "Gateway" in one]
    return str(next(address for address in addresses if address.version == 4))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=30)
