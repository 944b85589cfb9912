"""The benchmarks' command line: `make bench`, or one row with `make bench ARGS='ping --quick'`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable

from bandwidth_bench import cluster, figures, machine, stage, tables
from bandwidth_bench.rows import (
    cluster_agents,
    cluster_fleet,
    cluster_idle,
    cluster_operator,
    cluster_questions,
    ebpf_packets,
    ebpf_tables,
    look,
    overlaps,
    packets,
    ping,
    ports,
    program,
    resident,
    screen,
    sight_accuracy,
    sight_cpu,
    sight_packets,
    sight_top,
    truth,
    versions,
    virtual,
    watch_packets,
    wire,
)

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
QUICK_RESULTS = HERE.parent / "build" / "bench" / "quick.json"
DOCUMENT = HERE.parent / "docs" / "benchmarks.md"

ROWS: dict[str, Callable[[stage.Extent], list[figures.Figure]]] = {
    "wire": wire.measure,
    "packets": packets.measure,
    "ports": ports.measure,
    "ping": ping.measure,
    "ping-6.1": virtual.measure,
    "program": program.measure,
    "ebpf-packets": ebpf_packets.measure,
    "ebpf-tables": ebpf_tables.measure,
    "overlaps": overlaps.measure,
    "change": resident.change_one,
    "restart": resident.restart,
    "memory": resident.memory,
    "rest": resident.rest,
    "look": look.measure,
    "truth": truth.measure,
    "truth-disturbed": truth.measure_disturbed,
    "screen": screen.measure,
    "versions": versions.measure,
    "sight-packets": sight_packets.measure,
    "watch-packets": watch_packets.measure,
    "sight-accuracy": sight_accuracy.measure,
    "sight-top": sight_top.measure,
    "sight-cpu": sight_cpu.measure,
    "cluster-operator": cluster_operator.measure,
    "cluster-agents": cluster_agents.measure,
    "cluster-fleet": cluster_fleet.measure,
    "cluster-idle": cluster_idle.measure,
    "cluster-questions": cluster_questions.measure,
}


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which to measure (default: all): {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and limits, to see that it works")
    parser.add_argument("--results", type=pathlib.Path, help="JSON file to merge the results into")
    parser.add_argument("--document", action="store_true", help="write the tables of docs/benchmarks.md and stop")
    given = parser.parse_args()
    unknown = set(given.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    return given


def _measure(row: str, quick: bool) -> figures.Result:
    start = time.monotonic()
    at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
    described = machine.describe()
    found = tuple(ROWS[row](stage.Extent(quick)))
    return figures.Result(row, found, described, at, time.monotonic() - start, quick)


def _possible() -> list[str]:
    """All rows but those for which this machine lacks something; says which and what."""
    missing = {} if virtual.available() else {"ping-6.1": f"{virtual.SCRIPT}, to boot a virtual machine with"}
    if lacking := cluster.missing():
        missing |= {row: f"a control plane: {lacking}" for row in ROWS if row.startswith("cluster-")}
    for row, what in missing.items():
        print(f"left out: {row}; it needs {what}", file=sys.stderr)
    return [row for row in ROWS if row not in missing]


def _load(path: pathlib.Path) -> dict[str, figures.Result]:
    if not path.exists():
        return {}
    return {text["row"]: figures.from_json(text) for text in json.loads(path.read_text())["rows"]}


def _save(path: pathlib.Path, results: dict[str, figures.Result]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".writing")
    beside.write_text(json.dumps({"rows": [figures.as_json(results[row]) for row in sorted(results)]}, indent=1) + "\n")
    os.replace(beside, path)


def main() -> int:
    """Measure the rows asked for, print their tables, keep the results; 1 when a figure misses its bound."""
    given = _parsed()
    path = given.results or (QUICK_RESULTS if given.quick else RESULTS)
    results = _load(path)
    if not given.document:
        for row in given.rows or _possible():
            print(f"{row} …", file=sys.stderr, flush=True)
            results[row] = _measure(row, given.quick)
            _save(path, results)
            print(f"\n## {row}\n\n{tables.table(results[row])}\n\n{tables.provenance(results[row])}", flush=True)
    if given.document or not given.quick:
        DOCUMENT.write_text(tables.rewrite(DOCUMENT.read_text(), results.values()))
    missed = [figure for row in given.rows or results for figure in results[row].missed]
    for figure in missed:
        print(f"missed: {' '.join(figure.case.values())}, {figure.metric}: {tables.cell(figure)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
