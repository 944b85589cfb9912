"""Limits where an eBPF datapath leads packets past netfilter: programs of ours hold them, on the wire and meanwhile."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import time
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel import model
from bandwidth_lab import Network, TcpFlow, WireMeter, bpffs, ebpf, previous
from bandwidth_lab.ebpf_datapath import NODE_PORT, POD_PORT, DatapathNode, datapath_node
from bandwidth_lab.node import PROGRAM, Node
from kernel.behaviour import holding
from kernel.behaviour.passes import Passes

pytestmark = pytest.mark.root

RATE = 8_000_000
RATES = {"256kbit": 256_000, "5Mbit": 5_000_000, "100Mbit": 100_000_000}
SHARE = 0.01  # that the wire may differ from the limit, and a few frames of the window
WINDOWS_MAX = 12
BLUR = 1.3  # of a tenth of a second's share of the rate
FOUND_SECONDS = 20.0  # on a busy machine
OTHERS = "198.18.0.0/17"  # clients that nothing is sent to


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    with bpffs.mounted() as made:
        yield made


@contextlib.contextmanager
def node_with_pod(
    tmp_path: pathlib.Path, folder: pathlib.Path, *options: str, way: ebpf.Way = "tcx", **how: object
) -> Iterator[tuple[DatapathNode, Node]]:
    """A node whose pod's packets no rule sees, and its agent, which is not started yet."""
    with datapath_node(prefix="ke-", way=way, **how) as made:  # type: ignore[arg-type]
        yield made, Node(made.node, tmp_path, "--bpf-directory", str(folder), *options)


def from_pod(made: DatapathNode, family: int = 4) -> TcpFlow:
    return TcpFlow(made.pod, made.clients[0], family=family, port=POD_PORT, dial=made.dial(family))


def assert_on_the_wire(meter: WireMeter, rate: int, family: int) -> None:
    """In some stretch what arrives is the limit to a hundredth, and never more: a busy machine only starves senders."""
    meter.measure(2.0)  # until the queue is full and the burst spent
    seconds = 2.0 if rate < 1_000_000 else 1.0
    off = SHARE + 2 * holding.FRAME_BITS / (rate * seconds)
    measured: list[float] = []
    while len(measured) < WINDOWS_MAX:
        measured.append(meter.measure(seconds, family) / rate)
        assert measured[-1] <= 1.0 + off, measured
        if measured[-1] >= 1.0 - off:
            return
    raise AssertionError(measured)


@pytest.mark.paired
@pytest.mark.parametrize("way", ["tcx", "cls_bpf"])
@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_the_limit_is_what_arrives(tmp_path: pathlib.Path, folder: pathlib.Path, placement: str, way: ebpf.Way) -> None:
    """From 256 kbit to 100 Mbit, IPv4 and IPv6, by the port that was dialled, whatever the pod listens on."""
    options = ("--classifier", "ebpf", "--placement", placement)
    with node_with_pod(tmp_path, folder, *options, way=way) as (made, node):
        client = made.clients[0]
        dialled, inside = ([{"protocol": "TCP", "port": port}] for port in (NODE_PORT, POD_PORT))
        node.limit("inside", [client.address4, client.address6], "64kbit", egress={"ports": inside})
        for text, rate in RATES.items():
            node.limit("slow", [client.address4, client.address6], text, egress={"ports": dialled})
            report = node.once()
            assert (report["classifier"], report["failing"]) == ("ebpf", [])
            for family in (4, 6):
                with from_pod(made, family), WireMeter(client) as meter:
                    assert_on_the_wire(meter, rate, family)
        assert node.kernel().chains == {}


@pytest.mark.alone
@pytest.mark.parametrize("family", [4, 6])
def test_a_gigabit_arrives(tmp_path: pathlib.Path, folder: pathlib.Path, family: int) -> None:
    """Where GSO packets pass whole."""
    with node_with_pod(tmp_path, folder, "--classifier", "ebpf") as (made, node):
        client = made.clients[0]
        node.limit("fast", [client.address(family)], "1Gbit")
        node.once()
        with from_pod(made, family), WireMeter(client) as meter:
            assert_on_the_wire(meter, 1_000_000_000, family)


@pytest.mark.parametrize("way", ["tcx", "cls_bpf"])
def test_limits_are_verified_and_an_agent_that_starts_again_changes_nothing(
    tmp_path: pathlib.Path, folder: pathlib.Path, way: ebpf.Way
) -> None:
    """Under traffic, for minutes of looks in seconds; a limit beside it that nobody meets is not blamed."""
    with node_with_pod(tmp_path, folder, "--classifier", "ebpf", way=way) as (made, node):
        client = made.clients[0]
        node.limit("slow", [client.address4, client.address6], "8Mbit")
        node.limit("other", [OTHERS], "1Mbit")
        node.start("--resync", "1", "--log-format", "json")
        node.until_rate(client.address4, RATE)
        with from_pod(made), from_pod(made, 6), WireMeter(client) as meter:
            holding.assert_held(meter, RATE)
            node.kill()
            state, texts = node.kernel(), node.snapshot()
            node.start("--resync", "1", "--log-format", "json")
            node.until(lambda: node.log.read_text().count('"started"') == 2)
            time.sleep(3.0)  # some passes that read everything
            holding.assert_held(meter, RATE)
            assert (node.kernel(), node.snapshot()) == (state, texts)
            assert node.log.read_text().count("changed the kernel") <= 1
            shown = {limit["name"]: limit["check"] for limit in node.show()["limits"]}
            assert shown == {"slow": "verified", "other": "unverified"}
        assert node.stop() == 0
        assert not node.alarms()


