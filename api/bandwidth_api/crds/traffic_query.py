"""ClientTrafficQuery, the question who gets how much: what is asked, values ↔ JSON. The answer is `traffic_answer`.

Pure; needs no more than the standard library. Nothing in an object is trusted: a field of the wrong type counts as left
out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bandwidth_api import names
from bandwidth_api.crds import asked, lenient

KIND = "ClientTrafficQuery"
PLURAL = "clienttrafficqueries"
SECONDS = (5, 60)  # the least and the most, of what `spec.seconds` may be; likewise the others
INTERVAL = (2, 60)
TOP = (1, asked.TOP_MAX)
DEFAULT_SECONDS, DEFAULT_INTERVAL, DEFAULT_TOP = 60, 2, 20
NODES_MAX = 64
CLIENTS_MAX = 4
NAME_MAX = 253
AUTHOR_MAX = 256

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """What is asked."""

    seconds: int = DEFAULT_SECONDS
    interval_seconds: int = DEFAULT_INTERVAL
    top: int = DEFAULT_TOP
    group: str = asked.ADDRESS
    nodes: tuple[str, ...] = ()  # empty: all
    exact: bool = False
    renewal: int = 0
    clients: tuple[str, ...] = ()  # addresses and networks; empty: the largest


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """One question. Each change of its spec, which raises `generation`, renews it."""

    name: str
    uid: str
    generation: int
    spec: Spec
    created: str = ""  # RFC 3339, by the API server
    version: str = ""
    author: str = ""  # who says that they ask; "": nobody says so
    renewed_at: float | None = None  # seconds since the epoch, by the API server's clock; None: not known


def write_spec(spec: Spec) -> Json:
    """Return the `spec` of the object; what is at its default is left out."""
    default = Spec()
    wire: Json = {"renewal": spec.renewal}
    for key, value, usual in (
        ("seconds", spec.seconds, default.seconds),
        ("interval", spec.interval_seconds, default.interval_seconds),
        ("top", spec.top, default.top),
        ("group", spec.group, default.group),
        ("nodes", list(spec.nodes), []),
        ("exact", spec.exact, default.exact),
        ("clients", list(spec.clients), []),
    ):
        if value != usual:
            wire[key] = value
    return wire


def read(item: Mapping[str, Any]) -> Query:
    """Read a ClientTrafficQuery; a number out of its bounds is brought into them."""
    metadata, wire = lenient.mapping(item.get("metadata")), lenient.mapping(item.get("spec"))
    group = wire.get("group")
    return Query(
        name=lenient.text(metadata.get("name"), NAME_MAX),
        uid=lenient.text(metadata.get("uid"), 64),
        generation=lenient.number(metadata.get("generation"), 0, 0, lenient.NUMBER_MAX),
        created=lenient.text(metadata.get("creationTimestamp"), 64),
        version=lenient.text(metadata.get("resourceVersion"), 64),
        author=lenient.text(lenient.mapping(metadata.get("annotations")).get(names.AUTHOR), AUTHOR_MAX),
        renewed_at=_renewed_at(metadata),
        spec=Spec(
            seconds=lenient.number(wire.get("seconds"), DEFAULT_SECONDS, *SECONDS),
            interval_seconds=lenient.number(wire.get("interval"), DEFAULT_INTERVAL, *INTERVAL),
            top=lenient.number(wire.get("top"), DEFAULT_TOP, *TOP),
            group=group if isinstance(group, str) and group in asked.GROUPS else asked.ADDRESS,
            nodes=lenient.texts(wire.get("nodes"), NODES_MAX, NAME_MAX),
            exact=wire.get("exact") is True,
            clients=lenient.texts(wire.get("clients"), CLIENTS_MAX, asked.TEXT_MAX),
            renewal=lenient.number(wire.get("renewal"), 0, 0, lenient.NUMBER_MAX),
        ),
    )


def _renewed_at(metadata: Mapping[str, Any]) -> float | None:
    """Return when anything but the status was last written; the API server dates each write."""
    fields = metadata.get("managedFields")
    listed = fields if isinstance(fields, list) else []
    written = [f.get("time") for f in listed if isinstance(f, Mapping) and not f.get("subresource")]
    times = [lenient.seconds(each) for each in (*written, metadata.get("creationTimestamp"))]
    return max(times) or None
