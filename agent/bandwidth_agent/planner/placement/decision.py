"""Decides which interfaces are shaped, and where: through a device beside the interface, or at its own root.

    interface fit for an ifb? ──yes──▶ ifb        (its root qdisc, whatever it is, stays)
      │ no: MissingFeature, ForeignFilter, MarkConflict
    root replaceable?         ──yes──▶ interface  (HTB takes the place of a default root)
      │ no: ForeignQdisc
    none: the limits of this node fail there, with a reason, and a message with what to do

Where programs classify, a pair of veth devices takes the place of the ifb, and nothing speaks against it but that
programs cannot be loaded.

Owns the decision and its messages. Never reads or writes the kernel, never decides by an interface's name alone.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.planner.placement import mark_safety
from bandwidth_agent.settings import PlacementSetting, Settings
from bandwidth_api import names
from bandwidth_api.conditions import Reason

# Queues that keep one flow from delaying another.
FAIR_QUEUES = frozenset({"fq_codel", "fq", "fq_pie", "sfq", "cake"})

_IFB_NAME = re.compile(rf"{names.IFB_PREFIX}\d+")


class Placement(NamedTuple):
    """Where the limits of one interface are enforced, and why there."""

    kind: Literal["ifb", "pair", "interface", "none"]
    reason: Reason
    message: str  # one sentence; for "none" with what to do


class _Obstacle(NamedTuple):
    reason: Reason
    what: str  # what is in the way, as a clause
    remedy: str


_ALLOW = (
    "give it CAP_NET_ADMIN in the user namespace that owns this network namespace,"
    " or allow it in the security module (in a cluster: agent.privileged)"
)
_NO_SETS = _Obstacle(
    Reason.MISSING_FEATURE,
    "clients cannot be told apart: the kernel lacks ipset's hash:net with skbinfo, or iptables the SET target",
    "load the modules ip_set_hash_net and xt_set",
)


def egress(facts: model.Facts, globs: tuple[str, ...]) -> tuple[model.Interface, ...]:
    """Return the interfaces to shape, in the order of their names.

    Those that hold a default route of either family, or those whose name matches one of the globs; never the
    loopback and never an ifb of ours, whatever the globs say. Of devices that hand packets to each other only one: a
    packet keeps its mark on its way down, and two hooks would take it through its class twice, at half the rate.
    """

    def chosen(interface: model.Interface) -> bool:
        name = interface.name
        if name == "lo" or (_IFB_NAME.fullmatch(name) and name not in facts.taken_ifb_names):
            return False
        if globs:
            return any(fnmatch.fnmatchcase(name, glob) for glob in globs)
        return interface.default_route

    found = [*filter(chosen, facts.interfaces.values())]
    indexes = {interface.index for interface in found}
    whole = [interface for interface in found if interface.master not in indexes]
    indexes = {interface.index for interface in whole}
    lower_of = {interface.index: interface.lower for interface in facts.interfaces.values() if interface.lower}
    once = [interface for interface in whole if indexes.isdisjoint(_below(interface, lower_of))]
    return tuple(sorted(once, key=lambda interface: interface.name))


def _below(interface: model.Interface, lower_of: Mapping[int, int]) -> Iterator[int]:
    """Yield the devices that an interface's packets pass after it, by index."""
    index = interface.index
    while index in lower_of:
        index = lower_of[index]
        yield index


def proven(features: model.Features, observed: model.State) -> model.Features:
    """Return the features, plus those that the observed objects prove, because these could not exist without them.

    A probe that wrongly reports "missing" must not cause working limits to be removed.
    """
    leaves = [htb.leaf for tree in observed.trees.values() for htb in tree.classes.values() if htb.leaf is not None]
    missing = objects.LEAF_KINDS - features.leaf_kinds
    cleared = any(tree.filter is not None and tree.filter.clears for tree in observed.trees.values())
    return features._replace(
        ifb=features.ifb or bool(observed.ifbs),
        clsact=features.clsact or bool(observed.hooks),
        ipset=features.ipset or bool(observed.sets and observed.chains),
        skbedit=features.skbedit or cleared or any(hook.clears for hook in observed.hooks.values()),
        leaf_kinds=features.leaf_kinds
        | {kind for kind in missing if any(kind in (leaf.kind, leaf.inner) for leaf in leaves)},
        ebpf="" if any(program.sound for program in observed.programs.values()) else features.ebpf,
    )