def test_auto_takes_programs_once_packets_were_seen_to_leave_past_rules(
    tmp_path: pathlib.Path, folder: pathlib.Path
) -> None:
    """Within seconds, by itself; the limit then holds, also over a restart; `--classifier mark` ends it."""
    with node_with_pod(tmp_path, folder, way="cls_bpf") as (made, node):
        node.bypassed = True
        client = made.clients[0]
        node.limit("slow", [client.address4], "8Mbit")
        node.start("--log-format", "json")
        node.until_rate(client.address4, RATE)
        with from_pod(made), WireMeter(client) as meter:
            node.until(lambda: bool(node.kernel().programs), 2 * FOUND_SECONDS)
            holding.assert_held(meter, RATE)
        node.stop()
        report = node.once()
        assert (report["changes"], report["classifier"]) == (0, "ebpf")
        node.options = (*node.options, "--classifier", "mark")
        assert node.once()["classifier"] == "mark"
        left = node.kernel()
        assert (left.programs, left.tables, left.pairs, bpffs.names(folder)) == ({}, {}, {}, [])


def test_auto_takes_programs_at_once_where_a_datapath_shows(tmp_path: pathlib.Path, folder: pathlib.Path) -> None:
    """Before the first packet of a limited client: none leaves past its limit, and no limit is in doubt."""
    with node_with_pod(tmp_path, folder) as (made, node):
        client = made.clients[0]
        node.limit("slow", [client.address4], "8Mbit")
        report = node.once()
        assert (report["classifier"], report["datapathSign"]) == ("ebpf", "")
        assert "a TCX program on eth0" in report["classifierReason"]
        with from_pod(made), WireMeter(client) as meter:
            holding.assert_held(meter, RATE)
        assert node.once()["changes"] == 0


def test_without_permission_nothing_is_loaded_and_the_status_says_what_would_help(
    tmp_path: pathlib.Path, folder: pathlib.Path
) -> None:
    """As before there was this classifier, but for one clause."""
    with node_with_pod(tmp_path, folder) as (made, node):
        node.bypassed, node.options = True, ()
        client = made.clients[0]
        node.limit("slow", [client.address4], "8Mbit")
        node.start("--log-format", "json")
        node.until_rate(client.address4, RATE)
        with from_pod(made):
            node.until(lambda: bool(node.alarms()), FOUND_SECONDS)
        assert "agent.ebpf.enabled=true" in node.alarms()[0]
        assert "--bpf-directory" in node.alarms()[0]
        assert node.kernel().pairs == {}
        node.stop()


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_cleanup_leaves_nothing(tmp_path: pathlib.Path, folder: pathlib.Path, placement: str) -> None:
    """Names, links, devices and filters are as they were found, also after the last limit."""
    with node_with_pod(tmp_path, folder, "--classifier", "ebpf", "--placement", placement, way="cls_bpf") as (_, node):
        found = node.snapshot()
        for number in range(3):
            egress = {"ports": [{"protocol": "TCP", "port": 80 + number}]} if number else {}
            node.limit(f"limit-{number}", [f"203.0.113.{number + 1}", "2001:db8:7::/64"], "1Mbit", egress=egress)
        node.once()
        assert node.snapshot() != found
        assert "delete ebpf    eth0  egress" in node.cleanup()
        assert (node.snapshot(), bpffs.names(folder), node.kernel()) == (found, [], model.EMPTY)
        node.once()
        for number in range(3):
            node.lift(f"limit-{number}")
        node.once()
        assert (node.snapshot(), bpffs.names(folder), node.kernel()) == (found, [], model.EMPTY)


# ── from rules to programs and back ────────────────────────────────────────────────────────────────────────────


WAYS = {
    "ebpf": ("--classifier", "ebpf"),
    "mark": ("--classifier", "mark"),
    "priority": ("--classifier", "priority", "--placement", "interface"),
}
ROUNDS = [("mark", "ebpf"), ("ebpf", "mark"), ("priority", "ebpf"), ("ebpf", "priority")]


