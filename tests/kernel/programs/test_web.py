"""What the agent serves, under attack and where it cannot be served: limits go on in any case."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import re
import resource
import socket
from collections.abc import Iterator

import pytest

from bandwidth_lab import Network, TcpFlow
from kernel.programs.conftest import Host

pytestmark = pytest.mark.root

PORT = 9100
METRICS = ("--metrics-address", f"127.0.0.1:{PORT}")
HALF = b"GET /metrics HTTP/1.1\r\nX: "


def get(host: Host, path: str, address: str = "127.0.0.1") -> tuple[int, str]:
    """What is answered from inside of the host; 0 where nothing listens."""

    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection(address, PORT, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    return host.namespace.call(ask)


def until_ready(host: Host) -> None:
    host.until(lambda: get(host, "/readyz") == (200, "ok\n"))


@contextlib.contextmanager
def flooded(host: Host, count: int) -> Iterator[None]:
    """So many connections from this host to the agent, each with half a request."""

    def opened() -> list[socket.socket]:
        made = []
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", PORT), timeout=10)
            made.append(one)
            with contextlib.suppress(ConnectionError):  # it gave way to a later one
                one.sendall(HALF)
        return made

    flood = host.namespace.call(opened)
    try:
        yield
    finally:
        for one in flood:
            one.close()


def test_half_requests_stop_neither_limits_nor_probes(host: Host) -> None:
    """With 96 descriptors in all, and three times as many connections of a peer on the same address."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    with host.log.open("a") as log:
        host.process = host.namespace.start(
            ["prlimit", "--nofile=96:96", *host.command("run", *METRICS)], stdout=log.fileno(), stderr=log.fileno()
        )
    until_ready(host)
    with flooded(host, 300):
        assert get(host, "/healthz") == (200, "ok\n")
        host.limit("new", ["203.0.113.11"], "3Mbit")
        host.until_rate("203.0.113.11", 3_000_000, 10.0)
        assert get(host, "/readyz") == (200, "ok\n")
        assert "client_bandwidth_limits" in get(host, "/metrics")[1]
    assert host.stop() == 0


def test_without_any_descriptor_left_the_agent_waits_for_some(host: Host) -> None:
    """Whatever took them: it goes on, lifts nothing, and does what was to be done when there are some again."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.start(*METRICS)
    until_ready(host)
    assert host.process is not None
    pid = host.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, hard))
    host.limit("new", ["203.0.113.11"], "3Mbit")
    host.until(lambda: "Too many open files" in host.log.read_text())
    assert get(host, "/healthz")[0] in (0, 200)
    assert host.rate_of("203.0.113.10") == 5_000_000
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    host.until_rate("203.0.113.11", 3_000_000)
    until_ready(host)
    assert host.rate_of("203.0.113.10") == 5_000_000
    assert host.stop() == 0


def test_the_agent_may_open_more_files_than_it_was_given(host: Host) -> None:
    """The soft limit of a shell, 1024, is raised to what the hard one allows."""
    with host.log.open("a") as log:
        host.process = host.namespace.start(
            ["prlimit", "--nofile=256:2048", *host.command("run", *METRICS)], stdout=log.fileno(), stderr=log.fileno()
        )
    until_ready(host)
    assert resource.prlimit(host.process.pid, resource.RLIMIT_NOFILE) == (2048, 2048)
    host.stop()


def test_a_port_that_is_taken_stops_no_limit(host: Host) -> None:
    """The agent enforces, says in its log what is in the way, and serves when the other program is gone."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    with host.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", PORT))
        taken.listen()
        host.start(*METRICS)
        host.until_rate("203.0.113.10", 5_000_000)
        host.until(lambda: "another program has this port" in host.log.read_text())
    until_ready(host)
    lines = [json.loads(line) for line in host.log.read_text().splitlines()]
    told = [line for line in lines if "another program has this port" in line["message"]]
    assert [line["level"] for line in told] == ["warning"]
    assert f"--metrics-address 127.0.0.1:{PORT}" in told[0]["message"]
    assert host.stop() == 0


@pytest.mark.parametrize("disabled", [False, True])
def test_every_address_is_served_with_ipv6_and_without(host: Host, disabled: bool) -> None:
    """`:PORT` answers on IPv4 and IPv6, and on IPv4 where a host has IPv6 switched off."""
    if disabled:
        host.namespace.call(lambda: pathlib.Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1"))
    host.start("--metrics-address", f":{PORT}")
    until_ready(host)
    assert get(host, "/healthz", "::1")[0] == (0 if disabled else 200)
    host.stop()


def test_a_host_without_ipv4_is_served(host: Host) -> None:
    """Every address, and the name `localhost`, of a host that has IPv6 addresses only."""
    host.namespace.run(["ip", "-4", "addr", "flush", "dev", "lo"])
    for address in (f"[::]:{PORT}", f"localhost:{PORT}"):
        host.start("--metrics-address", address)
        host.until(lambda: get(host, "/readyz", "::1")[0] == 200)
        host.stop()


def sockets_that_look(host: Host) -> int:
    """How many packet sockets there are in the host's network namespace."""
    return len(host.namespace.run(["cat", "/proc/net/packet"]).stdout.splitlines()) - 1


def test_series_of_clients_are_sampled_while_somebody_scrapes(host: Host, network: Network) -> None:
    """No socket before the first scrape; then the greedy client's network with its rate, and nothing after the end."""
    greedy = network.clients[0]
    host.limit("greedy", [greedy.address4], "5Mbit")
    host.start(*METRICS, "--metrics-top-clients", "3")
    until_ready(host)
    host.until_rate(greedy.address4, 5_000_000)
    host.until(lambda: sockets_that_look(host) == 0)  # but for a moment, when it looks whether limits hold

    def rate() -> float:
        """Of the network of the client; 0.0 where it has no series."""
        found = re.search(r'top_client_bits_per_second{client="203.0.113.0/24"} (\S+)', get(host, "/metrics")[1])
        return float(found[1]) if found else 0.0

    with TcpFlow(network.server, greedy):
        host.until(lambda: 4_000_000 < rate() < 6_000_000)
    assert all(sockets_that_look(host) for _ in range(20))
    host.kill()
    assert sockets_that_look(host) == 0
