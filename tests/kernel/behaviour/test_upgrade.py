"""Another version of the agent takes over a kernel under traffic, in both directions: nothing in it is changed."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import re

import pytest

from bandwidth_lab import Host, Network, TcpFlow, UdpFlow, WireMeter, previous, traffic
from bandwidth_lab.node import PROGRAM, Node
from kernel.behaviour import holding

pytestmark = pytest.mark.root

RATE = 4_000_000
RANGES = 20  # of ports: more than eight of them are spread over chains of their own
PROBE = "198.20.0.1"
PROBED = 6  # changes: class, entry of the table, entry of the guard, twice
REWRITTEN = 2  # the chains of both families: a line for ports is two rules since the version before


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The agent of the version before."""
    try:
        return previous.programs(tmp_path_factory.mktemp("previous")) / "bandwidth-agent"
    except LookupError as error:  # a clone without history
        pytest.skip(str(error))


def every_kind_of_limit(node: Node, slow: Host) -> None:
    """Limits of each shape that there is, so that every kind of kernel object is there."""
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=6)
    mixed = [{"protocol": "TCP", "port": 443}, {"protocol": "UDP", "port": 6000, "endPort": 6100}, {"port": 53}]
    node.limit("slow", [slow.address4, slow.address6], "4Mbit")
    node.limit("each", ["198.18.1.1", "198.18.1.2", "2001:db8:9::/64"], "8Mbit", egress={"sharing": "PerEntry"})
    node.limit("network", ["198.18.0.0/16"], "100Mbit", priority=5, **{"except": ["198.18.3.0/24"]})
    node.limit("wins", ["198.18.7.0/24"], "1Gbit", priority=9)
    node.limit("loses", ["198.18.0.0/16"], "5Mbit")
    node.limit("ports", ["198.18.0.0/20"], "2Mbit", priority=7, egress={"ports": mixed})
    node.limit("burst", ["198.18.8.8"], "64kbit", egress={"burst": "1Mi"})
    node.limit("fast", ["198.18.8.9"], "400Gbit")
    node.limit("watched", ["198.18.8.10"], "3Mbit", mode="Observe")
    node.limit("ends", ["198.18.9.9"], "3Mbit", expiresAt=until.strftime("%Y-%m-%dT%H:%M:%SZ"))
    for number in range(RANGES):
        egress = {"ports": [{"protocol": "TCP", "port": 1000 + 7 * number, "endPort": 1003 + 7 * number}]}
        clients = [f"198.19.0.{number}", f"2001:db8:a::{number + 1:x}"]
        node.limit(f"many-{number}", clients, f"{number + 1}Mbit", egress=egress)


def take_over(node: Node, program: pathlib.Path, rewritten: int = 0) -> int:
    """End the agent as a service manager does, and start that of `program`; return how many changes that made.

    PROBED of them put a limit in force and lift it, which shows that the new agent has made its first pass; so many
    others are waited for.
    """
    if node.process is not None:
        assert node.stop() == 0
    node.program = program
    node.log.unlink(missing_ok=True)
    node.start("--resync", "1", "--log-format", "json")
    node.until(lambda: "started" in node.log.read_text())
    node.limit("one-more", [PROBE], "1Mbit")
    node.until_rate(PROBE, 1_000_000)
    node.lift("one-more")
    node.until_rate(PROBE, None)
    node.until(lambda: changes(node) >= PROBED + rewritten)  # lines are written by another thread
    return changes(node)


def changes(node: Node) -> int:
    """How much the passes changed, as the agent says."""
    return sum(map(int, re.findall(r'"changes": (\d+)', node.log.read_text())))


@pytest.mark.parametrize(
    "options",
    [(), ("--classifier", "priority"), ("--placement", "interface")],
    ids=["mark", "priority", "interface"],
)
def test_an_upgrade_and_the_way_back_change_nothing(
    network: Network, node: Node, before: pathlib.Path, options: tuple[str, ...]
) -> None:
    """Each agent adopts what the other left: the limit holds, and no datagram of others is lost.

    No object changes but the rules for ports, which are written anew in one transaction, and are the same on the way
    back.
    """
    slow, quiet = network.clients
    node.options = options
    every_kind_of_limit(node, slow)
    take_over(node, before)
    kernel, texts = node.kernel(), node.snapshot()
    steady = UdpFlow(network.server, quiet, rate_bits_per_second=2_000_000, overdue_seconds=traffic.PROMPT_SECONDS)
    with steady, TcpFlow(network.server, slow, congestion="cubic"), WireMeter(slow) as meter:
        holding.assert_held(meter, RATE)
        for program in (PROGRAM, before):
            sent = node.show()["limits"]
            assert take_over(node, program, REWRITTEN) == REWRITTEN + PROBED
            assert dataclasses.replace(node.kernel(), chains=kernel.chains) == kernel
            assert previous.without_rules(node.snapshot()) == previous.without_rules(texts)
            counted = {limit["name"]: limit["bytes"] for limit in node.show()["limits"]}
            assert all(counted[limit["name"]] >= limit["bytes"] for limit in sent)
            holding.assert_held(meter, RATE)
        assert node.snapshot() == texts
    assert steady.lost_packets == 0


def test_what_was_last_accepted_is_kept_over_an_upgrade_and_back(
    network: Network, node: Node, before: pathlib.Path
) -> None:
    """A file that is broken while its limit is in force keeps it in force, whichever version wrote the state."""
    slow = network.clients[0]
    node.limit("slow", [slow.address4], "4Mbit")
    take = node.once()
    assert take["limits"]["programmed"] == 1
    node.write("slow.yaml", "spec: [")
    for program in (before, PROGRAM, before, PROGRAM):
        node.program = program
        report = node.once(check=False)
        assert report["changes"] == 0
        assert node.rate_of(slow.address4) == RATE
