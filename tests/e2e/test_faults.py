"""What breaks while clients download: no limited client gets a second above its limit, and no other one suffers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from bandwidth_lab.kind import client, join, release, shell
from e2e.world import LIMIT, NEVER_ABOVE, QUIET, World, fastest, free, slowed

LEASE = "client-bandwidth-operator"
API_AWAY_SECONDS = 60.0
RECONNECTING_SECONDS = 180.0


class Watched:
    """A limited client on two paths through the front node, and a quiet one beside it."""

    def __init__(self, addresses: list[str], greedy: client.Stream, quiet: client.Stream) -> None:
        self.addresses, self.greedy, self.quiet = addresses, greedy, quiet
        self.since = {family: greedy.await_rate(family, slowed) for family in (4, 6)}
        self.began = quiet.now

    def never_faster(self) -> None:
        """No second since the limit was first in force was above it."""
        for family, since in self.since.items():
            assert fastest(self.greedy, family, since) <= NEVER_ABOVE * LIMIT, family

    def still_slowed(self) -> dict[int, float]:
        """The limited client downloads, at its limit; since when."""
        return {family: self.greedy.await_rate(family, slowed, seconds=RECONNECTING_SECONDS) for family in (4, 6)}

    def quiet_got_its_rate(self) -> None:
        """The other client got what it asked for, all the time."""
        assert free(self.quiet.rate(4, self.began), QUIET)


@pytest.fixture
def watched(world: World, clients: dict[str, client.Client]) -> Iterator[Watched]:
    """Downloads that the tests here disturb."""
    greedy = clients["one"]
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(world.downloading(greedy, four=world.flow("far", 4), six=world.flow("host", 6)))
        quiet = stack.enter_context(world.downloading(clients["quiet"], quiet=world.flow("near", 4, QUIET)))
        addresses = [greedy.address(family) for family in (4, 6)]
        world.limit("greedy", addresses, sharing="PerEntry")
        world.in_force("greedy")
        yield Watched(addresses, stream, quiet)


def leader(world: World) -> str:
    """The name of the operator process that acts, which begins with its pod's name; empty when none does."""
    return str(world.cluster.get("-n", release.NAMESPACE, "lease", LEASE)["spec"].get("holderIdentity") or "")


def test_an_agent_killed(watched: Watched, world: World, clients: dict[str, client.Client]) -> None:
    """Without its agent a node goes on shaping; the next agent takes over what is there, and new limits reach it."""
    for _ in range(2):
        world.front.kill("client-bandwidth-agent", "agent")
        watched.quiet.wait(3)
    watched.still_slowed()
    world.release.wait_ready()
    two = clients["two"]
    with world.downloading(two, four=world.flow("near", 4)) as stream:
        world.limit("after", [two.address(4)])
        stream.await_rate(4, slowed)
    world.in_force("after")
    watched.never_faster()
    watched.quiet_got_its_rate()


def test_the_acting_operator_killed(watched: Watched, world: World, clients: dict[str, client.Client]) -> None:
    """Limits stay in force while no operator acts, and another one takes over: new limits are in force again."""
    shell.eventually("an operator acts", lambda: leader(world))
    acting = leader(world)
    pods = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in world.release.pods("operator")}
    pod, node = next((pod, node) for pod, node in pods.items() if acting.startswith(pod))
    world.node(node).kill(pod, "operator")
    two = clients["two"]
    with world.downloading(two, four=world.flow("near", 4)) as stream:
        world.limit("after", [two.address(4)])
        stream.await_rate(4, slowed, seconds=90)
    world.in_force("after")
    assert leader(world) != acting
    watched.still_slowed()
    watched.never_faster()
    watched.quiet_got_its_rate()


def test_the_api_server_away_for_a_minute(watched: Watched, world: World) -> None:
    """Nodes go on shaping without an API server, also one whose agent dies meanwhile; and all is well afterwards."""
    plane = world.cluster.control_plane
    manifest, aside = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/kube-apiserver.yaml"
    plane.run("mv", manifest, aside)
    try:
        with contextlib.suppress(LookupError):
            plane.kill("kube-apiserver", "kube-apiserver")
        shell.eventually("the API server is away", lambda: not _answers(world))
        watched.quiet.wait(API_AWAY_SECONDS / 2)
        world.front.kill("client-bandwidth-agent", "agent")
        watched.quiet.wait(API_AWAY_SECONDS / 2)
        assert not _answers(world)
        watched.still_slowed()
    finally:
        plane.run("mv", aside, manifest)
        shell.eventually("the API server is back", lambda: _answers(world), seconds=180)
    world.cluster.wait_ready()
    world.release.wait_ready(seconds=180)
    world.limit("greedy", watched.addresses, LIMIT // 2, sharing="PerEntry")
    for family in (4, 6):
        watched.greedy.await_rate(family, lambda rate: slowed(rate, LIMIT // 2), seconds=90)
    watched.never_faster()
    watched.quiet_got_its_rate()


def _answers(world: World) -> bool:
    return world.cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=3s", check=False).strip() == "ok"


def test_a_worker_stopped_and_started(watched: Watched, world: World) -> None:
    """A node that boots has lost its kernel state; its clients come back to it and are slowed as before.

    Pods start side by side, so a server may be there a moment before the node's agent: how long is told.
    """
    before = watched.greedy.samples[-1].dials
    world.front.stop()
    watched.greedy.wait(3)
    world.front.start()
    shell.eventually("the client has come back", lambda: _came_back(watched, before), seconds=RECONNECTING_SECONDS)
    again = watched.still_slowed()
    for family, since in again.items():
        booted = watched.greedy.seconds(family, watched.since[family], since)
        faster = sum(rate > NEVER_ABOVE * LIMIT for _, rate in booted) / 10
        world.tell(f"a node booted: its client over IPv{family} was faster than its limit for {faster:.1f} s")
    world.cluster.wait_ready()
    world.release.wait_ready(seconds=180)
    world.in_force("greedy", seconds=120)
    watched.since = again
    watched.never_faster()


def _came_back(watched: Watched, before: dict[str, int]) -> bool:
    newest, earlier = watched.greedy.samples[-1], watched.greedy.samples[-10]
    return all(newest.dials[flow] > before[flow] and newest.payload[flow] > earlier.payload[flow] for flow in before)


def test_a_worker_added(watched: Watched, world: World, clients: dict[str, client.Client]) -> None:
    """A node that joins has the limits that were there before it, and the limit counts it."""
    count = len(world.cluster.nodes)
    with join.added(world.cluster, world.back, [f"{name}:{release.TAG}" for name in release.IMAGES]) as node:
        shell.eventually(
            "the limit is in force on the new node",
            lambda: world.cluster.get("cbl", "greedy")["status"]["nodes"].get("programmed") == count + 1,
            seconds=180,
        )
        with world.downloading(
            clients["one"], n4=world.flow("far", 4, node=node), n6=world.flow("near", 6, node=node)
        ) as stream:
            through = dict.fromkeys((4, 6), stream.now)
            for family in (4, 6):
                stream.await_rate(family, lambda rate: rate > 1.5 * LIMIT)
            stream.wait(3)
            for family, since in through.items():  # the front node's share of this client, and the new node's
                assert fastest(stream, family, since) <= NEVER_ABOVE * 2 * LIMIT
    shell.eventually(
        "the node that left counts no more",
        lambda: world.cluster.get("cbl", "greedy")["status"]["nodes"]["desired"] == count,
    )
