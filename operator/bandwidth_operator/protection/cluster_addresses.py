"""Reads the addresses that the cluster needs and that no Node has: services, the API server, the resolver of pods.

By single requests from time to time, because they hardly ever change. After a failed request the known ones stay; what
an API server does not have, or an older chart does not permit, counts as none. Owns the requests and their meaning.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import structlog

from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from bandwidth_kube import client
from bandwidth_operator.protection import guard_rails
from bandwidth_runtime import resolvers

EVERY_SECONDS = 300.0
UNANSWERED_SECONDS = 15.0  # until it is asked again what was not answered
SERVICE_CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
SERVICE = "/api/v1/namespaces/default/services/kubernetes"
ENDPOINTS = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
RESOLV_CONF = pathlib.Path("/etc/resolv.conf")
_NOT_HERE = (403, 404)

log = structlog.get_logger(__name__)


class ClusterAddresses:
    """The addresses that were last found. For one thread at a time."""

    def __init__(self, api: client.Client, resolv_conf: pathlib.Path | None) -> None:
        self._api = api
        self._resolv_conf = resolv_conf
        self._found: dict[str, dict[Prefix, str]] = {}  # by path
        self._logged: set[str] = set()
        self.again_seconds = EVERY_SECONDS  # from one reading to the next

    def read(self) -> Mapping[Prefix, str]:
        """Read all of them; return by prefix what it is, and the rule that protects it."""
        self.again_seconds = EVERY_SECONDS
        for path, meaning in _MEANINGS.items():
            try:
                self._found[path] = dict(meaning(_dict(self._api.request("GET", path))))
            except client.RefusedError as refused:
                if refused.status in _NOT_HERE:
                    self._found[path] = {}
                else:
                    self.again_seconds = UNANSWERED_SECONDS
                self._log(path, refused)
            except (client.ApiError, RecursionError) as error:
                self.again_seconds = UNANSWERED_SECONDS
                self._log(path, error)
        if self._resolv_conf is not None:
            self._read_resolvers(self._resolv_conf)
        return {prefix: why for found in self._found.values() for prefix, why in found.items()}

    def _read_resolvers(self, path: pathlib.Path) -> None:
        with contextlib.suppress(OSError):
            text = path.read_text(errors="replace")
            self._found[str(path)] = {
                address: f"the resolver of this cluster ({guard_rails.CLUSTER})"
                for address in resolvers.named(text)
                if not resolvers.is_loopback(address)
            }

    def _log(self, path: str, error: Exception) -> None:
        if path not in self._logged:
            self._logged.add(path)
            log.info("addresses that the cluster needs cannot be read; name them yourself", path=path, error=str(error))


def resolv_conf_of_a_pod() -> pathlib.Path | None:
    """Return the resolv.conf that names the resolver of pods; None outside of a cluster."""
    return RESOLV_CONF if "KUBERNETES_SERVICE_HOST" in os.environ else None


def _service_cidrs(answer: Mapping[str, Any]) -> Iterator[tuple[Prefix, str]]:
    for item in _list(answer.get("items")):
        for text in _list(_dict(_dict(item).get("spec")).get("cidrs")):
            yield from _read(text, f"a network of services ({guard_rails.CLUSTER})")


def _service(answer: Mapping[str, Any]) -> Iterator[tuple[Prefix, str]]:
    spec = _dict(answer.get("spec"))
    for text in (spec.get("clusterIP"), *_list(spec.get("clusterIPs"))):
        yield from _read(text, f"the service of the API server ({guard_rails.CLUSTER})")


def _endpoints(answer: Mapping[str, Any]) -> Iterator[tuple[Prefix, str]]:
    for endpoint in _list(answer.get("endpoints")):
        for text in _list(_dict(endpoint).get("addresses")):
            yield from _read(text, f"an API server of this cluster ({guard_rails.CLUSTER})")


_MEANINGS: dict[str, Callable[[Mapping[str, Any]], Iterator[tuple[Prefix, str]]]] = {
    SERVICE_CIDRS: _service_cidrs,
    SERVICE: _service,
    ENDPOINTS: _endpoints,
}


def _read(text: object, why: str) -> Iterator[tuple[Prefix, str]]:
    with contextlib.suppress(ValueError):  # "None", a name, or nothing
        yield addresses.network(str(text)), why


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
