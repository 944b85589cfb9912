"""What all living questions together ask of the nodes, as the head of the plan carries it: values ↔ JSON.

Pure. An agent that does not understand it answers nothing and goes on with the plan: what cannot be read is None.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bandwidth_api import json_values

LIFE_SECONDS = 56  # from a renewal to the end of the question: within a minute everything that it caused is gone
SECONDS_MAX = 60  # that a head may say; no node looks for longer
INTERVAL_LEAST_SECONDS = 2
INTERVAL_MAX_SECONDS = 3600
REPORTS_PER_SECOND = 50  # of all nodes together
TOP_MAX = 50
NODES_MAX = 256  # names in the head; where more are asked for, all nodes are
CANDIDATES_MAX = 100
CLIENTS_MAX = 16  # of all questions together
ADDRESS, NETWORK = "Address", "Network"  # what a row is
GROUPS = (ADDRESS, NETWORK)
TEXT_MAX = 43  # characters of an address or CIDR
NAME_MAX = 253
LISTS = ("nodes", "clients", "candidates")  # fields that are left out where they are empty
RENEWAL_MAX = 1 << 53  # every JSON reader holds it exactly


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """One stream of reports for all who ask. `seconds` is counted from when a reader first sees this `renewal`."""

    renewal: int
    seconds: int
    interval_seconds: int = INTERVAL_LEAST_SECONDS
    spread_seconds: int = 0  # over which the nodes spread their first reports
    top: int = 20
    groups: tuple[str, ...] = (ADDRESS,)
    nodes: tuple[str, ...] = ()  # empty: all
    candidates: tuple[str, ...] = ()  # whose rates are asked for, however small
    clients: tuple[str, ...] = ()  # addresses and networks that a question names, reported each by itself

    def asks(self, node: str) -> bool:
        """Return whether this node is asked."""
        return not self.nodes or node in self.nodes


def interval_seconds(nodes: int, wanted: int = INTERVAL_LEAST_SECONDS) -> int:
    """Return the seconds between two reports of one of so many nodes, at least what is wanted."""
    return min(max(INTERVAL_LEAST_SECONDS, wanted, -(-nodes // REPORTS_PER_SECOND)), INTERVAL_MAX_SECONDS)


def spread_seconds(nodes: int) -> int:
    """Return the seconds over which the first reports of so many nodes are spread."""
    return 0 if nodes <= REPORTS_PER_SECOND else min(-(-nodes // REPORTS_PER_SECOND), INTERVAL_MAX_SECONDS)


def write(asked: Asked) -> dict[str, Any]:
    """Return the JSON object."""
    wire: dict[str, Any] = {
        "renewal": asked.renewal,
        "seconds": asked.seconds,
        "interval": asked.interval_seconds,
        "spread": asked.spread_seconds,
        "top": asked.top,
        "groups": list(asked.groups),
    }
    if asked.nodes:
        wire["nodes"] = list(asked.nodes)
    if asked.clients:
        wire["clients"] = list(asked.clients)
    if asked.candidates:
        wire["candidates"] = list(asked.candidates)
    return wire


def read(wire: object) -> Asked | None:
    """Read such an object; None for nothing and for what cannot be read, since the plan must not be lost for it."""
    if not isinstance(wire, Mapping):
        return None
    try:
        groups = tuple(g for g in json_values.items(wire.get("groups") or [ADDRESS]) if g in GROUPS)
        return Asked(
            renewal=json_values.within(wire["renewal"], 0, RENEWAL_MAX),
            seconds=json_values.within(wire["seconds"], 0, SECONDS_MAX),
            interval_seconds=json_values.within(
                wire.get("interval", INTERVAL_LEAST_SECONDS), INTERVAL_LEAST_SECONDS, INTERVAL_MAX_SECONDS
            ),
            spread_seconds=json_values.within(wire.get("spread", 0), 0, INTERVAL_MAX_SECONDS),
            top=json_values.within(wire.get("top", 20), 1, TOP_MAX),
            groups=groups or (ADDRESS,),
            nodes=_texts(wire.get("nodes"), NODES_MAX, NAME_MAX),
            clients=_texts(wire.get("clients"), CLIENTS_MAX, TEXT_MAX),
            candidates=_texts(wire.get("candidates"), CANDIDATES_MAX, TEXT_MAX),
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _texts(value: object, most: int, longest: int) -> tuple[str, ...]:
    found = json_values.items(value or [])
    if len(found) > most:
        raise ValueError(f"more than {most} entries")
    return tuple(json_values.text(each, least=1, most=longest) for each in found)
