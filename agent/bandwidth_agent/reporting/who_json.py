"""What `who` prints for programs: one JSON object, as docs/reference/who.schema.json says. Pure."""

from __future__ import annotations

from bandwidth_agent.kernel.objects import root
from bandwidth_agent.planner import holders
from bandwidth_agent.policies.makers import Maker
from bandwidth_agent.reporting import who_page, wording
from bandwidth_agent.reporting.who import Answer, Row
from bandwidth_agent.sight import address_readings
from bandwidth_api import addresses, plan

_PROTOCOLS = {number: name for name, number in holders.PROTOCOLS.items()}
_PORTS_MAX = 100


def as_json(found: Answer) -> dict[str, object]:
    """Return the JSON object of `who -o json`."""
    return {
        "address": addresses.write(found.address),
        "port": None if found.port is None else _port(found.port),
        "verdict": found.verdict.value,
        "message": who_page.headline(found),
        "limits": [_row(row, found.makers.get(row.holder.label.key.limit)) for row in found.rows],
        "excepted": [
            {
                "limit": hole.label.key.limit or None,
                "entry": addresses.write(hole.prefix),
                "set": hole.set_name,
                "ports": [_port(ports) for ports in hole.ports],
            }
            for hole in found.excepted
        ],
        "peers": [{"address": addresses.write(peer), "what": what} for peer, what in found.peers.items()],
        "protected": [{"address": addresses.write(prefix), "why": why} for prefix, why in found.protected.items()],
        "refused": found.refused or None,
        "ways": None
        if found.ways is None
        else [
            {
                "addresses": addresses.write(way.part),
                "interfaces": [
                    {
                        "name": name,
                        "shaped": name in found.shaped if found.known else None,
                        "egress": name in found.egress,
                    }
                    for name in sorted(way.interfaces)
                ],
                "table": way.table or None,
                "somePackets": way.picked,
            }
            for way in found.ways
        ],
        "seen": None if found.seen is None else _seen(found.seen),
        "problems": list(found.problems),
        "missing": list(found.missing),
        "commands": [{"where": where, "command": command} for where, command in who_page.suggestions(found)],
        "intervalSeconds": round(found.seconds, 6),
    }


def _row(row: Row, maker: Maker | None) -> dict[str, object]:
    holder, passed = row.holder, row.passed
    label = holder.label
    return {
        "name": label.key.limit,
        "client": label.key.client or None,
        "whole": row.whole,
        "verdict": row.verdict.value,
        "whyNot": row.why_not or None,
        "entry": addresses.write(holder.prefix),
        "set": holder.set_name,
        "ports": [_port(ports) for ports in holder.ports],
        "mark": f"{holder.entry.mark:#x}/{holder.entry.mask:#x}" if holder.entry.mask else None,
        "priority": root.classid(holder.number) if holder.entry.priority else None,
        "class": root.classid(holder.number),
        "devices": list(row.devices),
        "mode": (plan.Mode.OBSERVE if row.observes else plan.Mode.ENFORCE).value,
        "rateBitsPerSecond": row.rate_bits_per_second,
        "classBitsPerSecond": round(row.measured_bits_per_second),
        "addressBitsPerSecond": None if row.own_bits_per_second is None else round(row.own_bits_per_second),
        "atLimit": row.at_limit,
        "drops": row.drops,
        "backlogBytes": row.backlog_bytes,
        "overLimitShare": None if row.over_share is None else round(row.over_share, 4),
        "passed": None
        if passed is None
        else {
            "packets": passed.packets,
            "leftBytes": passed.left_bytes,
            "classBytes": passed.class_bytes,
        },
        "expiresAt": None if label.expires_at is None else wording.rfc3339(label.expires_at),
        "policy": None if maker is None else maker.as_json(),
    }


def _port(ports: plan.PortRange) -> dict[str, object]:
    return {"protocol": ports.protocol, "port": ports.first, "endPort": ports.last}


def _seen(seen: address_readings.Seen) -> dict[str, object]:
    return {
        "seconds": round(seen.seconds, 6),
        "packets": seen.packets,
        "bitsPerSecond": round(seen.bits_per_second),
        "lostPackets": seen.lost,
        "ports": [
            {
                "protocol": _PROTOCOLS.get(protocol, str(protocol)),
                "port": port if port >= 0 else None,
                "bitsPerSecond": round(size * 8 / seen.seconds) if seen.seconds > 0 else 0,
            }
            for (protocol, port), size in sorted(seen.ports.items(), key=lambda each: -each[1])[:_PORTS_MAX]
        ],
    }
