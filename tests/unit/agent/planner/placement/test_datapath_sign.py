"""What on a node shows that packets may leave past netfilter."""

from __future__ import annotations

import pytest

from bandwidth_agent.kernel import model
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.planner.placement import datapath_sign


def device(name: str, kind: str = "") -> model.Interface:
    return fake_kernel.interface(name, kind=kind)


def uplink(*programs: tuple[str, str]) -> model.Interface:
    """An uplink with programs, each by its place and its name."""
    return fake_kernel.interface("eth0", programs=tuple(model.EbpfProgram(*program) for program in programs))


@pytest.mark.parametrize(
    ("present", "sign"),
    [
        pytest.param([uplink()], "", id="an interface without any"),
        pytest.param([device("cilium_host")], "device cilium_host", id="Cilium"),
        pytest.param([device("lxc4f0a81", "veth")], "device lxc4f0a81", id="a pod of Cilium"),
        pytest.param([device("lxcbr0", "bridge"), device("lxdbr0", "bridge")], "", id="the bridges of LXC"),
        pytest.param([device("bpfin.cali")], "device bpfin.cali", id="Calico"),
        pytest.param([device("cali12345", "veth"), device("docker0"), device("cni0")], "", id="through the stack"),
        pytest.param([device("ovs-system")], "device ovs-system", id="Open vSwitch"),
        pytest.param([device("ovn-k8s-mp0")], "device ovn-k8s-mp0", id="OVN"),
        pytest.param([uplink(("xdp", ""))], "an XDP program on eth0", id="XDP"),
        pytest.param([uplink(("tcx", ""))], "a TCX program on eth0", id="TCX"),
        pytest.param([uplink(("filter", "cil_to_netdev-eth0"))], "egress filter cil_to_netdev-eth0 on eth0", id="cil_"),
        pytest.param([uplink(("filter", "cali_to_host_ep"))], "egress filter cali_to_host_ep on eth0", id="cali_"),
        pytest.param([uplink(("filter", "meter"), ("filter", ""))], "", id="filters of others"),
    ],
)
def test_each_sign(present: list[model.Interface], sign: str) -> None:
    """By names that only such datapaths have, and by programs on the uplink."""
    assert datapath_sign.found({i.name: i for i in present}, ["eth0"]) == sign


def test_programs_elsewhere_are_none() -> None:
    """Only the interfaces on which limits are enforced matter."""
    assert datapath_sign.found({"eth0": uplink(("xdp", ""))}, ["eth1"]) == ""


def test_many_signs_are_a_few_words() -> None:
    """The first three, and how many more."""
    pods = [device(f"lxc{n}", "veth") for n in range(200)]
    present = [device("cilium_host"), device("ovs-system"), uplink(("xdp", ""), ("tcx", "")), *pods]
    found = datapath_sign.found({i.name: i for i in present}, ["eth0"])
    assert found == "device cilium_host, device ovs-system, device lxc0, 2 more"
