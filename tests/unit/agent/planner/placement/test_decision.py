"""Where an interface's limits are enforced: every row of the table, and which interfaces there are to decide about."""

from __future__ import annotations

import dataclasses

import pytest

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.planner import placement
from bandwidth_agent.settings import ClassifierSetting, PlacementSetting, Settings

AUTO, IFB, INTERFACE = PlacementSetting.AUTO, PlacementSetting.IFB, PlacementSetting.INTERFACE
ALL = model.Features(ifb=True, clsact=True, ipset=True, leaf_kinds=frozenset({"fq_codel"}))
NO_IFB, NO_CLSACT, NO_SETS = ALL._replace(ifb=False), ALL._replace(clsact=False), ALL._replace(ipset=False)

DEFAULT = fake_kernel.interface(root=model.RootQdisc("mq", 0, False))
OURS = fake_kernel.interface(root=model.RootQdisc("htb", 0x7CB1, True))
FOREIGN = fake_kernel.interface(root=model.RootQdisc("htb", 1, False))
INSTALLED = fake_kernel.interface(root=model.RootQdisc("fq_codel", 0x8001, False))
CAKE_OF_THE_KERNEL = fake_kernel.interface(root=model.RootQdisc("cake", 0, False))
WITH_FILTERS = fake_kernel.interface(root=model.RootQdisc("fq_codel", 0, False, filters=("u32 pref 1",)))
INGRESS = fake_kernel.interface(foreign_egress_filters=("ingress qdisc",))
MAY_NOT_ASK = ALL._replace(ifb=False, denied=frozenset({"ifb"}))
FILTERED = fake_kernel.interface(foreign_egress_filters=("bpf pref 1",))
HOPELESS = FOREIGN._replace(foreign_egress_filters=("bpf pref 1",))
CLSACT = FOREIGN._replace(clsact=True)


@pytest.mark.parametrize(
    ("setting", "interface", "features", "bypassed", "kind", "reason"),
    [
        (AUTO, DEFAULT, ALL, False, "ifb", "Preferred"),
        (AUTO, FOREIGN, ALL, False, "ifb", "Preferred"),
        (AUTO, CLSACT, ALL, False, "ifb", "Preferred"),
        (AUTO, DEFAULT, NO_IFB, False, "interface", "MissingFeature"),
        (AUTO, INGRESS, ALL, False, "interface", "ForeignFilter"),
        (IFB, INGRESS, ALL, False, "none", "ForeignFilter"),
        (AUTO, DEFAULT, NO_CLSACT, False, "interface", "MissingFeature"),
        (AUTO, FILTERED, ALL, False, "interface", "ForeignFilter"),
        (AUTO, DEFAULT, ALL, True, "interface", "ForeignFilter"),
        (AUTO, OURS, ALL, True, "interface", "ForeignFilter"),
        (AUTO, FOREIGN, NO_IFB, False, "none", "ForeignQdisc"),
        (AUTO, INSTALLED, NO_IFB, False, "none", "ForeignQdisc"),
        (AUTO, CAKE_OF_THE_KERNEL, NO_IFB, False, "interface", "MissingFeature"),
        (INTERFACE, CAKE_OF_THE_KERNEL, ALL, False, "interface", "Configured"),
        (INTERFACE, WITH_FILTERS, ALL, False, "none", "ForeignQdisc"),
        (AUTO, DEFAULT, MAY_NOT_ASK, False, "interface", "KernelRefused"),
        (IFB, DEFAULT, MAY_NOT_ASK, False, "none", "KernelRefused"),
        (AUTO, HOPELESS, ALL, False, "none", "ForeignQdisc"),
        (AUTO, FOREIGN, ALL, True, "none", "ForeignQdisc"),
        (IFB, FOREIGN, ALL, False, "ifb", "Configured"),
        (IFB, FILTERED, ALL, False, "ifb", "Configured"),
        (IFB, FILTERED, ALL, True, "none", "ForeignFilter"),
        (IFB, DEFAULT, ALL, True, "none", "ForeignFilter"),
        (IFB, DEFAULT, NO_IFB, False, "none", "MissingFeature"),
        (IFB, DEFAULT, NO_CLSACT, False, "none", "MissingFeature"),
        (AUTO, DEFAULT, NO_SETS, False, "none", "MissingFeature"),
        (IFB, DEFAULT, NO_SETS, False, "none", "MissingFeature"),
        (INTERFACE, DEFAULT, NO_SETS, False, "none", "MissingFeature"),
        (INTERFACE, DEFAULT, NO_IFB, False, "interface", "Configured"),
        (INTERFACE, OURS, ALL, False, "interface", "Configured"),
        (INTERFACE, FOREIGN, ALL, False, "none", "ForeignQdisc"),
        (INTERFACE, INSTALLED, ALL, False, "none", "ForeignQdisc"),
    ],
)
def test_every_row_of_the_table(
    setting: PlacementSetting,
    interface: model.Interface,
    features: model.Features,
    bypassed: bool,
    kind: str,
    reason: str,
) -> None:
    """Each situation has one placement and one reason, and a message in words."""
    decided = placement.decide(setting, interface, features, bypassed)
    assert (decided.kind, decided.reason) == (kind, reason)
    assert decided.message


