"""A ClientBandwidthLimit as the plugin shows it, read from what the API server holds. Pure.

The API server has checked it; a field that an older or newer version wrote in another form counts as left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from bandwidth_api import addresses, names, units
from bandwidth_api.conditions import ConditionType, Status
from bandwidth_api.plan import Distribution, Mode, PlanEntry, PortRange, Prefix, SelectorTerm, Sharing
from bandwidth_cli.text import ages

Json = dict[str, Any]
_Word = TypeVar("_Word", Mode, Sharing, Distribution)

KIND = "ClientBandwidthLimit"
MADE_BY = "clientbandwidth.io/made-by"  # a label: the program
AUTHOR = names.AUTHOR
RESOURCE = "clientbandwidthlimits"
FULL_NAME = "clientbandwidthlimit.clientbandwidth.io"  # as kubectl -o name writes it


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """The condition Ready, as far as it speaks of the object's present form."""

    status: str  # True, False or Unknown
    reason: str
    message: str

    @property
    def text(self) -> str:
        """Reason and message in one text."""
        return f"{self.reason}: {self.message}" if self.message else self.reason


@dataclasses.dataclass(frozen=True, slots=True)
class FailingNode:
    name: str
    reason: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """One limit with its status."""

    name: str
    uid: str
    version: str
    clients: tuple[Prefix, ...]
    excepted: tuple[Prefix, ...]
    ports: tuple[PortRange, ...]
    rate: str  # as it is written
    rate_bits_per_second: int
    per_node_bits_per_second: int  # what one node allows
    mode: Mode
    sharing: Sharing
    distribution: Distribution
    priority: int
    node_selector: tuple[SelectorTerm, ...]
    created_at: float
    expires_at: float | None
    reason: str
    ready: Ready
    desired: int
    programmed: int
    failing: tuple[FailingNode, ...]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    raw: Json

    def in_force(self, now: float) -> bool:
        """Return whether it should slow somebody down now, or count."""
        return self.mode is not Mode.DISABLED and not self.is_over(now)

    def is_over(self, now: float) -> bool:
        """Return whether its end has come."""
        return self.expires_at is not None and self.expires_at <= now

    def entry(self) -> PlanEntry:
        """Return the limit in the units of the plan."""
        return PlanEntry(
            limit=self.name,
            uid=self.uid,
            generation=0,
            clients=self.clients,
            excepted=self.excepted,
            ports=self.ports,
            rate_bits_per_second=self.per_node_bits_per_second,
            burst_bytes=None,
            mode=self.mode,
            sharing=self.sharing,
            priority=self.priority,
            created_at=self.created_at,
            expires_at=self.expires_at,
            node_selector=self.node_selector,
        )


def read(item: Json) -> Limit:
    """Read one object."""
    metadata, spec, status = _object(item.get("metadata")), _object(item.get("spec")), _object(item.get("status"))
    egress, nodes, effective = (
        _object(spec.get("egress")),
        _object(status.get("nodes")),
        _object(status.get("effective")),
    )
    rate = _rate(egress.get("rate"))
    created_at = ages.seconds(metadata.get("creationTimestamp")) or 0.0
    return Limit(
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        version=str(metadata.get("resourceVersion", "")),
        clients=_prefixes(spec.get("clients")),
        excepted=_prefixes(spec.get("except")),
        ports=tuple(map(_ports, _objects(egress.get("ports")))),
        rate=str(egress.get("rate", "")),
        rate_bits_per_second=rate,
        per_node_bits_per_second=_whole(effective.get("perNodeRateBitsPerSecond"), rate),
        mode=_choice(Mode, spec.get("mode"), Mode.ENFORCE),
        sharing=_choice(Sharing, egress.get("sharing"), Sharing.SHARED),
        distribution=_choice(Distribution, egress.get("distribution"), Distribution.PER_NODE),
        priority=_whole(spec.get("priority"), 0),
        node_selector=_selector(_object(spec.get("nodeSelector"))),
        created_at=created_at,
        expires_at=_end(spec, status, created_at),
        reason=str(spec.get("reason") or ""),
        ready=_ready(status, _whole(metadata.get("generation"), 0)),
        desired=_whole(nodes.get("desired"), 0),
        programmed=_whole(nodes.get("programmed"), 0),
        failing=tuple(
            FailingNode(str(each.get("name", "")), str(each.get("reason", "")), str(each.get("message", "")))
            for each in _objects(status.get("failingNodes"))
        ),
        labels={str(k): str(v) for k, v in _object(metadata.get("labels")).items()},
        annotations={str(k): str(v) for k, v in _object(metadata.get("annotations")).items()},
        raw=item,
    )


