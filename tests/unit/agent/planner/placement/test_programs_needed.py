"""When programs classify instead of rules, and where the classes are then."""

from __future__ import annotations

import dataclasses

import pytest

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.planner import placement
from bandwidth_agent.planner.placement import datapath_sign, programs_needed
from bandwidth_agent.settings import ClassifierSetting, PlacementSetting, Settings
from bandwidth_api.conditions import Reason

ETH0 = fake_kernel.interface()
CILIUM = fake_kernel.interface("cilium_host", index=7, default_route=False)
POD = fake_kernel.interface("lxc0a1b", index=8, default_route=False, kind="veth")
SWITCH = fake_kernel.interface("ovs-system", index=9, default_route=False)
AT_TCX = ETH0._replace(programs=(model.EbpfProgram("tcx"),))
WITH_XDP = ETH0._replace(programs=(model.EbpfProgram("xdp"),))
FILTERED = ETH0._replace(programs=(model.EbpfProgram("filter", "cil_to_netdev"),))
OURS = dataclasses.replace(model.EMPTY, programs={"eth0": objects.Program(0)})
DEFAULT, OWN = model.RootQdisc("fq_codel", 0, False), model.RootQdisc("htb", 1, False)


def need(
    setting: ClassifierSetting,
    *interfaces: model.Interface,
    ebpf: str = "",
    observed: model.State = model.EMPTY,
    bypassed: bool = False,
) -> str:
    """The reason; "" where rules classify."""
    facts = fake_kernel.facts(*(interfaces or (ETH0,)), ebpf=ebpf)
    found = programs_needed.need(Settings(classifier=setting), facts, ["eth0"], observed, bypassed=bypassed)
    return "" if found is None else found.reason


@pytest.mark.parametrize("setting", [ClassifierSetting.MARK, ClassifierSetting.PRIORITY])
def test_who_asks_for_rules_gets_rules(setting: ClassifierSetting) -> None:
    """Whatever shows, and whatever was there before."""
    assert need(setting, ETH0, CILIUM, observed=OURS, bypassed=True) == ""


def test_who_asks_for_programs_gets_them_or_is_told() -> None:
    """Placement says what they lack."""
    assert need(ClassifierSetting.EBPF) == need(ClassifierSetting.EBPF, ebpf="no") == "Configured"


@pytest.mark.parametrize(
    ("interfaces", "reason"),
    [
        ((ETH0,), ""),
        ((ETH0, CILIUM), "DatapathFound"),
        ((ETH0, POD), "DatapathFound"),
        ((AT_TCX,), "DatapathFound"),
        ((FILTERED,), "DatapathFound"),
        ((ETH0, SWITCH), ""),
        ((WITH_XDP,), ""),
    ],
)
def test_auto_takes_programs_for_datapaths_that_they_meet(interfaces: tuple[model.Interface, ...], reason: str) -> None:
    """Not for a switch or XDP, whose packets may pass no egress of the uplink; and never without permission."""
    assert need(ClassifierSetting.AUTO, *interfaces) == reason
    assert need(ClassifierSetting.AUTO, *interfaces, ebpf="not permitted") == ""


def test_auto_takes_programs_where_packets_were_seen_to_leave_and_keeps_them() -> None:
    """Also where the sign of it is gone."""
    assert need(ClassifierSetting.AUTO, bypassed=True) == "PacketsBypassRules"
    assert need(ClassifierSetting.AUTO, observed=OURS) == "NeededBefore"
    assert need(ClassifierSetting.AUTO, ebpf="not permitted", observed=OURS, bypassed=True) == ""


def test_signs_of_what_programs_meet_are_none_where_they_are() -> None:
    """Others stay."""
    interfaces = {each.name: each for each in (AT_TCX, CILIUM, SWITCH)}
    whole = "device cilium_host, device ovs-system, a TCX program on eth0"
    assert datapath_sign.found(interfaces, ["eth0"]) == whole
    assert datapath_sign.found(interfaces, ["eth0"], programs_first=True) == "device ovs-system"
    assert datapath_sign.of_ebpf(interfaces, ["eth0"]) == "device cilium_host, a TCX program on eth0"


@pytest.mark.parametrize(
    ("setting", "root", "header", "kind", "reason"),
    [
        (PlacementSetting.AUTO, OWN, True, "pair", Reason.PREFERRED),
        (PlacementSetting.IFB, DEFAULT, True, "pair", Reason.CONFIGURED),
        (PlacementSetting.INTERFACE, DEFAULT, True, "interface", Reason.CONFIGURED),
        (PlacementSetting.INTERFACE, OWN, True, "none", Reason.FOREIGN_QDISC),
        (PlacementSetting.AUTO, DEFAULT, False, "interface", Reason.MISSING_FEATURE),
        (PlacementSetting.AUTO, OWN, False, "none", Reason.MISSING_FEATURE),
        (PlacementSetting.IFB, DEFAULT, False, "none", Reason.MISSING_FEATURE),
    ],
)
def test_where_programs_lead(
    setting: PlacementSetting, root: model.RootQdisc, header: bool, kind: str, reason: Reason
) -> None:
    """To a pair beside any root and any filters, or to the interface's own where that is asked or nothing else goes."""
    interface = ETH0._replace(root=root, link_header=header, clsact=True, foreign_egress_filters=("bpf pref 1",))
    facts = fake_kernel.facts(interface, ebpf="")
    [place] = placement.decide_all(Settings(placement=setting), facts, frozenset({"eth0"}), programs=True).values()
    assert (place.kind, place.reason) == (kind, reason)


def test_without_tcx_a_program_needs_the_place_of_clsact() -> None:
    """Which an ingress qdisc of another program has."""
    interface = ETH0._replace(foreign_egress_filters=("ingress qdisc",))
    for tcx, kind in ((True, "pair"), (False, "none")):
        facts = fake_kernel.facts(interface, ebpf="")
        facts = dataclasses.replace(facts, features=facts.features._replace(tcx=tcx))
        [place] = placement.decide_all(Settings(), facts, programs=True).values()
        assert place.kind == kind
