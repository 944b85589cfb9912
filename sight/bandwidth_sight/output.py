"""A snapshot as text, CSV or the words above a table: what `--once` prints. Pure."""

from __future__ import annotations

import csv
import io

from bandwidth_api import addresses
from bandwidth_sight import amounts, cells, columns, rows
from bandwidth_sight.rows import Hold, Snapshot

CSV_HEAD = (
    "client",
    "label",
    *(f"{what}_{window}" for window in rows.WINDOW_NAMES for what in ("bits_per_second", "error", "samples")),
    "since_bytes",
    "share",
    "ports",
    "limits",
    "nodes",
    "limit_ports",
)


def headline(snapshot: Snapshot) -> str:
    """Return in one line what was seen: `eth0: 213.5 Mbit/s to 130 clients of 1 Gbit/s; not seen 1 %, lost 0`."""
    rate = amounts.rate_in_words(snapshot.totals[rows.SHARE_WINDOW].bits_per_second)
    count = snapshot.clients
    what = ("network" if snapshot.grouped else "client") + ("" if count == 1 else "s")
    capacity = snapshot.capacity_bits_per_second
    of = f" of {amounts.rate_in_words(capacity)}" if capacity else ""
    unseen = snapshot.not_seen
    seen = "not seen ?" if unseen is None else f"not seen {unseen:.0%}".replace("%", " %")
    return f"{where(snapshot)}: {rate} to {count} {what}{of}; {seen}, lost {snapshot.lost_samples}"


def where(snapshot: Snapshot) -> str:
    """Return what was looked at: the interfaces of a host, or how many nodes."""
    if snapshot.nodes_asked or snapshot.nodes:
        answered, asked = len(snapshot.nodes), max(snapshot.nodes_asked, len(snapshot.nodes))
        nodes = "node" if asked == 1 else "nodes"
        return f"{asked} {nodes}" if answered == asked else f"{answered} of {asked} {nodes}"
    return cells.clean(", ".join(snapshot.interfaces)) or "no interface"


def more(snapshot: Snapshot) -> str:
    """Return the line for what has no row: `… 125 more, 0.1%`; "" if there is nothing."""
    everything, folded = snapshot.totals[rows.SHARE_WINDOW], snapshot.folded
    if not folded.clients and not folded.rates[-1].samples:
        return ""
    part = folded.rates[rows.SHARE_WINDOW].bits_per_second / (everything.bits_per_second or 1.0)
    return f"… {folded.clients} more, {amounts.share(part)}"


def text(snapshot: Snapshot) -> str:
    """Return a whole table for people, as wide as it needs to be."""
    totals = snapshot.totals
    lines = [columns.texts(row, totals, {}) for row in snapshot.rows]
    names = columns.head(nodes=bool(snapshot.nodes))
    fitted = columns.fit(lines, names, None, rows.WINDOW_NAMES[rows.SHARE_WINDOW])
    written = [headline(snapshot), columns.line(fitted, None), *(columns.line(fitted, each) for each in lines)]
    rest = more(snapshot) or ("" if lines else "nothing left")
    written += [rest] if rest else []
    written += [f"note: {cells.clean(note)}" for note in snapshot.notes]
    return "\n".join(written) + "\n"


def as_csv(snapshot: Snapshot) -> str:
    """Return the rows as CSV with a header (RFC 4180, but with plain line ends); rates in bit/s, errors relative."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    totals = snapshot.totals
    for row in snapshot.rows:
        rates = [
            cell
            for rate in row.rates
            for cell in (round(rate.bits_per_second), "" if rate.error is None else round(rate.error, 4), rate.samples)
        ]
        writer.writerow(
            [
                addresses.write(row.client),
                cells.clean(row.label),
                *rates,
                round(row.since_bytes),
                round(rows.share(row, totals), 4),
                " ".join(f"{port.number}/{port.protocol.lower()}" for port in row.ports),
                "?" if row.holds is None else " ".join(cells.clean(hold.limit) for hold in row.holds),
                " ".join(row.nodes),
                " ".join(_hold_ports(hold) for hold in row.holds or ()),
            ]
        )
    return made.getvalue()


def _hold_ports(hold: Hold) -> str:
    """Return the ports of a limit as one word: `all` (or every other one), `993/tcp,80-90/udp`, `?`."""
    if hold.ports is None:
        return "?"
    return ",".join(map(amounts.port_range, hold.ports)) or "all"