@pytest.mark.parametrize(("before", "after"), ROUNDS)
def test_killed_before_any_change_no_client_gets_away(
    network: Network, node: Node, folder: pathlib.Path, before: str, after: str
) -> None:
    """SIGKILL before each change of the way from one classifier to another, under traffic; the next pass finishes."""
    client = network.clients[0]
    node.limit("slow", [client.address4, client.address6], "10Mbit")
    node.limit("web", [OTHERS, client.address4], "5Mbit", priority=1, egress={"ports": [{"port": 80}]})
    packets = [(client.address4, "TCP", 5201, "eth0"), (client.address6, "TCP", 5201, "eth0")]
    packets += [(client.address4, "TCP", 80, "eth0"), ("198.18.7.7", "TCP", 80, "eth0")]
    limits = (10_000_000, 10_000_000, 5_000_000, 5_000_000)
    options = {name: ("--bpf-directory", str(folder), *words) for name, words in WAYS.items()}
    node.options = options[before]
    passes = Passes(node)
    passes.once()
    steps = 0
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        meter.measure(2.0)
        mark = len(meter.samples)
        while True:
            node.options = options[after]
            if not passes.killed_or_done(steps):
                break
            there = meter.read().bytes4
            node.until(lambda there=there: meter.read().bytes4 > there)  # it goes on, whatever is half done
            report, seen = passes.watched(packets)
            assert report["classifier"] == ("ebpf" if after == "ebpf" else after)
            for row in seen:
                assert all(0 < speed <= limit for speed, limit in zip(row, limits, strict=True)), row
            assert passes.once()["changes"] == 0
            node.options = options[before]
            _, seen = passes.watched(packets)
            for row in seen:
                assert all(0 < speed <= limit for speed, limit in zip(row, limits, strict=True)), row
            steps += 1
        seconds = meter.series(window=10)[mark:]
    assert steps > 8
    assert max(rate for _, rate in seconds) < 10_000_000 * BLUR
    passes.cleanup()
    assert (node.kernel(), bpffs.names(folder)) == (model.EMPTY, [])


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An agent that knows no programs."""
    try:
        return previous.programs(tmp_path_factory.mktemp("previous")) / "bandwidth-agent"
    except LookupError as error:  # a clone without history
        pytest.skip(str(error))


def test_an_upgrade_from_a_version_without_it_and_the_way_back(
    network: Network, node: Node, folder: pathlib.Path, older: pathlib.Path
) -> None:
    """The limit holds whoever comes and goes; what an older agent cannot see slows nobody, and is cleared later."""
    client = network.clients[0]
    found = node.snapshot()
    node.limit("slow", [client.address4], "8Mbit")
    ours = ("--bpf-directory", str(folder), "--classifier", "ebpf")
    node.program, node.options = older, ()
    node.once()
    with TcpFlow(network.server, client, congestion="cubic"), WireMeter(client) as meter:
        holding.assert_held(meter, RATE)
        mark = len(meter.samples)
        node.program, node.options = PROGRAM, ours
        assert node.once()["classifier"] == "ebpf"
        holding.assert_held(meter, RATE)
        node.program, node.options = older, ()
        assert node.once()["limits"]["programmed"] == 1
        holding.assert_held(meter, RATE)
        series = meter.series(window=10)[mark:]
        assert max(rate for _, rate in series) < RATE * BLUR
        node.lift("slow")
        node.once()
        holding.assert_free(meter, RATE)  # whatever programs are still there
    node.program, node.options = PROGRAM, ours
    node.limit("slow", [client.address4], "8Mbit")
    node.once()
    node.cleanup()
    assert (node.snapshot(), node.kernel(), bpffs.names(folder)) == (found, model.EMPTY, [])


def test_cleanup_that_may_not_see_programs_loses_nobodys_packets(
    network: Network, node: Node, folder: pathlib.Path
) -> None:
    """It takes the classes and leaves the pair that programs lead to, as an agent does. All say what ends that."""
    client = network.clients[0]
    node.options = ("--bpf-directory", str(folder), "--classifier", "ebpf")
    node.limit("slow", [client.address4], "8Mbit")
    node.once()
    node.options = ("--bpf-directory", "/nowhere")
    with TcpFlow(network.server, client, congestion="cubic"), WireMeter(client) as meter:
        holding.assert_held(meter, RATE)
        (warning,) = node.once()["warnings"]
        holding.assert_held(meter, RATE)
        shown = node.namespace.run(node.command("show"), check=False)
        assert shown.returncode == 1
        assert warning in shown.stdout
        done = node.namespace.run(node.command("cleanup"), check=False)
        assert (done.returncode, f"programs: {warning}" in done.stderr) == (1, True)
        holding.assert_free(meter, RATE)
        by_hand = warning.rpartition("does not use: ")[2]
        assert by_hand == f"rm -r {next(folder.glob('client-bandwidth/*'))}; ip link delete cblv0"
        subprocess.run(["sh", "-c", by_hand.partition(";")[0]], check=True)
        done = node.namespace.run(node.command("cleanup"), check=False)
        assert (done.returncode, "ip link delete cblv0" in done.stderr) == (1, True)
        holding.assert_free(meter, RATE)
        node.namespace.run(["sh", "-c", by_hand.partition(";")[2]])
        holding.assert_free(meter, RATE)
    node.cleanup()
    assert node.namespace.run(node.command("show"), check=False).returncode == 0
    node.options = ("--bpf-directory", str(folder))
    assert (node.kernel(), bpffs.names(folder / "client-bandwidth")) == (model.EMPTY, [])