def decide_all(
    configured: Settings, facts: model.Facts, bypassed: frozenset[str] = frozenset(), *, programs: bool = False
) -> dict[str, Placement]:
    """Return the placement of every egress interface, by name; `bypassed` as in `decide`, by interface.

    `programs`: programs classify, not rules.
    """
    shaped = egress(facts, configured.interfaces)
    if programs:
        return {each.name: _for_program(configured.placement, each, facts.features) for each in shaped}
    others = mark_safety.uses(facts, shaped)
    return {
        interface.name: decide(
            configured.placement,
            interface,
            facts.features,
            interface.name in bypassed,
            mark_safety.conflict(configured, facts, others, interface),
        )
        for interface in shaped
    }


def decide(
    setting: PlacementSetting,
    interface: model.Interface,
    features: model.Features,
    bypassed: bool = False,
    conflict: mark_safety.Conflict | None = None,
) -> Placement:
    """Decide where this interface's limits are enforced.

    `bypassed`: marked packets did not reach our egress filters, because another program on the same hook, such as one
    at TCX, accepts them before. `conflict`: what the way through an ifb would do to other programs' marks, or their
    rules to ours.

    An explicit setting is obeyed, or refused with what stands in its way. Filters of others on the egress hook make
    `auto` avoid the ifb, but do not refuse an explicit `ifb`: ours come after theirs and cut nothing off from them.
    A conflict does not refuse an explicit ifb either: the rule may be for other packets than ours, and the
    classifier warns of it.
    """
    if not features.ipset:
        return _none(_NO_SETS)
    ifb, root = _ifb_obstacle(interface, features, bypassed), _root_obstacle(interface)
    shared = f"{_filters(interface)}; ours come after" if interface.foreign_egress_filters else ""
    match setting:
        case PlacementSetting.IFB:
            if ifb is not None and (ifb.reason is not Reason.FOREIGN_FILTER or bypassed or _occupied(interface)):
                return _none(ifb)
            return Placement("ifb", Reason.CONFIGURED, f"configured; {shared}" if shared else "configured")
        case PlacementSetting.INTERFACE:
            return _none(root) if root is not None else Placement("interface", Reason.CONFIGURED, "configured")
        case _:
            if ifb is None and conflict is not None and (conflict.harmful or root is None):
                ifb = _Obstacle(Reason.MARK_CONFLICT, conflict.what, conflict.remedy)
            if ifb is None:
                return Placement("ifb", Reason.PREFERRED, "the interface keeps its own root qdisc")
            if root is None:
                return Placement("interface", ifb.reason, f"not through an ifb: {ifb.what}")
            what = f"no ifb, because {ifb.what}; no HTB at the root, because {root.what}"
            return Placement("none", root.reason, f"{what}; {ifb.remedy}, or remove that qdisc")


def _for_program(setting: PlacementSetting, interface: model.Interface, features: model.Features) -> Placement:
    """Decide where the limits of an interface are enforced of which a program classifies the packets."""
    if not features.ipset:
        return _none(_NO_SETS)
    obstacle = _program_obstacle(interface, features)
    if obstacle is not None:
        return _none(obstacle)
    root, pair = _root_obstacle(interface), _pair_obstacle(interface)
    if setting is PlacementSetting.INTERFACE:
        return _none(root) if root is not None else Placement("interface", Reason.CONFIGURED, "configured")
    if pair is None:
        if setting is PlacementSetting.IFB:
            return Placement("pair", Reason.CONFIGURED, "configured; where programs classify, a veth pair is the ifb")
        return Placement("pair", Reason.PREFERRED, "the interface keeps its own root qdisc")
    if setting is PlacementSetting.AUTO and root is None:
        return Placement("interface", pair.reason, f"not through a pair: {pair.what}")
    return _none(pair)


