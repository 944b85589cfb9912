"""The ping row on a kernel that has fq_codel: Debian's 6.1 in a virtual machine, where a script that boots one is near.

    this process ── VM 6.1 'python -m bandwidth_bench.rows.virtual' ──▶ figures as one line of JSON on its console

The machine is emulated, five to ten times slower, and keeps nothing: so few flows, one at a time, and rates that it
can carry.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

from bandwidth_bench import stage
from bandwidth_bench.figures import Figure
from bandwidth_bench.rows import ping

KERNEL = "6.1"
ROOT = pathlib.Path(__file__).resolve().parents[3]
SCRIPT = pathlib.Path(os.environ.get("VM", ROOT.parent / "shared" / "testbed" / "vm"))
SCOPE = ping.Scope(rates_mbit=(1, 5, 20), placements=("ifb",), flows_at_once=1)
MARK = "figures: "
TIMEOUT_SECONDS = 600.0


def measure(extent: stage.Extent) -> list[Figure]:
    """The figures of the guest; raises where there is no script to boot it."""
    if not os.access(SCRIPT, os.X_OK):
        raise FileNotFoundError(f"no {SCRIPT}: set VM to a script that runs 'VM KERNEL COMMAND' in a virtual machine")
    python = f"PYTHONPATH=tests/lab:bench {sys.executable} -m bandwidth_bench.rows.virtual"
    command = [str(SCRIPT), KERNEL, python + (" --quick" if extent.quick else "")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        raise RuntimeError(f"the guest exited {done.returncode}\n{done.stdout}{done.stderr}")
    figures = json.loads(lines[-1].removeprefix(MARK))
    return [Figure(**{**figure, "rounds": tuple(figure["rounds"])}) for figure in figures]


def available() -> bool:
    """Whether there is a script to boot the guest."""
    return os.access(SCRIPT, os.X_OK)


def main() -> None:
    """In the guest: measure, and say it in one line."""
    extent = stage.Extent(quick="--quick" in sys.argv)
    figures = ping.measure(extent, SCOPE)
    print(MARK + json.dumps([dataclasses.asdict(figure) for figure in figures]), flush=True)


if __name__ == "__main__":
    main()
