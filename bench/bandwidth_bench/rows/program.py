"""Time to program limits into an empty kernel, against the tools fed with the same in bulk on one HTB.

`pass` is the agent's own pass: read the kernel, resolve, decide, apply. `whole` is the program from its start to its
exit, the interpreter and the reading of the manifests included. The baseline runs three commands and reads nothing.
"""

from __future__ import annotations

import time

from bandwidth_bench import agent, limits, plain, stage
from bandwidth_bench.figures import Figure, ratios
from bandwidth_bench.kernel import has_fq_codel
from bandwidth_lab import pair

ROUNDS = {100: 9, 1_000: 5, 10_000: 3, 30_000: 1}
BASELINE_MAX = 10_000  # 30,000 classes on one HTB take the kernel two minutes
RATIO_MAX = {100: 1.2, 1_000: 1.2, 10_000: 0.4}
SECONDS_MAX = {30_000: 15.0}


def measure(extent: stage.Extent) -> list[Figure]:
    """Seconds of both, in turns, each from an empty kernel."""
    counts = [count for count in ROUNDS if count <= 1_000 or not extent.quick]
    return [figure for count in counts for figure in _count(count, extent.rounds(ROUNDS[count]))]


def _count(count: int, rounds: int) -> list[Figure]:
    wanted = limits.many(count)
    passes, wholes, baseline = [], [], []
    with pair(prefix=stage.PREFIX) as network, stage.folder() as folder:
        server = network.server.namespace
        node = agent.node(server, folder, "ifb", wanted)
        by_hand = plain.OneHtb(server, "eth0", wanted, fq_codel=has_fq_codel(server))
        for number in range(rounds):
            stage.say(f"{count} limits, round {number + 1} of {rounds}")
            start = time.monotonic()
            report = agent.once(node)
            wholes.append(time.monotonic() - start)
            passes.append(float(report["durationSeconds"]))
            agent.cleanup(node)
            if count <= BASELINE_MAX:
                baseline.append(by_hand.install())
                by_hand.remove()
    case = {"limits": f"{count:,}"}
    found = [Figure(case, "pass", tuple(passes), "s", high=SECONDS_MAX.get(count))]
    found.append(Figure(case, "whole program", tuple(wholes), "s"))
    if baseline:
        found.append(Figure(case, "tc -batch + ipset restore", tuple(baseline), "s"))
        found.append(Figure(case, "pass ÷ baseline", ratios(passes, baseline), "", high=RATIO_MAX[count]))
    return found
