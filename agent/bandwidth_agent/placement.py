"""Which interfaces are shaped, and where: through an ifb beside the interface, or at its own root.

    interface fit for an ifb? ──yes──▶ ifb        (its root qdisc, whatever it is, stays)
      │ no: MissingFeature, ForeignFilter, MarkConflict
    root replaceable?         ──yes──▶ interface  (HTB takes the place of a default root)
      │ no: ForeignQdisc
    none: the limits of this node fail there, with a reason that says what to do

Owns the decision and its words. Never reads or writes the kernel, never decides from an interface's name alone.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Literal, NamedTuple

from bandwidth_agent.kernel import model
from bandwidth_agent.settings import ClassifierSetting, PlacementSetting, Settings
from bandwidth_api import names

# Roots that the kernel installs by itself and puts back by itself when ours is deleted.
REPLACEABLE_ROOTS = frozenset({"noqueue", "pfifo_fast", "fq_codel", "fq", "mq"})
# Queues that keep one flow from delaying another.
FAIR_QUEUES = frozenset({"fq_codel", "fq", "cake"})

_IFB_NAME = re.compile(rf"{names.IFB_PREFIX}\d+")


class Placement(NamedTuple):
    """Where the limits of one interface are enforced, and why there."""

    kind: Literal["ifb", "interface", "none"]
    reason: str  # CamelCase
    message: str  # one sentence; for "none" it says what to do


class _Obstacle(NamedTuple):
    reason: str
    what: str  # what is in the way, as a clause
    remedy: str


_NO_SETS = _Obstacle(
    "MissingFeature",
    "clients cannot be told apart: the kernel lacks ipset's hash:net with skbinfo, or iptables the SET target",
    "load the modules ip_set_hash_net and xt_set",
)


def egress(facts: model.Facts, globs: tuple[str, ...]) -> tuple[model.Interface, ...]:
    """The interfaces through which clients are answered, by name.

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
    """The devices that its packets go through after it, by index."""
    index = interface.index
    while index in lower_of:
        index = lower_of[index]
        yield index


def proven(features: model.Features, observed: model.State) -> model.Features:
    """The features, and those which what stands in the kernel could not stand without.

    A probe that says "missing" for whatever reason must not be why working limits are taken away.
    """
    leaves = (htb.leaf for tree in observed.trees.values() for htb in tree.classes.values() if htb.leaf is not None)
    return model.Features(
        ifb=features.ifb or bool(observed.ifbs),
        clsact=features.clsact or bool(observed.hooks),
        fq_codel=features.fq_codel or any(leaf.inner == "fq_codel" for leaf in leaves),
        ipset=features.ipset or bool(observed.sets and observed.chains),
    )


def decide_all(
    configured: Settings, facts: model.Facts, bypassed: frozenset[str] = frozenset()
) -> dict[str, Placement]:
    """The placement of every egress interface, by name; `bypassed` as in `decide`, by interface."""
    rewritten = _rewritten(configured, facts.mark_uses)
    return {
        interface.name: decide(configured.placement, interface, facts.features, interface.name in bypassed, rewritten)
        for interface in egress(facts, configured.interfaces)
    }


def _rewritten(configured: Settings, uses: Collection[model.MarkUse]) -> str:
    """The rule that writes, after ours, the bit by which an egress hook would find our packets; empty without one.

    With the classifier `mark` no placement would help, because then HTB needs the mark too.
    """
    match configured.classifier:
        case ClassifierSetting.MARK:
            return ""
        case ClassifierSetting.AUTO if not any(use.bits & configured.mark_mask for use in uses):
            return ""  # then `auto` takes marks
        case _:
            return next((use.where for use in uses if use.rewritten & configured.redirect_mark), "")


def decide(
    setting: PlacementSetting,
    interface: model.Interface,
    features: model.Features,
    bypassed: bool = False,
    rewritten: str = "",
) -> Placement:
    """Where this interface's limits are enforced.

    `bypassed` says that packets were seen to be marked without reaching our egress filters: somebody's program on
    the same hook, such as one at TCX, ends the walk before ours. `rewritten` names a rule after ours that writes the
    mark by which those filters would know them.

    An explicit setting is obeyed, or refused with what stands in its way. Filters of others on the egress hook make
    `auto` avoid the ifb, but do not refuse an explicit `ifb`: ours come after theirs and cut nothing off from them.
    A rule that rewrites marks does not refuse an ifb either: it may be for other packets than ours.
    """
    if not features.ipset:
        return _none(_NO_SETS)
    ifb, root = _ifb_obstacle(interface, features, bypassed), _root_obstacle(interface)
    shared = f"{_filters(interface)}; ours come after" if interface.foreign_egress_filters else ""
    match setting:
        case PlacementSetting.IFB:
            if ifb is not None and (ifb.reason != "ForeignFilter" or bypassed):
                return _none(ifb)
            return Placement("ifb", "Configured", f"configured; {shared}" if shared else "configured")
        case PlacementSetting.INTERFACE:
            return _none(root) if root is not None else Placement("interface", "Configured", "configured")
        case _:
            if ifb is None and rewritten and root is None:
                what = f"the mark that would lead there is written after ours by {rewritten}"
                return Placement("interface", "MarkConflict", f"not through an ifb: {what}")
            if ifb is None:
                return Placement("ifb", "Preferred", "the interface keeps its own root qdisc")
            if root is None:
                return Placement("interface", ifb.reason, f"not through an ifb: {ifb.what}")
            what = f"no ifb, because {ifb.what}; no HTB at the root, because {root.what}"
            return Placement("none", root.reason, f"{what}; {ifb.remedy}, or remove that qdisc")


def is_fair(root: model.RootQdisc) -> bool:
    """Whether a root keeps one flow from delaying another; where HTB replaces it, a default class gives that back.

    An mq is as fair as its queues, which the kernel makes of the host's default kind, all of them alike.
    """
    kinds = root.queues if root.kind == "mq" else {root.kind}
    return bool(kinds) and kinds <= FAIR_QUEUES


def _ifb_obstacle(interface: model.Interface, features: model.Features, bypassed: bool) -> _Obstacle | None:
    if not features.ifb:
        return _Obstacle("MissingFeature", "the kernel has no ifb devices", "load the module ifb")
    if not features.clsact:
        return _Obstacle("MissingFeature", "the kernel has no clsact qdisc", "load the module sch_ingress")
    if interface.foreign_egress_filters:
        return _Obstacle("ForeignFilter", _filters(interface), "remove those filters")
    if bypassed:
        return _Obstacle(
            "ForeignFilter",
            f"marked packets of {interface.name} do not reach our egress filters: a program on that hook ends the walk",
            "remove that program",
        )
    return None


def _root_obstacle(interface: model.Interface) -> _Obstacle | None:
    root = interface.root
    if root.ours or (root.handle == 0 and root.kind in REPLACEABLE_ROOTS):
        return None
    text = f"{root.kind} {root.handle:x}:" if root.handle else root.kind
    return _Obstacle(
        "ForeignQdisc",
        f"the root qdisc {text} of {interface.name} is not ours to replace",
        f"use placement ifb or remove it (tc qdisc del dev {interface.name} root)",
    )


def _filters(interface: model.Interface) -> str:
    return f"others filter on the egress hook of {interface.name} ({', '.join(interface.foreign_egress_filters)})"


def _none(obstacle: _Obstacle) -> Placement:
    return Placement("none", obstacle.reason, f"{obstacle.what}; {obstacle.remedy}")
