"""`who`: which limit holds an address, and does it, with or without an agent."""

from __future__ import annotations

import json
import pathlib

import pytest

from bandwidth_lab import Network, TcpFlow, ebpf, ebpf_datapath, node
from kernel.programs.conftest import Host
from unit import documents

forked_programs = pytest.fixture(autouse=True, scope="module")(node.forked_programs)

pytestmark = pytest.mark.root


def asked(host: Host, code: int, *words: str) -> dict[str, object]:
    """The JSON of a call that ends with this exit code."""
    done = host.call("who", "-o", "json", *words)
    assert (done.returncode, done.stderr) == (code, "")
    told: dict[str, object] = json.loads(done.stdout)
    documents.check("who", told)
    return told


def rows(told: dict[str, object]) -> list[dict[str, object]]:
    found = told["limits"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("placement", ["ifb", "interface"])
@pytest.mark.parametrize("family", [4, 6])
def test_a_greedy_client_is_held(host: Host, network: Network, placement: str, family: int) -> None:
    """Its limit, its set entry and its class are named; what leaves is its rate, and it comes out of the class."""
    greedy = network.clients[0]
    address = greedy.address4 if family == 4 else greedy.address6
    host.options = ("--placement", placement)
    host.limit("greedy", [address], "5Mbit")
    host.once()
    before = host.snapshot()
    with TcpFlow(network.server, greedy, family=family):
        host.show()  # the burst is over
        told = asked(host, 0, address)
    assert told["verdict"] == "Held"
    (row,) = rows(told)
    assert (row["name"], row["entry"], row["set"], row["atLimit"]) == ("greedy", address, f"cbl-v{family}", True)
    assert row["classBitsPerSecond"] == pytest.approx(5_000_000, rel=0.05)
    assert row["addressBitsPerSecond"] == pytest.approx(5_000_000, rel=0.1)
    assert row["devices"] == ["cbl0" if placement == "ifb" else "eth0"]
    assert host.snapshot() == before


def test_a_program_that_ends_the_walk_is_found(host: Host, network: Network) -> None:
    """Another program that ends the walk before our filters: the exit code and the first sentence say it."""
    greedy = network.clients[0]
    host.limit("greedy", [greedy.address4], "5Mbit")
    host.once()
    ended = ebpf.attached(host.namespace, "eth0", "egress", ebpf.verdict(ebpf.PASS))
    with ended, TcpFlow(network.server, greedy):
        told = asked(host, 4, greedy.address4)
        done = host.call("who", greedy.address4)
    assert told["verdict"] == "Bypassed"
    assert done.returncode == 4
    assert done.stdout.startswith(f"The limit greedy does not hold {greedy.address4}: ")


@pytest.mark.parametrize(
    ("way", "options"),
    [("tcx", ()), ("cls_bpf", ("--placement", "interface")), ("tcx", ("--classifier", "priority"))],
)
def test_what_leaves_past_the_class_is_found(tmp_path: pathlib.Path, options: tuple[str, ...], way: ebpf.Way) -> None:
    """A datapath of eBPF carries the pod's packets past our rules: exit code, first sentence and what helps say it."""
    with ebpf_datapath.datapath_node(prefix="kw-", way=way) as made:
        host, client = Host(made.node, tmp_path, *options), made.clients[0]
        host.limit("greedy", [client.address4, client.address6], "5Mbit")
        host.once()
        for family, address in ((4, client.address4), (6, client.address6)):
            with TcpFlow(made.pod, client, family=family, port=ebpf_datapath.POD_PORT, dial=made.dial(family)):
                told = asked(host, 4, address)
                done = host.call("who", address)
            assert told["verdict"] == "Bypassed"
            seen = told["seen"]
            assert isinstance(seen, dict)
            assert seen["ports"][0]["port"] == ebpf_datapath.NODE_PORT
            assert done.returncode == 4
            assert done.stdout.startswith(f"The limit greedy does not hold {address}: ")
            assert "nothing came out of the limit's class" in done.stdout


def test_an_address_without_a_limit_is_seen(host: Host, network: Network) -> None:
    """Also on a host that has no limit at all; and the manifest that is suggested slows it."""
    greedy = network.clients[0]
    with TcpFlow(network.server, greedy):
        told = asked(host, 3, greedy.address4, "--seconds", "1")
    assert told["verdict"] == "NoLimit"
    seen = told["seen"]
    assert isinstance(seen, dict)
    assert seen["bitsPerSecond"] > 5_000_000
    commands = told["commands"]
    assert isinstance(commands, list)
    host.namespace.run(["sh", "-c", commands[0]["command"].replace("/etc/client-bandwidth", str(host.manifests))])
    host.once()
    assert rows(asked(host, 0, greedy.address4, "--seconds", "0.1"))[0]["name"] == "slow-203-0-113-10"


def test_beside_a_running_agent_and_with_its_hook_gone(host: Host, network: Network) -> None:
    """It takes no lock, and says what is wrong before an agent has put it right."""
    greedy = network.clients[0]
    host.limit("greedy", [greedy.address4], "5Mbit")
    host.start()
    host.until_rate(greedy.address4, 5_000_000)
    assert rows(asked(host, 0, greedy.address4, "--seconds", "0.1"))[0]["name"] == "greedy"
    assert host.stop() == 0
    host.namespace.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"])
    told = asked(host, 4, greedy.address4, "--seconds", "0.1")
    assert told["verdict"] == "NotInForce"
    assert told["problems"] == ["nothing of ours is on eth0; a running agent puts it right"]


def test_ports_as_they_are_dialled(host: Host, network: Network) -> None:
    """A limit for some ports is named for these alone."""
    client = network.clients[0]
    host.limit("imap", [client.address4], "5Mbit", egress={"ports": [{"port": 993}, {"port": 4190, "endPort": 4199}]})
    host.once()
    (row,) = rows(asked(host, 0, client.address4, "--seconds", "0.1"))
    assert row["ports"] == [
        {"protocol": "TCP", "port": 993, "endPort": 993},
        {"protocol": "TCP", "port": 4190, "endPort": 4199},
    ]
    assert rows(asked(host, 0, client.address4, "--port", "4192/tcp", "--seconds", "0.1"))
    assert not rows(asked(host, 3, client.address4, "--port", "443", "--seconds", "0.1"))
