"""Rules that stand in the kernel while no packet comes to them: a table put to sleep, a chain without its hook."""

from __future__ import annotations

import pytest

from bandwidth_lab import Network
from bandwidth_lab.node import Node
from kernel.behaviour import holding

pytestmark = pytest.mark.root

RATE = 4_000_000


def nft(node: Node, *commands: str) -> None:
    node.namespace.run(["nft", "; ".join(commands)])


def reasons(node: Node) -> list[tuple[str, str]]:
    return [(each["reason"], each["message"]) for each in node.once(check=False)["failing"]]


@pytest.fixture
def host(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Node:
    made = Node(network.server.namespace, tmp_path_factory.mktemp("host"), "--iptables-backend", "nft")
    made.limit("slow", [network.clients[0].address4], "4Mbit")
    return made


@pytest.mark.parametrize(
    "harm",
    [
        ("add table ip mangle { flags dormant; }",),
        (
            "flush chain ip mangle POSTROUTING",
            "delete chain ip mangle POSTROUTING",
            "add chain ip mangle POSTROUTING",
        ),
    ],
    ids=["dormant", "no hook"],
)
def test_what_is_there_because_of_us_is_repaired(network: Network, host: Node, harm: tuple[str, ...]) -> None:
    """While the agent runs and after it did, the limit holds again, and says nothing else meanwhile for long."""
    host.start("--resync", "600", "--log-format", "json")
    host.until_rate(network.clients[0].address4, RATE)
    nft(host, *harm)
    host.until(lambda: "hook postrouting" in seen(host) and "dormant" not in seen(host) and "CBL" in seen(host))
    assert host.stop() == 0
    assert "NotOnTheWay" not in host.log.read_text()
    nft(host, *harm)
    reasons(host)
    assert (reasons(host), host.once()["changes"]) == ([], 0)
    holding.assert_client_held(network.server, network.clients[0], RATE)


def seen(node: Node) -> str:
    return node.namespace.run(["nft", "list", "table", "ip", "mangle"]).stdout


def test_a_table_of_others_that_sleeps_is_reported(network: Network, host: Node) -> None:
    """It is theirs to wake: the limit is not in force, and the message says what helps; waking it is all it needs."""
    nft(host, "add table ip mangle", "add chain ip mangle theirs", "add rule ip mangle theirs counter")
    nft(host, "add table ip mangle { flags dormant; }")
    for _ in range(2):
        ((reason, message),) = reasons(host)
        assert reason == "NotOnTheWay"
        assert message.endswith("the table ip mangle is dormant; wake it with: nft add table ip mangle")
        assert "dormant" in seen(host)
    host.limit("six", [network.clients[0].address6], "4Mbit")
    assert [each["name"] for each in host.once(check=False)["failing"]] == ["slow"]
    nft(host, "add table ip mangle")
    assert reasons(host) == []
    holding.assert_client_held(network.server, network.clients[0], RATE)


def test_a_chain_of_others_without_a_hook_is_reported(network: Network, host: Node) -> None:
    """A POSTROUTING that is a plain chain and holds a foreign rule stays; the message says how to be rid of it."""
    nft(host, "add table ip mangle", "add chain ip mangle POSTROUTING", "add rule ip mangle POSTROUTING counter")
    for _ in range(2):
        ((reason, message),) = reasons(host)
        assert reason == "NotOnTheWay"
        assert "the chain POSTROUTING of table ip mangle has no hook" in message
        assert "counter" in seen(host)
    command = message.partition("after: nft ")[2].strip("'")
    nft(host, command)
    reasons(host)
    assert reasons(host) == []
    holding.assert_client_held(network.server, network.clients[0], RATE)
