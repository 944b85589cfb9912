"""The operator with 10,000 limits and no agent: its start, a restart, one edit, and the end of a leader."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator

from bandwidth_bench import cluster, stage
from bandwidth_bench.cluster import Cluster, Operator
from bandwidth_bench.figures import Figure

COUNT = 10_000
QUICK_COUNT = 1_000
START_ROUNDS, EDIT_ROUNDS, TAKEOVER_ROUNDS = 3, 9, 3
SLICE_SIZE = 100
SETTLE_SECONDS = 5.0
WATCH_SECONDS = 2.0
FIRST_RATE_MBIT = 6


def figure(
    what: str, rounds: tuple[float, ...], unit: str = "", *, low: float | None = None, high: float | None = None
) -> Figure:
    """One line of the tables about the cluster."""
    return Figure({"what": what}, "measured", rounds, unit, low=low, high=high)


def measure(extent: stage.Extent) -> list[Figure]:
    """All of it in one cluster, filled once."""
    count = QUICK_COUNT if extent.quick else COUNT
    with cluster.running() as of:
        stage.say(f"{count:,} limits in {of.fill(range(count)):.0f} s")
        found = _starts(of, count, extent.rounds(START_ROUNDS))
        acting = _settled(of, count)
        found += _restart(of, acting, count)
        found += _edits(of, of.operators[-1], extent.rounds(EDIT_ROUNDS))
        found += _takeovers(of, extent.rounds(TAKEOVER_ROUNDS), count)
    return found


# ── start and restart ──────────────────────────────────────────────────────────────────────────────────────────


def _starts(of: Cluster, count: int, rounds: int) -> list[Figure]:
    """From the start of the process until the head of the plan is written, with no slice there before."""
    seconds, writes, peaks = [], [], []
    for number in range(rounds):
        of.clear(cluster.SLICES)
        before = of.metrics()
        operator = of.operator(f"start-{number}")
        cluster.until(lambda: of.exists(f"{cluster.SLICES}/plan"), "the head of the plan")
        seconds.append(cluster.since(operator.started_at))
        cluster.until(lambda operator=operator: operator.get("/readyz") == "acting\n", "the operator is ready")  # type: ignore[misc]
        writes.append(cluster.writes(before, of.metrics())["bandwidthplanslices"])
        stage.pause(SETTLE_SECONDS)
        peaks.append(operator.peak_mib())
        operator.stop()
    slices = -(-count // SLICE_SIZE) + 1
    return [
        figure(f"start with {count:,} limits: until the plan is written", tuple(seconds), "s", high=15.0),
        figure("start: memory, largest", tuple(peaks), "MiB", high=250.0),
        figure("start: slices and head written", tuple(writes), high=float(slices)),
    ]


def _settled(of: Cluster, count: int) -> Operator:
    """An operator that has written all statuses."""
    operator = of.operator("settled")
    for _ in range(2):  # what it counts is a turn behind
        cluster.until(lambda: _is_settled(operator, count), "all statuses are written", pause=0.5)
        stage.pause(SETTLE_SECONDS)
    return operator


def _is_settled(operator: Operator, count: int) -> bool:
    seen = operator.metrics()
    judged = cluster.total(seen, "bandwidth_operator_limits")
    return judged == count and not cluster.total(seen, "bandwidth_operator_statuses_waiting")


def _restart(of: Cluster, acting: Operator, count: int) -> list[Figure]:
    """Nothing changed: what the next one writes, its Lease aside, and how long it takes to know that."""
    acting.stop()
    before = of.metrics()
    operator = of.operator("restarted")
    cluster.until(lambda: operator.get("/readyz") == "acting\n", "the operator is ready")
    ready = cluster.since(operator.started_at)
    cluster.until(lambda: _is_settled(operator, count), "all limits are judged")
    stage.pause(SETTLE_SECONDS)
    counted = cluster.writes(before, of.metrics())
    stage.say(f"writes after the restart: {counted}")
    written = sum(n for what, n in counted.items() if what not in ("leases", "serviceaccounts/token"))
    return [
        figure("restart, nothing changed: writes but of the Lease", (written,), high=0.0),
        figure("restart: until /readyz", (ready,), "s"),
        figure("restart: memory after it", (operator.resident_mib(),), "MiB"),
    ]


# ── one edit ───────────────────────────────────────────────────────────────────────────────────────────────────


def _edits(of: Cluster, operator: Operator, rounds: int) -> list[Figure]:
    """The rate of one limit: objects rewritten, bytes that every watching agent gets, and how soon."""
    slices, sizes, seconds = [], [], []
    for number in range(rounds):
        with _listening(of) as lines:
            before = of.metrics()
            start = cluster.now()
            of.edit(number * 7, f"{FIRST_RATE_MBIT + number}Mbit")
            cluster.until(lambda lines=lines: lines, "the slice is written", pause=0.002)  # type: ignore[misc]
            seconds.append(cluster.since(start))
            stage.pause(WATCH_SECONDS)
            slices.append(cluster.writes(before, of.metrics()).get("bandwidthplanslices", 0.0))
            sizes.append(sum(len(line) for line in lines) / 1e3)
    return [
        figure("one edit: slices rewritten", tuple(slices), high=1.0),
        figure("one edit: bytes to each agent", tuple(sizes), "kB", high=15.0),
        figure("one edit: until the slice is at the agents", tuple(seconds), "s"),
    ]


@contextlib.contextmanager
def _listening(of: Cluster) -> Iterator[list[bytes]]:
    """A watch of the slices as an agent has it; the lines that come, as they are on the wire."""
    version = of.api.request("GET", f"{cluster.SLICES}?resourceVersion=0&limit=1")["metadata"]["resourceVersion"]
    path = f"{cluster.SLICES}?watch=true&resourceVersion={version}"
    command = of.plane.kubectl_command("get", "--raw", path)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    lines: list[bytes] = []

    def read() -> None:
        assert process.stdout is not None
        lines.extend(iter(process.stdout.readline, b""))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    stage.pause(1.0)  # until it is there
    try:
        yield lines
    finally:
        process.kill()
        process.wait(10)
        thread.join(10)
        if process.stdout is not None:
            process.stdout.close()


# ── the end of a leader ────────────────────────────────────────────────────────────────────────────────────────


def _takeovers(of: Cluster, rounds: int, count: int) -> list[Figure]:
    """kill -9 of the leader and an edit at once: until another one leads, and until it has published the edit."""
    leads, published = [], []
    for number in range(rounds):
        leader = of.operators[-1]
        follower = of.operator(f"follower-{number}")
        cluster.until(lambda f=follower: "standing by" in f.log, "the other stands by")  # type: ignore[misc]
        stage.pause(SETTLE_SECONDS)
        leader.kill()
        start = cluster.now()
        rate = 20 + number
        of.edit(count - 1, f"{rate}Mbit")
        cluster.until(lambda f=follower: '"leading"' in f.log, "the other leads")  # type: ignore[misc]
        leads.append(cluster.since(start))
        cluster.until(lambda r=rate: _rate(of, count - 1) == r * 1_000_000, "the edit is published", pause=0.05)  # type: ignore[misc]
        published.append(cluster.since(start))
    return [
        figure("kill −9 of the leader: until another leads", tuple(leads), "s"),
        figure("kill −9: until an edit made meanwhile is published", tuple(published), "s", high=20.0),
    ]


def _rate(of: Cluster, number: int) -> int:
    name = cluster.limit_name(number)
    entries = (e for item in of.items(cluster.SLICES) for e in item["spec"].get("entries", ()) if e["name"] == name)
    return int(next(entries)["rate"])
