import pytest

from bandwidth_agent.kernel import objects
from bandwidth_api.plan import PortRange
from bandwidth_lab import bpffs
from kernel.bpf.node import Node, prefix

pytestmark = pytest.mark.root


def test_all(node: Node) -> None:
    assert node.driver.probe() == (None, node.tcx)
    t4 = objects.LookupTable(
        4, (), {prefix("203.0.113.10"): 7, prefix("198.51.100.0/24"): 9, prefix("198.51.100.1"): 0}
    )
    t6 = objects.LookupTable(6, (), {prefix("2001:db8::/32"): 7})
    p4 = objects.LookupTable(4, (PortRange("TCP", 80, 90), PortRange("UDP", 1, 65535)), {prefix("203.0.113.10"): 8})
    node.apply(objects.PutTable("cbl-v4", t4), objects.PutTable("cbl-v6", t6), objects.PutTable("cbl-v4-123", p4))
    assert node.tables == {"cbl-v4": t4, "cbl-v6": t6, "cbl-v4-123": p4}
    node.apply(objects.PutPair(0))
    print(node.namespace.run(["ip", "-d", "link"]).stdout)
    assert node.pairs == {0: objects.Pair(True)}
    node.apply(objects.PutRoot("cblv0", 0))
    program = objects.Program(0)
    node.apply(objects.PutProgram("eth0", program, None))
    assert node.programs == {"eth0": program}
    assert node.driver.before("eth0") == ()
    print(bpffs.names(node.directory))
    node.apply(objects.DeleteProgram("eth0"))
    assert node.programs == {}
    for n, t in (("cbl-v4", t4), ("cbl-v6", t6), ("cbl-v4-123", p4)):
        node.apply(objects.DeleteTable(n, t.family))
    node.apply(objects.DeletePair(0))
    assert bpffs.names(node.directory) == []
