"""What the operator lets no limit touch or hold, whatever admission saw."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from bandwidth_lab.control_plane import ControlPlane
from cluster.world import NODES, World, limit

pytestmark = pytest.mark.xdist_group("protected")

SERVICE = "/api/v1/namespaces/default/services/kubernetes"
ENDPOINTS = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"


@pytest.fixture(scope="module")
def guarded(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A cluster with the operator's own rights, one node with a network of pods, and an agent on another."""
    world = World(plane, tmp_path_factory.mktemp("protected"))
    world.clean()
    try:
        # The API server makes both a moment after its start; the operator looks for them when it begins to act.
        world.wait(lambda: world.get(SERVICE)["spec"]["clusterIP"], "the service of the API server is there")
        world.wait(lambda: world.get(ENDPOINTS)["endpoints"], "the addresses of the API server are there")
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "pods"}}
        world.api.request(
            "POST", NODES, body=node | {"spec": {"podCIDR": "10.244.7.0/24", "podCIDRs": ["10.244.7.0/24"]}}
        )
        world.operator()
        world.agent("node-0")
        yield world
    finally:
        world.leave()
        world.close()


def refused(world: World, name: str, clients: list[str], reason: str) -> str:
    """The message of a limit that must be refused, and is on no node."""
    world.create(limit(name, clients))
    world.wait_ready(name, reason=reason)
    assert name not in world.rates()
    return str(world.conditions(name)["Accepted"]["message"])


def test_the_cluster_itself_is_protected(guarded: World) -> None:
    """No limit touches pods, the service network, the API server's service or its own addresses; others are served."""
    service = guarded.get(SERVICE)["spec"]["clusterIP"]
    (endpoint,) = guarded.get(ENDPOINTS)["endpoints"]
    (address,) = endpoint["addresses"]
    assert "a network of pods (guardRails.protectCluster)" in refused(
        guarded, "a-pod", ["10.244.7.9"], "ProtectedAddress"
    )
    assert "guardRails.protectCluster" in refused(guarded, "the-service", [service], "ProtectedAddress")
    if not ipaddress.ip_address(address).is_loopback:
        assert "API server" in refused(guarded, "the-server", [address], "ProtectedAddress")
    guarded.create(limit("somebody"))
    guarded.wait_ready("somebody")


def test_networks_of_services_are_read_where_the_server_says_them(guarded: World) -> None:
    """An address of the service network that no service has is protected too, on a server that knows ServiceCIDRs."""
    kinds = guarded.get("/apis/networking.k8s.io/v1")["resources"]
    known = any(kind["name"] == "servicecidrs" for kind in kinds)
    found = guarded.get("/apis/networking.k8s.io/v1/servicecidrs")["items"] if known else []
    assert found or not known
    for number, item in enumerate(found):
        network = ipaddress.ip_network(item["spec"]["cidrs"][0])
        message = refused(guarded, f"service-{number}", [str(network[77])], "ProtectedAddress")
        assert "a network of services (guardRails.protectCluster)" in message


def test_too_many_addresses_are_refused(guarded: World) -> None:
    """Two limits that hold half of the Internet are in no plan, and say the rule and what allows more."""
    one = [f"{first}.0.0.0/8" for first in [*range(1, 10), *range(11, 66)]]
    other = [f"{first}.0.0.0/8" for first in range(66, 127)]
    for name, clients in (("half", one), ("rest", other)):
        message = refused(guarded, name, clients, "TooWide")
        assert "spec.clients: rule widest" in message
        assert "guardRails.widest allows more" in message