REWRITER = model.MarkUse(0xFFFFFFFF, "-A POSTROUTING -j MARK", 0xFFFFFFFF)
READER = model.MarkUse(0xFFFFFFFF, "-A OTHERS -m mark")


@pytest.mark.parametrize(
    ("setting", "classifier", "interface", "use", "kind", "reason"),
    [
        (AUTO, ClassifierSetting.AUTO, DEFAULT, REWRITER, "interface", "MarkConflict"),
        (AUTO, ClassifierSetting.PRIORITY, DEFAULT, REWRITER, "interface", "MarkConflict"),
        (AUTO, ClassifierSetting.AUTO, OURS, REWRITER, "interface", "MarkConflict"),
        (AUTO, ClassifierSetting.AUTO, FOREIGN, REWRITER, "ifb", "Preferred"),
        (AUTO, ClassifierSetting.AUTO, FILTERED, REWRITER, "interface", "ForeignFilter"),
        (AUTO, ClassifierSetting.MARK, DEFAULT, REWRITER, "ifb", "Preferred"),
        (IFB, ClassifierSetting.AUTO, DEFAULT, REWRITER, "ifb", "Configured"),
        (AUTO, ClassifierSetting.AUTO, DEFAULT, READER, "ifb", "Preferred"),
        (AUTO, ClassifierSetting.AUTO, DEFAULT, model.MarkUse(0xF000, "-A X", 0xF000), "ifb", "Preferred"),
        (AUTO, ClassifierSetting.AUTO, DEFAULT, model.MarkUse(0xFF0000, "-A X", 0xFF0000), "ifb", "Preferred"),
    ],
)
def test_marks_that_are_rewritten_lead_to_no_ifb(
    setting: PlacementSetting,
    classifier: ClassifierSetting,
    interface: model.Interface,
    use: model.MarkUse,
    kind: str,
    reason: str,
) -> None:
    """Where another rule writes our redirect bit after us, `auto` needs no mark, if the root may be replaced."""
    facts = dataclasses.replace(fake_kernel.facts(), interfaces={"eth0": interface}, mark_uses=(use,))
    (decided,) = placement.decide_all(Settings(placement=setting, classifier=classifier), facts).values()
    assert (decided.kind, decided.reason) == (kind, reason)
    assert ("-A POSTROUTING -j MARK" in decided.message) == (reason == "MarkConflict")


@pytest.mark.parametrize(
    ("setting", "interface", "features", "says"),
    [
        (INTERFACE, FOREIGN, ALL, "tc qdisc del dev eth0 root"),
        (INTERFACE, FOREIGN, ALL, "htb 1:"),
        (IFB, DEFAULT, NO_IFB, "module ifb"),
        (IFB, FILTERED, ALL, "bpf pref 1"),
        (IFB, DEFAULT, MAY_NOT_ASK, "CAP_NET_ADMIN"),
        (INTERFACE, WITH_FILTERS, ALL, "remove those filters"),
        (AUTO, HOPELESS, ALL, "bpf pref 1"),
        (AUTO, HOPELESS, ALL, "htb 1:"),
        (AUTO, FILTERED, ALL, "bpf pref 1"),
    ],
)
def test_the_message_names_what_is_in_the_way_and_what_to_do(
    setting: PlacementSetting, interface: model.Interface, features: model.Features, says: str
) -> None:
    """An administrator can act on the message without reading the source."""
    assert says in placement.decide(setting, interface, features).message


@pytest.mark.parametrize(
    ("kind", "queues", "fair"),
    [
        ("fq_codel", (), True),
        ("fq", (), True),
        ("cake", (), True),
        ("sfq", (), True),
        ("noqueue", (), False),
        ("pfifo_fast", (), False),
        ("mq", ("fq_codel",), True),
        ("mq", ("fq", "fq_codel"), True),
        ("mq", ("pfifo_fast",), False),
        ("mq", ("fq_codel", "pfifo_fast"), False),
        ("mq", (), False),
    ],
)
def test_what_keeps_flows_apart(kind: str, queues: tuple[str, ...], fair: bool) -> None:
    """A fair queue does, and an mq all of whose queues are fair; a root that only orders packets does not."""
    assert placement.is_fair(model.RootQdisc(kind, 0, False, frozenset(queues))) is fair


