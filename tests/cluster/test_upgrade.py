"""Operator and agents of two versions beside each other, and one after the other: an upgrade and the way back."""

from __future__ import annotations

import dataclasses
import pathlib
import signal
from collections.abc import Iterator

import pytest

from bandwidth_lab import previous
from bandwidth_lab.cluster_node import ClusterNode
from bandwidth_lab.fleet import Fleet, fleet
from bandwidth_lab.node import PROGRAM
from cluster.world import LIMITS, OPERATOR, World, limit

pytestmark = pytest.mark.root


@pytest.fixture
def network() -> Iterator[Fleet]:
    with fleet(2, 2, prefix="cu-") as made:
        yield made


def rates(nodes: list[ClusterNode], address: str) -> list[int | None]:
    return [node.kernel.rate_of(address) for node in nodes]


@pytest.mark.parametrize("newer", ["operator", "agent"])
def test_a_mixed_fleet_works(
    world: World, network: Fleet, nodes: list[ClusterNode], before: pathlib.Path, newer: str
) -> None:
    """A limit is created, edited, refused and lifted, and its status is true, whichever of the two is the newer."""
    world.operator(program=OPERATOR if newer == "operator" else before / "bandwidth-operator")
    for node in nodes:
        node.kernel.program = PROGRAM if newer == "agent" else before / "bandwidth-agent"
    world.start(*nodes)
    greedy, other = (client.address4 for client in network.clients)
    ports = [{"protocol": "TCP", "port": 443}, {"protocol": "UDP", "port": 6000, "endPort": 6100}]
    world.create(limit("a", [greedy]), limit("b", [other], "2Mbit", egress={"ports": ports, "sharing": "PerEntry"}))
    world.create(limit("node", [network.nodes[0].address4]))
    world.wait_ready("a", "b")
    world.wait_ready("node", reason="ProtectedAddress")
    assert rates(nodes, greedy) == [5_000_000] * 2
    world.edit("a", egress={"rate": "7Mbit"})
    world.wait(lambda: world.in_force("a", 2), "the edit is in force")
    assert rates(nodes, greedy) == [7_000_000] * 2
    status = world.status("a")
    assert (status["nodes"]["desired"], status["nodes"]["programmed"]) == (2, 2)
    world.delete("a")
    world.wait(lambda: rates(nodes, greedy) == [None] * 2, "a is lifted")
    world.api.request("DELETE", LIMITS)
    world.wait(lambda: not any(node.kernel.kernel().sets for node in nodes), "nothing is limited any more")


def test_what_nodes_have_seen_is_told_by_either_operator(world: World, before_sight: pathlib.Path) -> None:
    """The older one says Ready where nothing fails, the newer one what is known; back again nothing of it is left."""
    agent, other = world.agent("node-0"), world.agent("node-1")
    agent.see("device cilium_host", "seen")
    other.fail("past", "Bypassed", "0 of 1,204 packets went through its class")
    names = ("seen", "unseen", "past")

    def told() -> dict[str, tuple[str, str]]:
        conditions = {name: world.conditions(name).get("Ready", {}) for name in names}
        return {name: (str(c.get("status")), str(c.get("reason"))) for name, c in conditions.items()}

    def as_before() -> bool:
        return told() == {"seen": ("True", "Ready"), "unseen": ("True", "Ready"), "past": ("False", "KernelRefused")}

    running = world.operator("older", program=before_sight / "bandwidth-operator")
    world.create(*(limit(name, [f"203.0.113.{number}"]) for number, name in enumerate(names, 1)))
    world.wait(as_before, "as before")
    assert "0 of 1,204 packets" in world.conditions("past")["Ready"]["message"]
    running.signal(signal.SIGTERM)
    running.process.wait(60)
    running = world.operator("newer")
    known = {"seen": ("True", "Ready"), "unseen": ("Unknown", "Unverified"), "past": ("False", "Bypassed")}
    world.wait(lambda: told() == known, "what is known")
    assert world.status("seen")["verified"].items() >= {"nodes": 1, "names": ["node-0"]}.items()
    running.signal(signal.SIGTERM)
    running.process.wait(60)
    world.operator("older-again", program=before_sight / "bandwidth-operator")
    world.wait(as_before, "as before, again")
    world.wait(lambda: not any("verified" in world.status(name) for name in names), "nothing of it is left")


def test_an_upgrade_and_the_way_back_write_nothing(
    world: World, network: Fleet, nodes: list[ClusterNode], before: pathlib.Path
) -> None:
    """Each program in turn, operator first and agents first: no plan, no status and no kernel is written again.

    Only the rules for ports are, by each version as it has them.
    """
    old, new = before / "bandwidth-operator", OPERATOR
    running = world.operator("first", program=old)
    for node in nodes:
        node.kernel.program = before / "bandwidth-agent"
    world.start(*nodes)
    world.create(*(limit(f"l-{n}", [f"198.18.0.{n}"], f"{n}Mbit") for n in range(1, 20)))
    world.create(limit("a", [network.clients[0].address4], egress={"ports": [{"port": 443}]}))
    world.wait_ready("a", *(f"l-{n}" for n in range(1, 20)))
    world.settled()
    written, kernels = world.versions(), [node.kernel.kernel() for node in nodes]
    texts = [node.kernel.snapshot() for node in nodes]

    for number, (operator, agent) in enumerate(
        [(new, before / "bandwidth-agent"), (new, PROGRAM), (old, PROGRAM), (old, before / "bandwidth-agent")]
    ):
        if operator != running.program:
            running.signal(signal.SIGTERM)
            running.process.wait(60)
            running = world.operator(f"operator-{number}", program=operator)
            world.wait(lambda r=running: world.holder().startswith(r.name), "it leads")  # type: ignore[misc]
        for node in nodes:
            if node.kernel.program != agent:
                node.stop()
                node.kernel.program = agent
                node.start()
        # It works: a limit comes and goes with it.
        world.create(limit("probe", ["198.18.9.9"], "1Mbit"))
        world.wait_ready("probe")
        assert rates(nodes, "198.18.9.9") == [1_000_000] * 2
        world.delete("probe")
        world.wait(lambda: rates(nodes, "198.18.9.9") == [None] * 2, "the probe is lifted")
        world.settled()
        assert {path: version for path, version in world.versions().items() if path.startswith(LIMITS)} == {
            path: version for path, version in written.items() if path.startswith(LIMITS)
        }
        found, printed = [node.kernel.kernel() for node in nodes], [node.kernel.snapshot() for node in nodes]
        if agent == PROGRAM:
            found = [dataclasses.replace(one, chains=other.chains) for one, other in zip(found, kernels, strict=True)]
            assert [*map(previous.without_rules, printed)] == [*map(previous.without_rules, texts)]
        else:
            assert printed == texts
        assert found == kernels
