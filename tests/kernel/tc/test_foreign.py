"""What is not ours is told in the facts, never taken for ours, and stays exactly as it is."""

from __future__ import annotations

import errno

import pytest

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.linux.rtnl import features, tc
from bandwidth_api.plan import Prefix
from bandwidth_lab import ebpf, namespaces, topology
from kernel.tc import shapes
from kernel.tc.node import Driver, Tools

pytestmark = pytest.mark.root

FOREIGN_FILTER = "filter add dev eth0 egress pref 49152 protocol ip u32 match ip dst 192.0.2.1/32 classid 1:1"


@pytest.mark.parametrize("kind", ["tbf rate 1gbit burst 100k limit 1m", "htb default 1", "mq", "pfifo limit 7"])
def test_an_installed_root_is_refused_and_untouched(
    kernel: tc.TrafficControl, driver: Driver, tools: Tools, node: namespaces.Namespace, kind: str
) -> None:
    """A foreign root is reported with its handle, refused by PutRoot and left alone by DeleteRoot."""
    node.tc(f"qdisc add dev eth0 root handle 77: {kind}")
    before = tools.see()
    root = kernel.surroundings().interfaces["eth0"].root
    assert (root.kind, root.handle, root.ours) == (kind.split()[0], 0x77, False)
    assert driver.refusal(objects.PutRoot("eth0", 0)).errno == errno.EEXIST
    driver.apply(objects.DeleteRoot("eth0"), objects.DeleteClasses("eth0", frozenset({1})))
    assert tools.see() == before


def test_a_foreign_clsact_with_filters_survives_us(
    kernel: tc.TrafficControl, driver: Driver, tools: Tools, node: namespaces.Namespace
) -> None:
    """On another program's clsact our filters stand behind theirs, and leaving restores it exactly."""
    node.tc("qdisc add dev eth0 clsact", FOREIGN_FILTER)
    before = tools.see()
    driver.apply(objects.PutIfb(0), objects.PutHook("eth0", shapes.hook(0), None))
    assert kernel.observe().hooks == {"eth0": shapes.hook(0)}
    interface = kernel.surroundings().interfaces["eth0"]
    assert interface.clsact
    assert set(interface.foreign_egress_filters) == {"u32 pref 49152"}
    driver.apply(objects.DeleteHook("eth0"), objects.DeleteIfb(0))
    assert tools.see() == before


def test_ebpf_programs_of_others_are_told_with_their_place(
    kernel: tc.TrafficControl, driver: Driver, node: namespaces.Namespace
) -> None:
    """XDP, TCX and filters by name, as long as they are there; bytecode of others and our own filters are none."""

    def programs() -> tuple[model.EbpfProgram, ...]:
        return node.call(kernel.surroundings).interfaces["eth0"].programs

    driver.apply(objects.PutIfb(0), objects.PutHook("eth0", shapes.hook(0), None))
    node.tc('filter add dev eth0 egress protocol all pref 10 bpf bytecode "1,6 0 0 0" flowid 1:7')
    assert programs() == ()
    passing = ebpf.verdict(ebpf.NEXT)
    with ebpf.attached(node, "eth0", "egress", passing, way="cls_bpf", name="cil_to_netdev"):
        assert programs() == (model.EbpfProgram("filter", "cil_to_netdev"),)
        with ebpf.attached(node, "eth0", "egress", passing), ebpf.xdp(node, "eth0"):
            assert programs() == (
                model.EbpfProgram("xdp"),
                model.EbpfProgram("tcx"),
                model.EbpfProgram("filter", "cil_to_netdev"),
            )
            assert node.call(kernel.surroundings).interfaces["lo"].programs == ()
    assert programs() == (model.EbpfProgram("filter", "cil_to_netdev"),)


@pytest.mark.parametrize("place", ["ingress", "egress"])
def test_our_clsact_stays_when_somebody_filters_on_it(
    driver: Driver, tools: Tools, node: namespaces.Namespace, place: str
) -> None:
    """A clsact that we made is left behind when another program has put a filter on it meanwhile."""
    driver.apply(objects.PutIfb(0), objects.PutHook("eth0", shapes.hook(0), None))
    node.tc(FOREIGN_FILTER.replace("egress", place))
    driver.apply(objects.DeleteHook("eth0"), objects.DeleteIfb(0))
    seen = tools.see()
    assert "clsact" in seen
    assert "u32" in seen
    assert "bpf" not in seen


def test_an_ingress_qdisc_is_told_as_what_keeps_us_from_the_hook(
    kernel: tc.TrafficControl, driver: Driver, tools: Tools, node: namespaces.Namespace
) -> None:
    """An ingress qdisc sits where clsact would; it is told like a foreign filter, and PutHook is refused."""
    node.tc("qdisc add dev eth0 ingress")
    before = tools.see()
    interface = kernel.surroundings().interfaces["eth0"]
    assert not interface.clsact
    assert interface.foreign_egress_filters == ("ingress qdisc",)
    driver.apply(objects.PutIfb(0))
    assert driver.refusal(objects.PutHook("eth0", shapes.hook(0), None)).errno == errno.EEXIST
    driver.apply(objects.DeleteHook("eth0"), objects.DeleteIfb(0))
    assert tools.see() == before