NOTHING = model.Features(ifb=False, clsact=False, ipset=False)


def test_what_stands_is_possible() -> None:
    """Each feature is had where something of ours stands that needs it, whatever its probe said."""
    leaf = objects.Leaf("tbf", 1586, 12_688, "fq_codel")
    tree = objects.Tree(0, {1: objects.HtbClass(0, 1, 1, 1, 1, 1514, leaf)}, None)
    for feature, part in {
        "ifb": {"ifbs": {0: objects.Ifb(True)}},
        "clsact": {"hooks": {"eth0": objects.Hook(1, None, frozenset({0}))}},
        "leaf_kinds": {"trees": {"cbl0": tree}},
        "ipset": {"sets": {"cbl-v4": objects.IpSet(4, {})}, "chains": {4: objects.Chain((), True)}},
    }.items():
        found = placement.proven(NOTHING, dataclasses.replace(model.EMPTY, **part))  # type: ignore[arg-type]
        had = frozenset({"fq_codel"}) if feature == "leaf_kinds" else True
        assert found == NOTHING._replace(**{feature: had})
    assert placement.proven(NOTHING, model.EMPTY) == NOTHING
    assert placement.proven(ALL, model.EMPTY) == ALL


def names_of(facts: model.Facts, *globs: str) -> list[str]:
    return [interface.name for interface in placement.egress(facts, globs)]


FACTS = fake_kernel.facts(
    fake_kernel.interface("wan1"),
    fake_kernel.interface("eth0"),
    fake_kernel.interface("eth1", default_route=False),
    fake_kernel.interface("lo", default_route=False),
    fake_kernel.interface("cbl0", default_route=True),
)


def test_interfaces_with_a_default_route_are_egress_by_themselves() -> None:
    """In the order of their names, without the others and without our own ifbs."""
    assert names_of(FACTS) == ["eth0", "wan1"]


def test_globs_replace_the_default_routes() -> None:
    """What is named is taken, whether it holds a default route or not; the loopback and our ifbs never are."""
    assert names_of(FACTS, "eth*") == ["eth0", "eth1"]
    assert names_of(FACTS, "*") == ["eth0", "eth1", "wan1"]
    assert names_of(FACTS, "lo", "cbl*", "wan1") == ["wan1"]
    assert names_of(FACTS, "ppp*") == []


def test_a_strangers_link_with_the_name_of_an_ifb_of_ours_is_a_link_like_any_other() -> None:
    """A foreign link named cbl0 can be an uplink."""
    taken = dataclasses.replace(FACTS, taken_ifb_names=frozenset({"cbl0"}))
    assert "cbl0" in names_of(taken)


def test_of_devices_on_top_of_each_other_one_is_shaped() -> None:
    """A bridge and not its port; the device below a VLAN and not the VLAN, unless that device is left to a bridge."""
    eth0 = fake_kernel.interface("eth0", index=2, master=5)
    eth1 = fake_kernel.interface("eth1", index=3)
    vlan, inner = fake_kernel.interface("eth1.7", index=4, lower=3), fake_kernel.interface("eth1.7.8", index=6, lower=4)
    bridge, beside = fake_kernel.interface("br0", index=5), fake_kernel.interface("mv0", index=7, lower=2)
    assert names_of(fake_kernel.facts(eth0, bridge)) == ["br0"]
    assert names_of(fake_kernel.facts(eth1, vlan, inner)) == ["eth1"]
    assert names_of(fake_kernel.facts(eth1, vlan, inner), "eth1", "*.8") == ["eth1"]
    assert names_of(fake_kernel.facts(eth1, vlan, inner), "*.*") == ["eth1.7"]
    assert names_of(fake_kernel.facts(eth0, bridge, beside)) == ["br0", "mv0"]
    assert names_of(fake_kernel.facts(eth0, bridge, beside), "eth0", "mv0") == ["eth0"]


def test_every_egress_interface_is_decided_for_itself() -> None:
    """Two uplinks may be shaped in two places."""
    facts = fake_kernel.facts(DEFAULT, FILTERED._replace(name="eth1"))
    decided = placement.decide_all(Settings(), facts, frozenset())
    assert {name: chosen.kind for name, chosen in decided.items()} == {"eth0": "ifb", "eth1": "interface"}
    assert placement.decide_all(Settings(), facts, frozenset({"eth0"}))["eth0"].kind == "interface"