def _pair_obstacle(interface: model.Interface) -> _Obstacle | None:
    if interface.link_header:
        return None
    what = f"packets of {interface.name} have no link header, which a pair of veth devices needs"
    return _Obstacle(Reason.MISSING_FEATURE, what, "use placement interface")


def _program_obstacle(interface: model.Interface, features: model.Features) -> _Obstacle | None:
    if features.ebpf:
        return _Obstacle(
            Reason.KERNEL_REFUSED if "ebpf" in features.denied else Reason.MISSING_FEATURE,
            f"classifier ebpf: {features.ebpf}",
            "or take another classifier",
        )
    return _clsact_obstacle(interface, features) if not features.tcx else None


def is_fair(root: model.RootQdisc) -> bool:
    """Return whether a root qdisc isolates flows; where HTB replaces it, a default class does so instead.

    An mq is as fair as its queues, which the kernel makes of the host's default kind, all of them alike.
    """
    kinds = root.queues if root.kind == "mq" else {root.kind}
    return bool(kinds) and kinds <= FAIR_QUEUES


def _ifb_obstacle(interface: model.Interface, features: model.Features, bypassed: bool) -> _Obstacle | None:
    missing = _missing("ifb", "ifb devices", "ifb", features) or _clsact_obstacle(interface, features)
    if missing is not None:
        return missing
    if interface.foreign_egress_filters:
        return _Obstacle(Reason.FOREIGN_FILTER, _filters(interface), "remove those filters")
    if bypassed:
        return _Obstacle(
            Reason.FOREIGN_FILTER,
            f"marked packets of {interface.name} do not reach our egress filters: a program on that hook ends the walk",
            "remove that program",
        )
    return None


def _clsact_obstacle(interface: model.Interface, features: model.Features) -> _Obstacle | None:
    missing = _missing("clsact", "clsact qdisc", "sch_ingress", features)
    if missing is None and _occupied(interface):
        what = f"{interface.name} has an ingress qdisc of another program, in the one place where clsact could be"
        return _Obstacle(Reason.FOREIGN_FILTER, what, "let that program make a clsact qdisc, which has both hooks")
    return missing


def _missing(name: str, what: str, module: str, features: model.Features) -> _Obstacle | None:
    if getattr(features, name):
        return None
    if name in features.denied:
        return _Obstacle(Reason.KERNEL_REFUSED, f"this process is not allowed to ask the kernel for its {what}", _ALLOW)
    return _Obstacle(Reason.MISSING_FEATURE, f"the kernel has no {what}", f"load the module {module}")


def _occupied(interface: model.Interface) -> bool:
    return not interface.clsact and "ingress qdisc" in interface.foreign_egress_filters


def _root_obstacle(interface: model.Interface) -> _Obstacle | None:
    """Return why our HTB cannot replace the root; None if it can.

    A root with handle 0 is the kernel's own, whatever its kind: the kernel restores it when ours is deleted, but not
    the filters that another program put into it.
    """
    root = interface.root
    if root.ours or (root.handle == 0 and not root.filters):
        return None
    text = f"{root.kind} {root.handle:x}:" if root.handle else f"{root.kind} with filters ({', '.join(root.filters)})"
    return _Obstacle(
        Reason.FOREIGN_QDISC,
        f"the root qdisc {text} of {interface.name} is not ours to replace",
        f"use placement ifb or remove it (tc qdisc del dev {interface.name} root)"
        if root.handle
        else "use placement ifb or remove those filters",
    )


def _filters(interface: model.Interface) -> str:
    return f"others filter on the egress hook of {interface.name} ({', '.join(interface.foreign_egress_filters)})"


def _none(obstacle: _Obstacle) -> Placement:
    return Placement("none", obstacle.reason, f"{obstacle.what}; {obstacle.remedy}")
