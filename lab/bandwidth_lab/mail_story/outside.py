"""The world outside the cluster: one container beside the nodes with the site's router, its uplink and the clients.

It is on the network of the nodes and holds network namespaces of its own (`image/internet` makes and draws them). The
uplink's bound is a plain TBF in there, on the router's side towards the clients: nothing is done to the nodes but one
route to each client's network, which is taken away again. Needs docker, and a kernel that the nodes share.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

IMAGE = "client-bandwidth-story:dev"
NETWORK = "kind"
CLIENT_NETWORKS = ("203.0.113.0/24", "198.51.100.0/24")
TIMEOUT_SECONDS = 60.0
BUILD_SECONDS = 600.0

Line = Mapping[str, Any]


class CommandError(Exception):
    """A command failed; the message holds it and what it printed."""


def run(command: Sequence[str], *, stdin: str | None = None, timeout: float = TIMEOUT_SECONDS) -> str:
    """What a command printed; a failure raises."""
    done = subprocess.run(
        command,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise CommandError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def build_image() -> None:
    """The image of the mail server and its clients. IMAGE_BASE names another base than Debian's of today's stable."""
    folder = pathlib.Path(__file__).parent
    base = [f"--build-arg=IMAGE_BASE={os.environ['IMAGE_BASE']}"] if os.environ.get("IMAGE_BASE") else []
    recipe = str(folder / "image" / "Dockerfile")
    run(
        ["docker", "build", "-q", "--network=host", *base, "-t", IMAGE, "-f", recipe, str(folder)],
        timeout=BUILD_SECONDS,
    )


class Outside:
    """The container, while it runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._readers: list[tuple[subprocess.Popen[str], threading.Thread]] = []
        self._stopped = threading.Event()
        self.lost: list[str] = []

    @property
    def address(self) -> str:
        """Its address on the nodes' network."""
        networks = json.loads(run(["docker", "inspect", "-f", "{{json .NetworkSettings.Networks}}", self.name]))
        return str(networks[NETWORK]["IPAddress"])

    def follow(self, client: str, words: Sequence[str], take: Callable[[Line], None]) -> None:
        """Run the client program in a client's namespace until the container ends; each of its lines goes to `take`."""
        command = ["docker", "exec", self.name, "ip", "netns", "exec", client, "python3", "/story/client.py", *words]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        thread = threading.Thread(target=self._read, args=(process, client, words[0], take), daemon=True)
        thread.start()
        self._readers.append((process, thread))

    def _read(self, process: subprocess.Popen[str], client: str, program: str, take: Callable[[Line], None]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            take(json.loads(line))
        if not self._stopped.is_set():
            self.lost.append(f"{program} of the {client} client has ended with exit code {process.wait()}")

    def close(self) -> None:
        """Remove the container and with it everything in it."""
        self._stopped.set()
        subprocess.run(["docker", "rm", "-f", self.name], capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
        for process, thread in self._readers:
            thread.join(TIMEOUT_SECONDS)
            process.wait(TIMEOUT_SECONDS)


@contextlib.contextmanager
def outside(nodes: Sequence[str], uplink_bits_per_second: int, queue_bytes: int) -> Iterator[Outside]:
    """The outside, with routes from these nodes to its clients; both are gone at the end."""
    made = Outside(f"mail-story-{os.getpid()}")
    with contextlib.ExitStack() as undo:
        undo.callback(made.close)
        how = ["--privileged", "--network", NETWORK, "--name", made.name]
        run(["docker", "run", "-d", *how, IMAGE, "sleep", "infinity"])
        run(["docker", "exec", made.name, "/story/internet", str(uplink_bits_per_second), str(queue_bytes)])
        address = made.address
        for node in nodes:
            for network in CLIENT_NETWORKS:
                run(["docker", "exec", node, "ip", "route", "add", network, "via", address])
                undo.callback(_forget, node, network)
        yield made


def _forget(node: str, network: str) -> None:
    """Take a route away, if node and route are still there."""
    command = ["docker", "exec", node, "ip", "route", "del", network]
    subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
