"""What all ClientBandwidthPolicies together ask of the nodes all the time, as the head of the plan carries it: ↔ JSON.

Pure. An agent that does not understand it watches nothing and goes on with the plan: what cannot be read is None.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bandwidth_api import addresses, json_values, plan
from bandwidth_api.plan import Prefix, SelectorTerm

INTERVAL_LEAST_SECONDS, INTERVAL_MAX_SECONDS = 2, 3600
SILENCE_LEAST_SECONDS, SILENCE_MAX_SECONDS = 20, 3600
WATCHES_MAX = 16  # what else there is becomes one watch of all nodes
TERMS_MAX = 32
LIMITED_MAX = 500
NETWORKS_MAX = 64
TEXT_MAX = 43  # characters of an address or CIDR
FLOOR_MAX = 10_000_000_000_000  # bit/s


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """What policies for the same nodes look for: the least that could matter to any of them.

    Either floor is None where no policy has such a threshold; a client above one of them is a candidate.
    """

    floor_bits_per_second: int | None = None
    share_percent: int | None = None  # of what the uplinks of the node can carry; nothing where that is not known
    ipv4: int = 32  # the longest groups that a policy counts, bits of an address
    ipv6: int = 64
    ports: bool = False  # amounts need the ports
    node_selector: tuple[SelectorTerm, ...] = ()  # empty: every node
    # Who is named first, where there are more than a node names.
    clients: tuple[Prefix, ...] = ()  # empty: everybody
    exempt: tuple[Prefix, ...] = ()  # but for these


@dataclasses.dataclass(frozen=True, slots=True)
class Watching:
    """What is asked. A node that no watch selects looks at nothing."""

    interval_seconds: int = INTERVAL_LEAST_SECONDS  # between two reports, while there are candidates
    silence_seconds: int = SILENCE_LEAST_SECONDS  # after which there is a report though there is nothing to say
    watches: tuple[Watch, ...] = ()
    limited: tuple[str, ...] = ()  # addresses and networks: a node that has named one goes on, with 0 bytes too


def write(watching: Watching) -> dict[str, Any]:
    """Return the JSON object: all fields, so that in a merge nothing stays of an earlier one."""
    return {
        "interval": watching.interval_seconds,
        "silence": watching.silence_seconds,
        "watches": [_write(each) for each in watching.watches],
        "limited": list(watching.limited),
    }


def _write(watch: Watch) -> dict[str, Any]:
    wire: dict[str, Any] = {"ipv4": watch.ipv4, "ipv6": watch.ipv6}
    if watch.floor_bits_per_second is not None:
        wire["floor"] = watch.floor_bits_per_second
    if watch.share_percent is not None:
        wire["share"] = watch.share_percent
    if watch.ports:
        wire["ports"] = True
    if watch.node_selector:
        wire["nodeSelector"] = plan.write_selector(watch.node_selector)
    if watch.clients:
        wire["clients"] = [addresses.write(each) for each in watch.clients]
    if watch.exempt:
        wire["exempt"] = [addresses.write(each) for each in watch.exempt]
    return wire


def read(wire: object) -> Watching | None:
    """Read such an object; None for nothing and for what cannot be read, since the plan must not be lost for it."""
    if not isinstance(wire, Mapping):
        return None
    try:
        watches = json_values.items(wire["watches"])
        limited = json_values.items(wire.get("limited") or [])
        if not 0 < len(watches) <= WATCHES_MAX or len(limited) > LIMITED_MAX:
            return None
        return Watching(
            json_values.within(wire["interval"], INTERVAL_LEAST_SECONDS, INTERVAL_MAX_SECONDS),
            json_values.within(wire["silence"], SILENCE_LEAST_SECONDS, SILENCE_MAX_SECONDS),
            tuple(_read(each) for each in watches),
            tuple(json_values.text(each, least=1, most=TEXT_MAX) for each in limited),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _read(wire: Mapping[str, Any]) -> Watch:
    terms = json_values.items(wire.get("nodeSelector") or [])
    if len(terms) > TERMS_MAX:
        raise ValueError(f"more than {TERMS_MAX} terms")
    return Watch(
        None if wire.get("floor") is None else json_values.within(wire["floor"], 0, FLOOR_MAX),
        None if wire.get("share") is None else json_values.within(wire["share"], 0, 100),
        json_values.within(wire.get("ipv4", 32), 0, 32),
        json_values.within(wire.get("ipv6", 64), 0, 128),
        wire.get("ports") is True,
        plan.read_selector(terms),
        _networks(wire.get("clients")),
        _networks(wire.get("exempt")),
    )


def _networks(wire: object) -> tuple[Prefix, ...]:
    texts = json_values.items(wire or [])
    if len(texts) > NETWORKS_MAX:
        raise ValueError(f"more than {NETWORKS_MAX} networks")
    return tuple(addresses.network(json_values.text(each, least=1, most=TEXT_MAX)) for each in texts)
