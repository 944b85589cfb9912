"""Chooses the HTTP proxy to an API server: `proxy-url` of a kubeconfig, or the variables that Go (so kubectl) uses.

    https_proxy or HTTPS_PROXY   for a server with https, http_proxy or HTTP_PROXY for one with http
    no_proxy or NO_PROXY         servers that are reached directly: names and all below them, addresses, networks, `*`

Pure: the environment is a parameter. Loopback addresses and the cluster's own service are always reached directly.
"""

from __future__ import annotations

import base64
import dataclasses
import ipaddress
import urllib.parse
from collections.abc import Mapping

from bandwidth_kube.credentials.access import Access, NoConnectionError

SCHEMES = ("http", "https")
PORTS = {"http": 80, "https": 443}


@dataclasses.dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and our credentials there."""

    url: str  # without user and password
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)


def choose(access: Access, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a server; None if it is reached directly. Raises NoConnectionError for no HTTP proxy."""
    if access.proxy_url:
        return _proxy(access.proxy_url, "proxy-url")
    server = urllib.parse.urlsplit(access.server)
    host = server.hostname or ""
    if (access.in_cluster and _address(host) is not None) or _is_loopback(host):
        return None
    name, url = _named(environment, f"{server.scheme}_proxy")
    if not url or _is_excepted(host, server.port or PORTS.get(server.scheme, 0), _named(environment, "no_proxy")[1]):
        return None
    return _proxy(url, name)


def _named(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return a variable's value, in capitals or else in small letters, and which of the two it is."""
    for each in (name.upper(), name):
        if environment.get(each):
            return each, environment[each]
    return name, ""


def _proxy(url: str, origin: str) -> Proxy:
    """Parse a proxy's URL as Go does: without a scheme it is http. Errors never contain the password."""
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urllib.parse.SplitResult("", "", "", "", "")
    scheme = parts.scheme.lower()
    if scheme and scheme not in SCHEMES:
        raise NoConnectionError(
            f"{origin} names a proxy of the kind {scheme}, which is not supported; use http or https"
        )
    if not host:
        raise NoConnectionError(f"{origin} is not the URL of a proxy; it must be like http://proxy.example.com:3128")
    headers = {}
    if parts.username is not None:
        user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["proxy-authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    return Proxy(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port or PORTS[scheme]}", headers)


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_excepted(host: str, port: int, excepted: str) -> bool:
    return any(_covers(each.strip().lower(), host.lower().rstrip("."), port) for each in excepted.split(","))


def _covers(rule: str, host: str, port: int) -> bool:
    """Return whether one word of NO_PROXY covers a server."""
    if rule in ("", "*"):
        return rule == "*"
    address = _address(host)
    if "/" in rule:
        try:
            return address is not None and address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    name, only = _split_port(rule)
    if only is not None and only != port:
        return False
    ruled = _address(name)
    if ruled is not None or address is not None:
        return ruled == address
    name = name.removeprefix("*")
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith(f".{name}")


def _split_port(rule: str) -> tuple[str, int | None]:
    """Split `name:port` or `[address]:port`; the port is None if there is none."""
    if rule.startswith("["):
        name, _, port = rule[1:].partition("]")
        port = port.removeprefix(":")
    elif rule.count(":") == 1:
        name, _, port = rule.partition(":")
    else:
        name, port = rule, ""
    return name, int(port) if port.isascii() and port.isdecimal() else None
