"""The laboratory itself: what it makes works, what it measures is so, and nothing of it stays behind."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from bandwidth_lab import (
    CommandError,
    Lab,
    TcpFlow,
    UdpFlow,
    WireMeter,
    bits_per_second,
    crowd,
    pair,
    ping,
    star,
    wire_bytes,
)
from bandwidth_lab.namespaces import NETNS

pytestmark = pytest.mark.root

LAB_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "lab"


def namespaces(prefix: str) -> list[str]:
    return sorted(path.name for path in NETNS.glob(f"{prefix}*"))


def test_a_lab_removes_its_namespaces_and_processes_after_a_failure() -> None:
    """An exception inside the lab leaves no namespace and no process."""
    prefix = "lab-fails-"
    started: list[subprocess.Popen[str]] = []

    def fail() -> None:
        with Lab(prefix) as lab:
            started.append(lab.namespace("one").start(["sleep", "600"]))
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert namespaces(prefix) == []
    assert started[0].returncode is not None


def test_a_lab_removes_what_a_killed_one_left() -> None:
    """The next lab with the same prefix removes the namespaces and processes of one that was killed."""
    prefix = "lab-killed-"
    program = (
        "import sys, time\n"
        f"sys.path.insert(0, {str(LAB_FOLDER)!r})\n"
        "from bandwidth_lab import Lab\n"
        f"lab = Lab({prefix!r})\n"
        "process = lab.namespace('one').start(['sleep', '600'])\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        sleeper = int(killed.stdout.readline())
        killed.send_signal(signal.SIGKILL)
    assert len(namespaces(prefix)) == 1
    with Lab(prefix):
        assert namespaces(prefix) == []
    state = pathlib.Path(f"/proc/{sleeper}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_two_labs_do_not_disturb_each_other() -> None:
    """A second lab with the same prefix leaves the namespaces of the first, living one."""
    with Lab("lab-two-") as one:
        first = one.namespace("a").name
        with Lab("lab-two-") as other:
            assert other.namespace("a").name != first
        assert namespaces("lab-two-") == [first]


def test_a_command_that_fails_says_what_it_printed() -> None:
    """The error of a failed command carries the command's own words."""
    with Lab() as lab:
        namespace = lab.namespace("one")
        with pytest.raises(CommandError, match="does not exist"):
            namespace.run(["ip", "link", "show", "nothing0"])
        assert namespace.run(["false"], check=False).returncode == 1


def test_the_thread_that_made_the_lab_stays_where_it_was() -> None:
    """Calling into a namespace does not move the caller."""
    before = os.readlink("/proc/thread-self/ns/net")
    with Lab() as lab:
        inside = lab.namespace("one").call(lambda: os.readlink("/proc/thread-self/ns/net"))
    assert inside != before
    assert os.readlink("/proc/thread-self/ns/net") == before


@pytest.mark.alone
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("congestion", ["cubic", "bbr"])
def test_a_tcp_flow_fills_the_link_and_the_two_meters_agree(family: int, congestion: str) -> None:
    """The segment-counting meter and the estimate from device counters give the same wire rate."""
    with star(clients=1) as network:
        (client,) = network.clients
        with TcpFlow(network.server, client, family=family, congestion=congestion), WireMeter(client) as meter:
            device, start = meter.device_count(), meter.read()
            meter.measure(0.5)
            end, device_end = meter.read(), meter.device_count()
    wire = end.bytes4 - start.bytes4 + end.bytes6 - start.bytes6
    header = 66 if family == 4 else 86
    estimate = wire_bytes(device_end.bytes - device.bytes, device_end.packets - device.packets, header_bytes=header)
    assert wire > 10e6
    assert wire == pytest.approx(estimate, rel=0.02)


@pytest.mark.paired
@pytest.mark.parametrize("family", [4, 6])
def test_a_steady_tcp_flow_keeps_its_rate_beside_another_client(family: int) -> None:
    """A steady flow gets what it asks for, and the meter of one client does not see the other."""
    with star(clients=2) as network:
        steady, other = network.clients
        with (
            TcpFlow(network.server, steady, family=family, rate_bits_per_second=8e6) as flow,
            TcpFlow(network.server, other, family=family, rate_bits_per_second=40e6),
            WireMeter(steady) as meter,
        ):
            meter.measure(0.3)
            rate = meter.measure(1.5, family)
    assert flow.received_bytes > 0
    assert rate == pytest.approx(8e6, rel=0.15)  # small segments carry more headers


@pytest.mark.parametrize("narrow", [False, True])
def test_a_steady_flow_knows_whether_the_network_holds_it_up(narrow: bool) -> None:
    """On a free link what is asked for arrives; on a narrow one the flow goes on asking, and most of it does not."""
    with pair() as network:
        (client,) = network.clients
        if narrow:
            network.server.namespace.tc("qdisc add dev eth0 root tbf rate 1mbit burst 10000 limit 30000")
        with TcpFlow(network.server, client, rate_bits_per_second=8e6) as flow, WireMeter(client) as meter:
            meter.measure(1.5)
            start = flow.progress()
            meter.measure(2.0)
            end = flow.progress()
    asked, arrived = (now - before for now, before in zip(end, start, strict=True))
    if narrow:
        assert arrived < 0.3 * asked
        assert asked > 0.9 * 2_000_000
    else:
        assert 0.97 * asked < arrived < 1.03 * asked


