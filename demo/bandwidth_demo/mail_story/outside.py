"""The world outside the cluster: one container beside the nodes with the site's router, its uplink and the clients.

It is on the network of the nodes and holds network namespaces of its own (`image/internet` makes and draws them). The
uplink's bound is a plain TBF in there, on the router's side towards the clients: nothing is done to the nodes but one
route to each client's network, which is taken away again.
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

from bandwidth_lab.kind import cluster, shell
from bandwidth_lab.kind.node import Node, container_address

IMAGE = "client-bandwidth-story:dev"
CLIENT_NETWORKS = ("203.0.113.0/24", "198.51.100.0/24")
BUILD_SECONDS = 600.0
END_SECONDS = 10.0

Line = Mapping[str, Any]


def build_image() -> None:
    """Build the image of the mail server and its clients; IMAGE_BASE replaces the base image."""
    folder = pathlib.Path(__file__).parent
    base = [f"--build-arg=IMAGE_BASE={os.environ['IMAGE_BASE']}"] if os.environ.get("IMAGE_BASE") else []
    recipe = str(folder / "image" / "Dockerfile")
    command = ["docker", "build", "-q", "--network=host", *base, "-t", IMAGE, "-f", recipe, str(folder)]
    shell.run(command, timeout=BUILD_SECONDS)


class Program:
    """A client program that runs outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.stopped = False

    def stop(self) -> None:
        """Have it end, with all its connections: it does when its input ends."""
        self.stopped = True
        assert self.process.stdin is not None
        self.process.stdin.close()


class Outside:
    """The container that holds the world outside of the cluster."""

    def __init__(self, of: cluster.Cluster) -> None:
        self.name = f"{of.name}-outside"
        self._of = of
        self._programs: list[tuple[Program, threading.Thread]] = []
        self._closing = False
        self.lost: list[str] = []  # programs that have ended by themselves

    def start(self, uplink_bits_per_second: int, queue_bytes: int) -> None:
        """Make the container and the networks in it."""
        label = f"{cluster.PREFIX}of={self._of.name}"
        how = ["--privileged", "--network", "kind", "--name", self.name, "--label", label]
        shell.run(["docker", "run", "-d", *how, IMAGE, "sleep", "infinity"])
        shell.run(["docker", "exec", self.name, "/story/internet", str(uplink_bits_per_second), str(queue_bytes)])

    def follow(self, client: str, words: Sequence[str], take: Callable[[Line], None]) -> Program:
        """Run the client program in a client's namespace until it is stopped or the container ends.

        `take` is called with each line.
        """
        command = [
            "docker",
            "exec",
            "-i",
            self.name,
            "ip",
            "netns",
            "exec",
            client,
            "python3",
            "/story/client.py",
            *words,
        ]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        program = Program(process)
        thread = threading.Thread(target=self._read, args=(program, f"{client}: {words[0]}", take), daemon=True)
        thread.start()
        self._programs.append((program, thread))
        return program

    def _read(self, program: Program, name: str, take: Callable[[Line], None]) -> None:
        process = program.process
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                take(json.loads(line))
        returncode = process.wait()
        if not (self._closing or program.stopped):
            self.lost.append(f"{name} has ended with exit code {returncode}")

    def close(self) -> None:
        """Remove the container and with it everything in it."""
        self._closing = True
        shell.run(["docker", "rm", "-f", self.name], check=False)
        for program, thread in self._programs:
            thread.join(END_SECONDS)
            program.process.kill()  # nothing, as a rule: it has ended with its container
            with contextlib.suppress(BrokenPipeError):
                program.stop()


@contextlib.contextmanager
def outside(of: cluster.Cluster, uplink_bits_per_second: int, queue_bytes: int) -> Iterator[Outside]:
    """Yield the running container, with routes from the nodes to its clients; remove all of it at the end."""
    made = Outside(of)
    with contextlib.ExitStack() as undo:
        undo.callback(made.close)
        made.start(uplink_bits_per_second, queue_bytes)
        address = container_address(made.name, 4)
        for node in of.nodes:
            for network in CLIENT_NETWORKS:
                node.run("ip", "route", "add", network, "via", address)
                undo.callback(_forget, node, network)
        yield made


def _forget(node: Node, network: str) -> None:
    node.run("ip", "route", "del", network, check=False)
