"""The slow and obviously right answer to "which limit does this packet belong to", and an interpreter of tables.

`Oracle` follows the words of the CRD on documents as their authors write them, one packet at a time, and uses nothing
of the compiler. `looked_up` does with a resolution what the docstring of `plan.Resolution` says the kernel will do.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from bandwidth_api.plan import ClassKey, Prefix, Resolution, Table

Document = dict[str, Any]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Packet(NamedTuple):
    """A packet to a client. `protocol` and `port` as the client dialled them; neither for a ping."""

    address: Address
    protocol: str
    port: int


class Rule:
    """One document, with its addresses read."""

    def __init__(self, document: Document) -> None:
        spec = document["spec"]
        self.name: str = document["metadata"]["name"]
        self.created: str = document["metadata"]["creationTimestamp"]
        self.clients = [ipaddress.ip_network(text) for text in spec["clients"]]
        self.excepted = [ipaddress.ip_network(text) for text in spec.get("except", [])]
        self.ports: list[dict[str, Any]] = spec["egress"].get("ports", [])
        self.per_entry = spec["egress"].get("sharing") == "PerEntry"
        self.priority: int = spec.get("priority", 0)
        self._known: dict[Address, Network | None] = {}  # answers of `_around`, asked again for every port

    def client(self, packet: Packet) -> Network | None:
        """The longest clients entry around the address, if the limit is for this packet at all."""
        if packet.address not in self._known:
            self._known[packet.address] = self._around(packet.address)
        if self.ports and not any(_dialled(packet, port) for port in self.ports):
            return None
        return self._known[packet.address]

    def _around(self, address: Address) -> Network | None:
        around = [network for network in self.clients if address in network]
        if not around or any(address in network for network in self.excepted):
            return None
        return max(around, key=lambda network: network.prefixlen)


def _dialled(packet: Packet, port: dict[str, Any]) -> bool:
    first: int = port["port"]
    last: int = port.get("endPort", first)
    return packet.protocol == port.get("protocol", "TCP") and first <= packet.port <= last


def in_force(document: Document, labels: Mapping[str, str], now: datetime.datetime) -> bool:
    """Whether a node with these labels enforces the limit at this time."""
    spec = document["spec"]
    if spec.get("mode") == "Disabled":
        return False
    if "expiresAt" in spec and datetime.datetime.fromisoformat(spec["expiresAt"]) <= now:
        return False
    created = datetime.datetime.fromisoformat(document["metadata"]["creationTimestamp"])
    if "ttlSeconds" in spec and created + datetime.timedelta(seconds=spec["ttlSeconds"]) <= now:
        return False
    selector = spec.get("nodeSelector", {})
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", []):
        there = expression["key"] in labels
        listed = there and labels[expression["key"]] in expression.get("values", [])
        if not {"In": listed, "NotIn": not listed, "Exists": there, "DoesNotExist": not there}[expression["operator"]]:
            return False
    return True


def ranked(packet: Packet, rules: Iterable[Rule]) -> list[tuple[Rule, Network]]:
    """All limits for this packet, the winner first."""
    found = [(rule, client) for rule in rules if (client := rule.client(packet)) is not None]
    return sorted(found, key=lambda f: (-f[0].priority, -f[1].prefixlen, f[0].created, f[0].name))


def winner(packet: Packet, rules: Iterable[Rule]) -> ClassKey | None:
    """The class that the packet belongs to."""
    return class_of(ranked(packet, rules))


def class_of(found: list[tuple[Rule, Network]]) -> ClassKey | None:
    """The class of the first of them."""
    for rule, client in found[:1]:
        single = client.prefixlen == client.max_prefixlen
        text = str(client.network_address) if single else str(client)
        return ClassKey(rule.name, text if rule.per_entry else "")
    return None


def looked_up(packet: Packet, resolution: Resolution) -> ClassKey | None:
    """What the tables say: first the one without ports, then those with; a hole leaves what was found before."""
    answer: ClassKey | None = None
    for table in sorted(resolution.tables, key=lambda table: bool(table.ports)):
        ports = table.ports
        if table.family == packet.address.version and (
            not ports or any(p.protocol == packet.protocol and p.first <= packet.port <= p.last for p in ports)
        ):
            answer = longest_match(int(packet.address), table) or answer
    return answer


def longest_match(address: int, table: Table) -> ClassKey | None:
    """The entry of the longest prefix around the address."""
    bits = {4: 32, 6: 128}[table.family]
    for length in sorted({prefix.length for prefix in table.entries}, reverse=True):
        prefix = Prefix(table.family, address >> (bits - length) << (bits - length), length)
        if prefix in table.entries:
            return table.entries[prefix]
    return None