def shown(limit: Limit) -> Json:
    """Return the object as kubectl shows it: without the book that the API server keeps of who wrote which field."""
    metadata = {key: value for key, value in _object(limit.raw.get("metadata")).items() if key != "managedFields"}
    return limit.raw | {"metadata": metadata}


def read_all(items: Iterable[Json]) -> list[Limit]:
    """Read objects, in the order of their names."""
    return sorted(map(read, items), key=lambda limit: limit.name)


def show_clients(clients: Iterable[Prefix], most: int = 2) -> str:
    """Return clients for a cell of a table: the first ones, and how many more."""
    texts = [addresses.write(client) for client in clients]
    return ",".join(texts[:most]) + (f" + {len(texts) - most} more" if len(texts) > most else "")


def show_ports(ports: Iterable[PortRange]) -> str:
    """Return ports for people: `TCP 993,995 UDP 53`; `all` where there are none."""
    by_protocol: dict[str, list[str]] = {}
    for each in ports:
        numbers = str(each.first) if each.first == each.last else f"{each.first}-{each.last}"
        by_protocol.setdefault(each.protocol, []).append(numbers)
    return " ".join(f"{protocol} {','.join(numbers)}" for protocol, numbers in sorted(by_protocol.items())) or "all"


def keeper(limit: Limit) -> str:
    """Return the tool that keeps this object, and makes it again if it is gone; "" if none is known."""
    if "argocd.argoproj.io/tracking-id" in limit.annotations or "argocd.argoproj.io/instance" in limit.labels:
        return "Argo CD"
    if any(".toolkit.fluxcd.io/name" in label for label in limit.labels):
        return "Flux"
    return limit.labels.get("app.kubernetes.io/managed-by", "")  # Helm, and whatever else signs so


def _ready(status: Json, generation: int) -> Ready:
    found = next((c for c in _objects(status.get("conditions")) if c.get("type") == ConditionType.READY.value), {})
    text = Ready(
        str(found.get("status") or Status.UNKNOWN), str(found.get("reason") or ""), str(found.get("message") or "")
    )
    if found and 0 < _whole(found.get("observedGeneration"), generation) < generation:
        return Ready(Status.UNKNOWN.value, "Pending", "the operator has not looked at the last edit yet")
    return text


def _end(spec: Json, status: Json, created_at: float) -> float | None:
    written = ages.seconds(spec.get("expiresAt"))
    if written is not None:
        return written
    seconds = spec.get("ttlSeconds")
    return created_at + seconds if type(seconds) is int else ages.seconds(status.get("expiresAt"))


def _prefixes(value: object) -> tuple[Prefix, ...]:
    found: list[Prefix] = []
    for text in value if isinstance(value, list) else []:
        try:
            found.append(addresses.network(str(text)))
        except ValueError:
            continue
    return tuple(found)


def _ports(wire: Json) -> PortRange:
    first = _whole(wire.get("port"), 1)
    return PortRange(str(wire.get("protocol") or "TCP"), first, _whole(wire.get("endPort"), first))


def _selector(wire: Json) -> tuple[SelectorTerm, ...]:
    labels = (SelectorTerm(str(k), "In", (str(v),)) for k, v in sorted(_object(wire.get("matchLabels")).items()))
    expressions = (
        SelectorTerm(str(each.get("key", "")), str(each.get("operator", "")), tuple(map(str, each.get("values") or ())))
        for each in _objects(wire.get("matchExpressions"))
    )
    return (*labels, *expressions)


def _rate(text: object) -> int:
    try:
        return units.parse_rate(str(text))
    except ValueError:
        return 0


def _choice(kind: type[_Word], value: object, usual: _Word) -> _Word:
    try:
        return kind(str(value))
    except ValueError:
        return usual


def _whole(value: object, otherwise: int) -> int:
    return value if type(value) is int else otherwise


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
