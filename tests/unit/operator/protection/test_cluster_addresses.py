"""What the operator finds around the nodes, whatever an API server answers."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from bandwidth_api import addresses
from bandwidth_kube import client
from bandwidth_operator.protection import cluster_addresses
from unit.kube.apis import Answer, Api, Request

ANSWERS: dict[str, Any] = {
    cluster_addresses.SERVICE_CIDRS: {"items": [{"spec": {"cidrs": ["10.96.0.0/12", "fd00:10::/112"]}}]},
    cluster_addresses.SERVICE: {"spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00:10::1"]}},
    cluster_addresses.ENDPOINTS: {"endpoints": [{"addresses": ["203.0.113.10"]}, {"addresses": ["203.0.113.11"]}]},
}


class Server:
    """Answers what it is told to: an object, or a number for a refusal."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = dict(ANSWERS)

    def __call__(self, request: Request) -> Answer:
        answer = self.answers[request.path]
        return Answer(answer) if isinstance(answer, int) else Answer(body=answer)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def api(server: Server) -> client.Client:
    return Api(server).client


def found(looking: cluster_addresses.ClusterAddresses) -> set[str]:
    return {addresses.write(prefix) for prefix in looking.read()}


def test_what_is_found(api: client.Client, tmp_path: pathlib.Path) -> None:
    """Networks of services, service and addresses of the API server, and the resolver, each with the rule's name."""
    (tmp_path / "resolv.conf").write_text("nameserver 10.96.0.10\nnameserver 127.0.0.53\n")
    looking = cluster_addresses.ClusterAddresses(api, tmp_path / "resolv.conf")
    assert found(looking) == {
        *("10.96.0.0/12", "fd00:10::/112"),
        *("10.96.0.1", "fd00:10::1"),
        *("203.0.113.10", "203.0.113.11"),
        "10.96.0.10",
    }
    assert all("guardRails.protectCluster" in why for why in looking.read().values())


@pytest.mark.parametrize("status", [403, 404])
def test_what_is_not_there_is_none(server: Server, api: client.Client, tmp_path: pathlib.Path, status: int) -> None:
    """An older API server knows no ServiceCIDRs, an older chart does not let us read; the rest is found."""
    server.answers[cluster_addresses.SERVICE_CIDRS] = status
    looking = cluster_addresses.ClusterAddresses(api, tmp_path / "none")
    assert found(looking) == {"10.96.0.1", "fd00:10::1", "203.0.113.10", "203.0.113.11"}


def test_what_cannot_be_read_stays(server: Server, api: client.Client, tmp_path: pathlib.Path) -> None:
    """An API server that fails takes nothing away of what was known; one that answers otherwise does."""
    looking = cluster_addresses.ClusterAddresses(api, tmp_path / "none")
    before = found(looking)
    server.answers[cluster_addresses.ENDPOINTS] = 500
    assert found(looking) == before
    server.answers[cluster_addresses.ENDPOINTS] = {"endpoints": [{"addresses": ["203.0.113.12"]}]}
    assert found(looking) == before - {"203.0.113.10", "203.0.113.11"} | {"203.0.113.12"}


def test_addresses_are_found_however_they_are_written(
    server: Server, api: client.Client, tmp_path: pathlib.Path
) -> None:
    """An API server takes forms of an IPv6 address of which no two programs write the same."""
    server.answers[cluster_addresses.ENDPOINTS] = {
        "endpoints": [{"addresses": ["2001:DB8:0:0::1", "::ffff:203.0.113.10"]}]
    }
    assert {"2001:db8::1", "203.0.113.10"} <= found(cluster_addresses.ClusterAddresses(api, tmp_path / "none"))


def test_what_could_not_be_asked_is_asked_again_soon(
    server: Server, api: client.Client, tmp_path: pathlib.Path
) -> None:
    """Until then nothing of it is protected; what is refused for good is not asked again in a hurry."""
    looking = cluster_addresses.ClusterAddresses(api, tmp_path / "none")
    server.answers[cluster_addresses.ENDPOINTS] = 503
    looking.read()
    assert looking.again_seconds == cluster_addresses.UNANSWERED_SECONDS
    server.answers[cluster_addresses.ENDPOINTS] = 403
    looking.read()
    assert looking.again_seconds == cluster_addresses.EVERY_SECONDS


def test_a_resolver_is_the_clusters_in_a_pod_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run elsewhere, with a kubeconfig, the operator has the resolver of that other network."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert cluster_addresses.resolv_conf_of_a_pod() is None
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert cluster_addresses.resolv_conf_of_a_pod() == cluster_addresses.RESOLV_CONF


@pytest.mark.parametrize("odd", [[], {}, {"items": 7}, {"endpoints": [7, {"addresses": "x"}, {"addresses": [None]}]}])
def test_odd_answers_are_nothing(server: Server, api: client.Client, tmp_path: pathlib.Path, odd: object) -> None:
    """Fields of another type than they should have are passed over."""
    server.answers = dict.fromkeys(ANSWERS, odd)
    assert found(cluster_addresses.ClusterAddresses(api, tmp_path / "none")) == set()


def test_a_headless_service_is_passed_over(server: Server, api: client.Client, tmp_path: pathlib.Path) -> None:
    """`None` is the word of Kubernetes for a service without an address."""
    server.answers[cluster_addresses.SERVICE] = {"spec": {"clusterIP": "None", "clusterIPs": ["None"]}}
    assert "10.96.0.1" not in found(cluster_addresses.ClusterAddresses(api, tmp_path / "none"))
