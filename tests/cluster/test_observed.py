"""What observes the programs of a cluster stops none of them: floods, taken ports, dead logs, signals, hostile text."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from bandwidth_kube import client
from bandwidth_lab import cluster_node
from bandwidth_lab.fleet import fleet
from cluster.test_check import check
from cluster.world import STATES, Operator, World, get, limit

HALF = b"GET /metrics HTTP/1.1\r\nX: "
HOSTILE = "\x1b[2J\x1b]0;x\x07\nnode-9: all is well\u202e"


def planned(world: World, name: str) -> None:
    """A limit that is written now is soon in the plan."""
    world.create(limit(name))
    world.wait(lambda: name in world.rates(), f"{name} is planned")


def port_of(world: World, operator: Operator) -> str:
    found = world.wait(lambda: re.findall(r'"port": (\d+)', operator.log), "it serves")
    return str(found[0])


@contextlib.contextmanager
def flood(port: str, count: int) -> Iterator[None]:
    """So many connections from here, each with half a request."""
    with contextlib.ExitStack() as opened:
        for _ in range(count):
            one = opened.enter_context(socket.create_connection(("127.0.0.1", int(port)), timeout=10))
            with contextlib.suppress(ConnectionError):  # it gave way to a later one
                one.sendall(HALF)
        yield


def test_a_flood_stops_neither_the_operator_nor_its_probes(world: World) -> None:
    """With 96 descriptors and 300 half requests of the address that its probes come from."""
    operator = world.operator("operator", "--metrics-address", "127.0.0.1:0")
    port = port_of(world, operator)
    world.wait(lambda: get(port, "/readyz")[1] == "acting\n", "it acts")
    _, hard = resource.prlimit(operator.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(operator.process.pid, resource.RLIMIT_NOFILE, (96, hard))
    with flood(port, 300):
        assert get(port, "/healthz") == (200, "ok\n")
        planned(world, "a")
        assert get(port, "/readyz") == (200, "acting\n")
        assert "bandwidth_operator_leading 1.0" in get(port, "/metrics")[1]
    assert operator.process.poll() is None


def test_a_port_that_is_taken_stops_no_plan(world: World) -> None:
    """The operator says what is in the way, plans, and serves when the other program is gone."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        operator = world.operator("operator", "--metrics-address", f"127.0.0.1:{port}")
        planned(world, "a")
        assert "another program has this port" in operator.log
    assert port_of(world, operator) == port
    world.wait(lambda: get(port, "/readyz")[1] == "acting\n", "it acts")


@pytest.mark.root
def test_an_agent_whose_port_is_taken_enforces_and_says_so_in_its_state(world: World) -> None:
    """Until the port is free, and then no more."""
    with fleet(1, 1, prefix="co-") as network:
        node, address = world.real_node("node-0", network.nodes[0]), network.clients[0].address4
        world.operator()
        world.create(limit("a", [address]))
        with node.host.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
            host, _, port = cluster_node.METRICS.rpartition(":")
            taken.bind((host, int(port)))
            taken.listen()
            world.start(node)
            world.wait(lambda: node.rates([address]) == [5_000_000], "the limit is in force")
            said = "another program has this port"
            world.wait(lambda: said in world.state("node-0").get("message", ""), "it says so")
            world.wait_ready("a")
        world.wait(lambda: node.page("/readyz") == (200, "ok\n"), "it serves")
        world.wait(lambda: world.state("node-0").get("message", "") == "", "it says so no more")


@contextlib.contextmanager
def stuck(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A pipe that is full, and whose reader reads no more."""
    path = folder / "stuck"
    os.mkfifo(path)
    ours = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(ours, b"x" * 4096)
    try:
        yield path
    finally:
        os.close(ours)


@pytest.mark.parametrize("kind", ["full disk", "stuck reader"])
def test_a_log_that_goes_nowhere_stops_no_plan(world: World, tmp_path: pathlib.Path, kind: str) -> None:
    """The operator leads, plans, and ends with 0 when it is told to."""
    full = contextlib.nullcontext(pathlib.Path("/dev/full"))
    with full if kind == "full disk" else stuck(tmp_path) as log:
        kubeconfig = world.plane.kubeconfig("operator", token=world.operator_token())
        operator = Operator(kubeconfig, log, "operator", ("--log-level", "debug"))
        try:
            planned(world, "a")
            assert operator.stop() == 0
        finally:
            operator.kill()


def test_signals_of_a_closed_session_end_no_operator(world: World) -> None:
    """SIGHUP, SIGUSR1 and SIGUSR2 are said in the log; SIGQUIT gives the Lease up and ends it with 0."""
    operator = world.operator()
    world.wait(lambda: world.holder().startswith("operator"), "it leads")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        operator.signal(number)
        world.wait(lambda number=number: number.name in operator.log, "it says so")  # type: ignore[misc]
    planned(world, "a")
    operator.signal(signal.SIGQUIT)
    operator.signal(signal.SIGTERM)
    assert operator.process.wait(30) == 0
    assert world.holder() == ""


def hostile_state(world: World, name: str) -> None:
    """A node whose agent reports text that would steer a terminal and pass for another line."""
    world.agent(name).stop()
    status = {
        "limits": {"desired": 1, "programmed": 0, "failed": 1},
        "message": HOSTILE,
        "failing": [{"name": HOSTILE[:40], "reason": "R", "message": HOSTILE}],
    }
    world.api.request("PATCH", f"{STATES}/{name}/status", body={"status": status}, content_type=client.MERGE_PATCH)


def shown(done: subprocess.CompletedProcess[str]) -> str:
    text = done.stdout + done.stderr
    assert all(letter == "\n" or letter.isprintable() for letter in text), repr(text)
    return text


def test_text_of_node_states_steers_no_terminal(world: World) -> None:
    """What check prints of them is one line each, with the control characters as their codes."""
    world.operator()
    planned(world, "a")
    hostile_state(world, "node-0")
    text = shown(check(world, "--timeout", "3"))
    assert "\\x1b[2J" in text
    assert not any(line.startswith("node-9") for line in text.splitlines())
