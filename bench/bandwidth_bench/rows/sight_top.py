"""Whether the largest are found: traffic of 100,000 clients, some of which get far more than others, and a scan.

The sender says what each address really got; the agent's estimates go through the tables that a screen shows.
"""

from __future__ import annotations

import array
import contextlib
import gc
import ipaddress
import pathlib
import tracemalloc
from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_api.plan import Prefix
from bandwidth_bench import looking, machine, stage
from bandwidth_bench.figures import Figure
from bandwidth_bench.rows import sight_packets
from bandwidth_lab import Network, pair

BASE = {4: "10.128.0.0", 6: "2001:db8:10::"}
ADDRESSES, BIG = 100_000, 20
PAYLOAD_BYTES = 1_400
BYTES = 1_000_000_000
PER_SECOND = 45_000  # packets: 500 Mbit/s, so that 1 GB takes 16 s
SCANNED = 150_000
SCAN_CLIENTS, SCAN_FRESH_PERCENT = 24, 75
SHARE = 0.02  # of all bytes: who has that is to be among the first ten
MIB = 2**20


class Sent(NamedTuple):
    """What a sender really sent, and who is shown for it."""

    counts: Mapping[bytes, int]  # packets by address, without those of a scan
    packets: int
    ranked: list[bytes]  # the rows of the screen's table since the beginning, largest first
    tables_mib: float


def measure(extent: stage.Extent) -> list[Figure]:
    """Of the true largest, how many are among the largest that are shown."""
    found: list[Figure] = []
    for family in (4, 6):
        stage.say(f"Zipf, IPv{family}")
        sent = _sent(family, ADDRESSES, 0, int(extent.seconds(BYTES)) // PAYLOAD_BYTES)
        case = {"traffic": f"{sent.packets * PAYLOAD_BYTES / 1e9:.2g} GB to {ADDRESSES:,} addresses, IPv{family}"}
        true = _largest(sent.counts)
        shown = sent.ranked[:BIG]
        found += [
            Figure(case, f"of the true top {BIG} shown", (len(set(true[:BIG]) & set(shown)),), "", low=18),
            Figure(case, "of the true top 10 shown", (len(set(true[:10]) & set(shown)),), "", low=10),
            Figure(case, "tables", (sent.tables_mib,), "MiB", high=8),
        ]
    stage.say("a scan")
    sent = _sent(4, SCAN_CLIENTS, SCAN_FRESH_PERCENT, round(extent.seconds(SCANNED / SCAN_FRESH_PERCENT * 100 * 2)))
    large = [client for client, count in sent.counts.items() if count >= SHARE * sent.packets]
    case = {"traffic": f"{SCAN_FRESH_PERCENT} % to {sent.packets * SCAN_FRESH_PERCENT // 100:,} fresh addresses"}
    found += [
        Figure(case, "with ≥ 2 % of the bytes", (len(large),), ""),
        Figure(case, "of these in the top 10", (len(set(large) & set(sent.ranked[:10])),), "", low=len(large)),
        Figure(case, "tables", (sent.tables_mib,), "MiB", high=8),
    ]
    return found


def _sent(family: int, addresses: int, fresh_percent: int, packets: int) -> Sent:
    """Send so many packets, a second after somebody began to look."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(stage.folder())
        network = stack.enter_context(pair(prefix=stage.PREFIX))
        sight_packets.to_all(network)
        gc.collect()
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        look = stack.enter_context(looking.Looking(network.server.namespace))
        look.until(0)
        counts = _spray(network, folder, family, addresses, fresh_percent, packets)
        look.until(1)
        last = look.history.snapshot(0.0)
        look.seconds.clear()
        gc.collect()
        tables = _held_mib()
    ranked = sorted(last.rows, key=lambda row: -row.since_bytes)
    return Sent(counts, packets, [_bytes(row.client) for row in ranked], tables)


def _bytes(client: Prefix) -> bytes:
    return client.network.to_bytes(4 if client.family == 4 else 16, "big")


def _held_mib() -> float:
    """What the modules of the tables hold now."""
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/bandwidth_sight/*")])
    return sum(trace.size for trace in snapshot.statistics("filename")) / MIB


def _spray(
    network: Network, folder: pathlib.Path, family: int, addresses: int, fresh_percent: int, packets: int
) -> dict[bytes, int]:
    """The packets that each address got."""
    file = folder / "counts"
    command = [str(machine.spray()), BASE[family], str(addresses), "1", str(PAYLOAD_BYTES), "60", str(packets)]
    network.server.namespace.run([*command, str(PER_SECOND), str(fresh_percent), str(file)], timeout=90)
    counts = array.array("I", file.read_bytes())
    base = int(ipaddress.ip_address(BASE[family]))
    size = 4 if family == 4 else 16
    return {(base + number).to_bytes(size, "big"): count for number, count in enumerate(counts) if count}


def _largest(counts: Mapping[bytes, int]) -> list[bytes]:
    return sorted(counts, key=lambda client: -counts[client])