def test_a_device_named_like_ours_is_not_ours(
    kernel: tc.TrafficControl, driver: Driver, tools: Tools, node: namespaces.Namespace
) -> None:
    """An ifb cbl0 without our alias and group is told as taken, refused, and never deleted; cblue is nothing to us."""
    node.ip("link add cbl0 type ifb", "link set cbl0 up", "link add cblue type ifb", "link add cbl007 type ifb")
    before = tools.see()
    assert kernel.surroundings().taken_ifb_names == {"cbl0"}
    assert kernel.observe().ifbs == {}
    assert driver.refusal(objects.PutIfb(0)).errno == errno.EEXIST
    driver.apply(objects.DeleteIfb(0))
    assert tools.see() == before


def test_addresses_gateways_and_default_routes_are_told(
    kernel: tc.TrafficControl, driver: Driver, node: namespaces.Namespace, network: topology.Network
) -> None:
    """Own addresses, next hops of both families and of multipath routes, and which interfaces hold a default route."""
    node.ip(
        "link add up1 type veth peer name far1",
        "link add up2 type veth peer name far2",
        "link add quiet type veth peer name far3",
        *(f"link set {device} up" for device in ("up1", "far1", "up2", "far2", "quiet", "far3")),
        "address add 10.1.0.1/24 dev up1",
        "address add 10.2.0.1/24 dev up2",
        "route replace default nexthop via 10.1.0.254 dev up1 nexthop via 10.2.0.254 dev up2",
        "route add ::/0 via fe80::9 dev up2 metric 7",
        "route add default via 10.1.0.9 dev up1 table 77",
        "route add 10.9.0.0/16 via 10.1.0.8 dev up1",
    )
    driver.apply(objects.PutIfb(0))
    around = kernel.surroundings()
    assert {name for name, interface in around.interfaces.items() if interface.default_route} == {"up1", "up2", "eth0"}
    assert "cbl0" not in around.interfaces
    assert around.gateways == {
        Prefix(4, 0x0A0100FE, 32),
        Prefix(4, 0x0A0200FE, 32),
        Prefix(6, 0xFE80 << 112 | 9, 128),
    }
    assert {Prefix(4, 0x0A010001, 32), Prefix(4, 0x0A020001, 32)} <= around.addresses


def test_far_ends_of_tunnels_are_told(kernel: tc.TrafficControl, node: namespaces.Namespace) -> None:
    """What a VXLAN device forwards frames to, such as the other nodes of an overlay; a group of all is none of them."""
    node.ip(
        "link add flannel.1 type vxlan id 1 dstport 8472 local 10.1.0.1 dev eth0",
        "link add grouped type vxlan id 2 dstport 8473 group 239.1.1.1 dev eth0",
        "link set flannel.1 up",
        "link set grouped up",
        "route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink",
    )
    node.run(["bridge", "fdb", "add", "02:00:00:00:00:07", "dev", "flannel.1", "dst", "10.1.0.7"])
    assert kernel.peers() == {
        Prefix(4, 0x0A010007, 32): "far end of flannel.1",
        Prefix(4, 0x0AF40300, 32): "next hop of 10.244.3.0/24",
    }


def test_default_roots_have_handle_zero(kernel: tc.TrafficControl, node: namespaces.Namespace) -> None:
    """Roots that the kernel made by itself are told with handle 0, also on a device that is down."""
    node.ip("link add wide numtxqueues 4 type veth peer name far", "link set wide up", "link set far up")
    interfaces = kernel.surroundings().interfaces
    assert interfaces["eth0"].root == model.RootQdisc("noqueue", 0, ours=False)
    assert interfaces["lo"].root.handle == 0
    assert not any(interface.clsact for interface in interfaces.values())


def test_features_are_probed_without_a_trace(
    kernel: tc.TrafficControl, tools: Tools, node: namespaces.Namespace
) -> None:
    """The probes answer what the kernel has, whatever root lo has, and leave devices and qdiscs as they were."""
    before = tools.see()
    answers = kernel.features()
    assert answers["ifb"] is answers["clsact"] is features.Answer.THERE
    made = node.run(["tc", "qdisc", "add", "dev", "eth0", "root", "fq_codel"], check=False).returncode == 0
    assert answers["fq_codel"] is (features.Answer.THERE if made else features.Answer.LACKING)
    node.tc(*["qdisc del dev eth0 root"] * made)
    assert tools.see() == before


def test_probes_do_not_mind_a_root_on_loopback(tools: Tools, node: namespaces.Namespace) -> None:
    """With a root qdisc installed on lo the answers are the same, and that root stays."""
    node.tc("qdisc add dev lo root handle 5: tbf rate 1gbit burst 100k limit 1m")
    before = tools.see()
    fresh = node.call(tc.TrafficControl)
    try:
        assert {fresh.features()[name] for name in ("ifb", "clsact")} == {features.Answer.THERE}
    finally:
        fresh.close()
    assert tools.see() == before


def test_a_class_of_a_foreign_htb_is_nothing_to_us(
    kernel: tc.TrafficControl, node: namespaces.Namespace, driver: Driver
) -> None:
    """Another HTB with classes on another interface is not observed, beside ours that is."""
    node.ip("link add other type veth peer name far", "link set other up")
    node.tc("qdisc add dev other root handle 1: htb", "class add dev other parent 1: classid 1:1 htb rate 1mbit")
    driver.apply(*shapes.tree_on("eth0", {1: shapes.enforce(625_000)}))
    assert set(kernel.observe().trees) == {"eth0"}