@pytest.mark.parametrize(
    ("segments", "rate"),
    [pytest.param(1, 20e6, marks=pytest.mark.paired), pytest.param(40, 400e6, marks=pytest.mark.alone)],
)
@pytest.mark.parametrize("family", [4, 6])
def test_a_udp_flow_arrives_whole_at_its_rate(family: int, segments: int, rate: float) -> None:
    """Datagrams are numbered, none is lost on a free link, and the meter counts their headers."""
    with pair() as network:
        (client,) = network.clients
        with (
            UdpFlow(network.server, client, family=family, rate_bits_per_second=rate, segments=segments) as flow,
            WireMeter(client, transport="udp") as meter,
        ):
            meter.measure(0.3)
            measured = meter.measure(1.5, family)
    header = 42 if family == 4 else 62
    assert flow.lost_packets == 0
    assert measured == pytest.approx(rate * (1400 + header) / 1400, rel=0.05)


@pytest.mark.paired
@pytest.mark.parametrize(
    ("network", "step", "header"), [("198.51.100.0/24", 1, 42), ("2001:db8:100::/48", 1 << 64, 62)], ids=["v4", "v6"]
)
def test_a_crowd_shares_its_rate_unevenly(network: str, step: int, header: int) -> None:
    """All clients together get the rate that was asked for, and the first ten times as much as the tenth."""
    clients = crowd.addresses(network, 20, step=step)
    family = "ip6" if ":" in network else "ip"
    with star(clients=1) as made:
        (host,) = made.clients
        made.add_network(host, network)
        rules = "\n".join(f"{family} daddr {clients[place]} counter" for place in (0, 9))
        table = f"table inet count {{ chain in {{ type filter hook input priority 0\n{rules}\n}}\n}}"
        host.namespace.run(["nft", "-f", "-"], stdin=table)
        with (
            crowd.Crowd(made.server, host, clients, rate_bits_per_second=4e6, port=443) as flow,
            WireMeter(host, transport="udp") as meter,
        ):
            meter.measure(0.3)
            measured = meter.measure(2.0, 6 if family == "ip6" else 4)
        counted = host.namespace.run(["nft", "list", "ruleset"]).stdout
    first, tenth = (int(packets) for packets in re.findall(r"counter packets (\d+)", counted))
    assert flow.sent_bytes > 0
    assert measured == pytest.approx(4e6 * (600 + header) / 600, rel=0.1)
    assert 6 < first / tenth < 16


@pytest.mark.paired
def test_a_meter_sees_an_htb_limit_as_the_kernel_does() -> None:
    """Behind a root HTB of 20 Mbit the wire rate at the client is 20 Mbit, and the ping is queued behind the flow."""
    with pair() as network:
        (client,) = network.clients
        network.server.namespace.tc(
            "qdisc add dev eth0 root handle 1: htb default 1",
            "class add dev eth0 parent 1: classid 1:1 htb rate 20mbit burst 11600 cburst 11600 quantum 1514",
            "qdisc add dev eth0 parent 1:1 tbf rate 32gbit burst 1600 limit 125000",
        )
        with TcpFlow(network.server, client, congestion="cubic"), WireMeter(client) as meter:
            meter.measure(0.5)
            start = meter.read()
            answers = ping(client, network.server.address4, seconds=2, interval_seconds=0.2)
            rate = bits_per_second(start, meter.read(), 4)
    assert rate == pytest.approx(20e6, rel=0.03)
    assert answers.sent == 10
    assert 1 < answers.median_ms < 100
    assert len(meter.series()) > 20


def test_a_star_has_as_many_uplinks_as_asked_for() -> None:
    """Every uplink holds a default route of both families, and the first is preferred."""
    with star(clients=1, uplinks=2) as network:
        for family in ("-4", "-6"):
            routes = network.server.namespace.run(["ip", family, "route", "show", "default"]).stdout.splitlines()
            assert [route.split(" dev ")[1].split()[0] for route in routes] == ["eth0", "eth1"]
        assert len(ping(network.clients[0], network.server.address6, seconds=0.3).round_trips_ms) == 3


def test_the_example_of_the_readme_holds_a_client_to_its_rate() -> None:
    """It runs as it stands there, and prints the rate that it limits to."""
    (example,) = re.findall(r"```python\n(.*?)```", (LAB_FOLDER / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example],
        env=os.environ | {"PYTHONPATH": str(LAB_FOLDER)},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 4.5 <= float(done.stdout.removesuffix(" Mbit/s\n").splitlines()[-1]) <= 5.1
