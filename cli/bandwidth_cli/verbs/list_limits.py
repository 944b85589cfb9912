"""`list`: the limits of the cluster as a table, or as the objects that they are."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from bandwidth_cli import cluster, outcome
from bandwidth_cli.kubectl.program import Kubectl
from bandwidth_cli.objects import limits, policies
from bandwidth_cli.objects.limits import Limit
from bandwidth_cli.text import ages, page, tables

HEADERS = ("NAME", "CLIENTS", "PORTS", "RATE", "MODE", "READY", "NODES", "EXPIRES", "AGE")
WIDE = ("STATUS", "PRIORITY", "BY", "REASON")
NAME_MAX = 60


def run(options: argparse.Namespace, kubectl: Kubectl) -> int:
    """Print the limits; return the exit code."""
    query = selecting(options.selector) if options.selector else ""
    found = cluster.all_limits(kubectl, query)
    now = time.time()
    if options.not_ready:
        found = [limit for limit in found if limit.ready.status != "True" and limit.in_force(now)]
    if options.holding is not None:
        from bandwidth_cli.objects import overlaps

        names = {limit.name for limit in overlaps.naming(found, [options.holding])}
        found = [limit for limit in found if limit.name in names]
    match options.output:
        case "name":
            page.show(f"{limits.FULL_NAME}/{limit.name}" for limit in found)
        case "json" | "yaml":
            items = [limits.shown(limit) for limit in found]
            page.show_object({"apiVersion": "v1", "kind": "List", "items": items}, options.output)
        case _ if not found:
            page.note(
                "No limits found" if not (query or options.not_ready or options.holding) else "No such limits found"
            )
        case _:
            page.show(table(found, now, wide=options.output == "wide"))
    return outcome.DONE


def selecting(selector: str) -> str:
    """Return the query for limits with these labels."""
    from urllib import parse

    return f"labelSelector={parse.quote(selector, safe='')}"


def table(found: Sequence[Limit], now: float, *, wide: bool = False) -> list[str]:
    """Return the lines of a table of limits."""
    headers = HEADERS + WIDE if wide else HEADERS
    return tables.lines(headers, [cells(limit, now, wide=wide) for limit in found])


def cells(limit: Limit, now: float, *, wide: bool = False) -> tuple[str, ...]:
    """Return the cells of one limit."""
    row = (
        limit.name if wide else tables.shortened(limit.name, NAME_MAX),
        limits.show_clients(limit.clients, 64 if wide else 2),
        limits.show_ports(limit.ports),
        limit.rate,
        limit.mode.value,
        limit.ready.status,
        f"{limit.programmed}/{limit.desired}",
        expires(limit, now),
        ages.short(now - limit.created_at) if limit.created_at else "",
    )
    if not wide:
        return row
    maker = policies.maker(limit)
    author = f"policy {maker}" if maker else limit.annotations.get(limits.AUTHOR, "") or limits.keeper(limit)
    return (*row, limit.ready.reason, str(limit.priority), author, limit.reason)


def expires(limit: Limit, now: float) -> str:
    """Return in how much time a limit ends, for a cell."""
    if limit.expires_at is None:
        return "never"
    return "over" if limit.expires_at <= now else f"in {ages.short(limit.expires_at - now)}"
