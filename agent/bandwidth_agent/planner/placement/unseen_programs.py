"""Finds what shows that eBPF programs of ours are in the kernel which this process cannot see, and what ends that.

The permission was taken back, or the programs have their names in another directory. A pair without a program that is
seen is a sign, and names that can be seen elsewhere are a proof. Without either nothing is known: at TCX only names
tell whose a program is. Pure.
"""

from __future__ import annotations

from bandwidth_agent.kernel import model
from bandwidth_api import names

USUAL = "/sys/fs/bpf/client-bandwidth"


def left(facts: model.Facts, observed: model.State) -> str:
    """Return what may be left of programs, and what takes it away, as text; "" where nothing shows any."""
    elsewhere = " ".join(facts.features.programs_elsewhere)
    hidden = observed.pairs if facts.features.ebpf and not observed.programs else {}
    devices = [names.pair(shard) for shard in sorted(hidden)]
    if not elsewhere and not devices:
        return ""
    by_hand = "; ".join([f"rm -r {elsewhere or USUAL}", *(f"ip link delete {device}" for device in devices)])
    if elsewhere:
        return f"eBPF programs of ours have their names in {elsewhere}, which this process does not use: {by_hand}"
    return (
        f"eBPF programs of ours may still send packets to {', '.join(devices)}, and this process may neither see nor"
        f" remove them ({facts.features.ebpf}): take them away with agent.ebpf.enabled=true and agent.classifier=mark,"
        f" on one host with bandwidth-agent cleanup as root, or by hand on the node: {by_hand}"
    )
