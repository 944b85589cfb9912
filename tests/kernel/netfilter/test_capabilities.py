"""Everything of netfilter works with exactly CAP_NET_ADMIN and CAP_NET_RAW, and fails in words without them."""

from __future__ import annotations

import sys

import pytest

from kernel.netfilter.nodes import Node

pytestmark = pytest.mark.root

PROGRAM = """
import selectors, sys
from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.netfilter import ipset, iptables, mark_uses, nfevents
from bandwidth_api.plan import Prefix

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
assert {status[each].strip() for each in ("CapPrm", "CapEff", "CapBnd")} == {"0000000000003000"}, status
sets, tables = ipset.IpSets(), iptables.IpTables(sys.argv[1])
assert sets.supported() and tables.supported()
entries = {Prefix(4, 0x0A000000, 8): objects.SetEntry(0x10000, 0xFFFF0000, 0x7CB10001, "limit")}
desired = objects.IpSet(4, entries)
chain = objects.Chain((objects.Rule("cbl-v4", None, True, True),), True)
with nfevents.NetfilterEvents() as heard:
    for outcome in (
        sets.put_set(objects.PutSet("cbl-v4", desired, False)),
        sets.put_set(objects.PutSet("cbl-v4", desired, True)),
        sets.put_entries(objects.PutEntries("cbl-v4", 4, entries)),
        tables.put_chain(objects.PutChain(4, chain)),
    ):
        assert outcome.failure is None and not outcome.failed_entries, outcome
    assert sets.observe() == {"cbl-v4": desired} and sets.entry_counts() == {"cbl-v4": 1}
    assert tables.observe() == {4: chain} and tables.counters() == {4: 0} and mark_uses.MarkUses().read() == ()
    assert heard.drain() or sys.argv[1] == "legacy"
    for outcome in (
        tables.delete_chain(objects.DeleteChain(4)),
        sets.delete_entries(objects.DeleteEntries("cbl-v4", 4, frozenset(entries))),
        sets.delete_set(objects.DeleteSet("cbl-v4")),
    ):
        assert outcome.failure is None, outcome
assert sets.observe() == {} and tables.observe() == {}
"""

WITHOUT = """
import errno
from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.netfilter import ipset, iptables
from bandwidth_api.plan import Prefix
entries = {Prefix(4, number << 8, 24): objects.SetEntry(0, 0, 0, "", True) for number in range(9)}
for outcome in (
    ipset.IpSets().put_set(objects.PutSet("cbl-v4", objects.IpSet(4, entries), False)),
    ipset.IpSets().put_entries(objects.PutEntries("cbl-v4", 4, entries)),
    iptables.IpTables("nft").put_chain(objects.PutChain(4, objects.Chain((), True))),
):
    assert outcome.failure is not None and outcome.failure.errno == errno.EPERM, outcome
try:
    ipset.IpSets().observe()
except PermissionError:
    raise SystemExit(7)
"""


def as_root_with(node: Node, capabilities: str, program: str, *arguments: str) -> int:
    limited = ["setpriv", f"--bounding-set=-all{capabilities}", f"--inh-caps=-all{capabilities}"]
    done = node.namespace.run([*limited, sys.executable, "-c", program, *arguments], check=False, timeout=120)
    assert done.returncode in (0, 7), done.stderr
    return int(done.returncode)


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_two_capabilities_are_enough(node: Node, backend: str) -> None:
    """Sets, chains, reading of marks and events, from the first message to the last."""
    assert as_root_with(node, ",+net_admin,+net_raw", PROGRAM, backend) == 0


def test_without_the_capability_it_is_a_permission_error(node: Node) -> None:
    """A missing capability is told at once, and nothing hangs in wait for an answer."""
    assert as_root_with(node, "", WITHOUT) == 7
