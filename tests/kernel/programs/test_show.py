"""`show`: the truth about the kernel, with or without an agent."""

from __future__ import annotations

import json
import pathlib
import time

import pytest

from bandwidth_lab import Network, TcpFlow, node
from bandwidth_lab.ebpf_datapath import POD_PORT, datapath_node
from kernel.programs.conftest import Host
from unit import documents

forked_programs = pytest.fixture(autouse=True, scope="module")(node.forked_programs)

pytestmark = pytest.mark.root


def test_the_measured_rate_is_the_limit_under_load(host: Host, network: Network) -> None:
    """A client that takes all it gets is shown at its limit; one that takes nothing at zero."""
    greedy, quiet = network.clients
    host.limit("greedy", [greedy.address4], "5Mbit")
    host.limit("quiet", [quiet.address4], "5Mbit")
    host.once()
    with TcpFlow(network.server, greedy):
        host.show()  # the burst is over
        told = json.loads(host.call("show", "-o", "json", "--interval", "3").stdout)
    documents.check("show", told)
    rates = {limit["name"]: limit["measuredBitsPerSecond"] for limit in told["limits"]}
    assert rates["greedy"] == pytest.approx(5_000_000, rel=0.05)
    assert rates["quiet"] == 0
    assert told["intervalSeconds"] >= 3 * 0.99
    assert told["limits"][0]["bytes"] > 500_000
    assert told["matchedPackets"]["IPv4"] > 0


def test_packets_that_leave_past_a_limit_are_seen(tmp_path: pathlib.Path) -> None:
    """Without any agent: on a node whose datapath skips netfilter, and not for what the node itself sends."""
    with datapath_node(clients=2, prefix="kp-", ends_walk=False) as made:
        host = Host(made.node, tmp_path)
        past, held = made.clients
        host.limit("past", [past.address4], "8Mbit")
        host.limit("held", [held.address4], "8Mbit")
        host.once()
        assert {limit["check"] for limit in host.show()["limits"]} == {"unverified"}
        with (
            TcpFlow(made.pod, past, port=POD_PORT, dial=made.dial(4), rate_bits_per_second=20_000_000),
            TcpFlow(made.network.server, held),
        ):
            time.sleep(1.0)  # packets flow
            told = json.loads(host.call("show", "-o", "json", "--interval", "2").stdout)
        documents.check("show", told)
        assert {limit["name"]: limit["check"] for limit in told["limits"]} == {"past": "bypassed", "held": "verified"}
        assert [warning.partition(" were")[0] for warning in told["warnings"]] == ["packets of past"]


def test_a_table_without_any_agent_or_file(host: Host) -> None:
    """Name, clients, rate, mode and expiry come from the kernel alone; piped, without colours."""
    host.limit("mail", ["203.0.113.10"], "5Mbit", expiresAt="2100-01-01T00:00:00Z")
    host.limit("watch", ["203.0.113.11", "2001:db8:0:2::11"], "1Gbit", mode="Observe")
    host.once()
    for file in host.manifests.iterdir():
        file.unlink()
    done = host.call("show")
    assert (done.returncode, done.stderr) == (0, "")
    head, mail, watch = done.stdout.splitlines()
    assert head.split() == ["LIMIT", "CLIENT", "RATE", "NOW", "DROPS", "BACKLOG", "MODE", "CHECK", "EXPIRES"]
    assert mail.split()[:2] == ["mail", "203.0.113.10"]
    assert " 5 Mbit " in mail
    assert "Enforce" in mail
    assert " in 2" in mail
    assert "203.0.113.11, 2001:db8:0:2::11" in watch
    assert " 1 Gbit " in watch
    assert "Observe" in watch
    assert "\033" not in done.stdout


def test_ports_are_shown(host: Host) -> None:
    """As the client dials them."""
    host.limit("imap", ["203.0.113.10"], "5Mbit", egress={"ports": [{"port": 993}]})
    host.once()
    assert "993/tcp" in host.call("show").stdout
    assert host.show()["limits"][0]["ports"] == [{"protocol": "TCP", "port": 993, "endPort": 993}]


def test_nothing_in_the_kernel_is_no_error(host: Host) -> None:
    """And no second is spent on measuring it."""
    done = host.call("show")
    assert (done.returncode, done.stdout) == (0, "no limit is in the kernel\n")


def test_watched_as_json_is_one_look_a_line(host: Host) -> None:
    """So that a program can read it as it comes."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.once()
    words = " ".join(host.command("show", "--watch", "-o", "json", "--interval", "0.2"))
    done = host.namespace.run(["sh", "-c", f"{words} | head -3"], timeout=60)
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(looks) == 3
    for look in looks:
        documents.check("show", look)
    assert done.stderr == ""


def test_damage_is_told(host: Host) -> None:
    """What is broken while no agent runs is said under the table."""
    host.limit("mail", ["203.0.113.10"], "5Mbit")
    host.once()
    host.namespace.run(["iptables", "-t", "mangle", "-F", "POSTROUTING"])
    host.namespace.ip("link set cbl0 down")
    done = host.call("show")
    assert done.stdout.count("warning: ") == 2
