"""A snapshot as JSON, as docs/reference/top.md describes it, and back. Pure.

Fields that are not known are left out or ignored, so that programs of two versions understand each other.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from bandwidth_api import addresses
from bandwidth_api.plan import PortRange
from bandwidth_sight import rows
from bandwidth_sight.rows import Folded, Hold, MadeBy, Port, Rate, Rates, Row, Snapshot

Json = dict[str, Any]
PORTS_MAX = 8  # in one row


def write(snapshot: Snapshot) -> Json:
    """Return the JSON object of a snapshot. Errors are relative, shares lie between 0 and 1."""
    totals = snapshot.totals
    return {
        "observedAt": _rfc3339(snapshot.at),
        "seconds": round(snapshot.seconds, 3),
        "interfaces": list(snapshot.interfaces),
        "nodes": list(snapshot.nodes),
        "nodesAsked": snapshot.nodes_asked,
        "grouped": snapshot.grouped,
        "capacityBitsPerSecond": snapshot.capacity_bits_per_second,
        "sentBitsPerSecond": _by_window(snapshot.sent),
        "notSeenShare": _rounded(snapshot.not_seen),
        "lostSamples": snapshot.lost_samples,
        "total": _rates(totals),
        "clients": [_row(row, totals) for row in snapshot.rows],
        "folded": {
            "clients": snapshot.folded.clients,
            "rates": _rates(snapshot.folded.rates),
            "sinceBytes": round(snapshot.folded.since_bytes),
        },
        "notes": list(snapshot.notes),
    }


def read(wire: Mapping[str, Any]) -> Snapshot:
    """Return the snapshot of such an object. Raises ValueError, TypeError or KeyError for anything else."""
    sent = wire.get("sentBitsPerSecond")
    folded = wire.get("folded") or {}
    return Snapshot(
        at=datetime.datetime.fromisoformat(wire["observedAt"]).timestamp(),
        seconds=float(wire["seconds"]),
        rows=tuple(_read_row(each) for each in wire["clients"]),
        folded=Folded(
            int(folded.get("clients", 0)), _read_rates(folded.get("rates")), float(folded.get("sinceBytes", 0.0))
        ),
        interfaces=tuple(map(str, wire.get("interfaces") or ())),
        nodes=tuple(map(str, wire.get("nodes") or ())),
        nodes_asked=int(wire.get("nodesAsked", 0)),
        sent=None if sent is None else (float(sent["2s"]), float(sent["10s"]), float(sent["60s"])),
        capacity_bits_per_second=wire.get("capacityBitsPerSecond"),
        lost_samples=int(wire.get("lostSamples", 0)),
        grouped=bool(wire.get("grouped", False)),
        notes=tuple(map(str, wire.get("notes") or ())),
    )


def _row(row: Row, totals: Rates) -> Json:
    return {
        "client": addresses.write(row.client),
        "label": row.label,
        "rates": _rates(row.rates),
        "sinceBytes": round(row.since_bytes),
        "share": _rounded(rows.share(row, totals)),
        "ports": [
            {"protocol": port.protocol, "port": port.number, "bitsPerSecond": round(port.bits_per_second)}
            for port in row.ports[:PORTS_MAX]
        ],
        "limits": None if row.holds is None else [_hold(hold) for hold in row.holds],
        "nodes": list(row.nodes),
    }


def _hold(hold: Hold) -> Json:
    return {
        "name": hold.limit,
        "rateBitsPerSecond": hold.rate_bits_per_second,
        "atLimit": hold.at_limit,
        "mode": "Observe" if hold.observes else "Enforce",
        "ports": None if hold.ports is None else [_port_range(ports) for ports in hold.ports],
        "policy": None if hold.made_by is None else _made_by(hold.made_by),
    }


def _made_by(made_by: MadeBy) -> Json:
    return {"name": made_by.policy, "step": made_by.step, "steps": made_by.steps}


def _port_range(ports: PortRange) -> Json:
    return {"protocol": ports.protocol, "port": ports.first, "endPort": ports.last}


def _rates(rates: Rates) -> Json:
    return {
        name: {"bitsPerSecond": round(rate.bits_per_second), "error": _rounded(rate.error), "samples": rate.samples}
        for name, rate in zip(rows.WINDOW_NAMES, rates, strict=True)
    }


def _by_window(sent: tuple[float, ...] | None) -> Json | None:
    return None if sent is None else {name: round(x) for name, x in zip(rows.WINDOW_NAMES, sent, strict=True)}


def _read_row(wire: Mapping[str, Any]) -> Row:
    limits = wire.get("limits")
    return Row(
        client=addresses.network(wire["client"]),
        rates=_read_rates(wire["rates"]),
        since_bytes=float(wire.get("sinceBytes", 0.0)),
        ports=tuple(
            Port(str(port["protocol"]), int(port["port"]), float(port.get("bitsPerSecond", 0.0)))
            for port in wire.get("ports") or ()
        ),
        holds=None if limits is None else tuple(map(_read_hold, limits)),
        label=str(wire.get("label", "")),
        nodes=tuple(map(str, wire.get("nodes") or ())),
    )


def _read_hold(wire: Mapping[str, Any]) -> Hold:
    rate, ports, made_by = wire.get("rateBitsPerSecond"), wire.get("ports", []), wire.get("policy")
    return Hold(
        str(wire["name"]),
        None if rate is None else int(rate),
        bool(wire.get("atLimit", False)),
        wire.get("mode") == "Observe",
        None
        if ports is None
        else tuple(PortRange(str(each["protocol"]), int(each["port"]), int(each["endPort"])) for each in ports),
        None if made_by is None else MadeBy(str(made_by["name"]), int(made_by["step"]), made_by.get("steps")),
    )


def _read_rates(wire: Mapping[str, Any] | None) -> Rates:
    if wire is None:
        return rows.NO_RATES
    first, second, third = (_read_rate(wire[name]) for name in rows.WINDOW_NAMES)
    return first, second, third


def _read_rate(wire: Mapping[str, Any]) -> Rate:
    bits_per_second, error = float(wire["bitsPerSecond"]), wire.get("error")
    return Rate(bits_per_second, int(wire["samples"]), 0.0 if error is None else (bits_per_second * float(error)) ** 2)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)


def _rfc3339(seconds: float) -> str:
    text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
