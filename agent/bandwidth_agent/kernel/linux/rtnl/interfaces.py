"""Reads the interfaces that are not ours: their root qdiscs, their egress hooks, their default routes.

Reads only.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Container

from bandwidth_agent.kernel import model, netlink
from bandwidth_agent.kernel.linux.rtnl import hooks, links, roots, sorting, tcmsg, tcx

_BUNDLES = frozenset({"bridge", "bond", "team"})  # what leaves by them leaves by one of their members
_STACKED = frozenset({"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"})  # what leaves by them leaves by their link


def observe(
    channel: netlink.Socket,
    present: Collection[links.Link],
    with_default_route: Container[int],
    own_programs: Container[int] = (),
) -> dict[str, model.Interface]:
    """Return every interface that is not ours, by name. `own_programs`: the ids of eBPF programs that are ours."""
    root_of: dict[int, tcmsg.Qdisc] = {}
    hook_of: dict[int, str] = {}
    below: dict[int, list[tcmsg.Qdisc]] = collections.defaultdict(list)
    bundles = {link.ifindex for link in present if link.kind in _BUNDLES}
    for qdisc in tcmsg.qdiscs(channel):
        if qdisc.parent == tcmsg.ROOT:
            root_of[qdisc.ifindex] = qdisc
        elif qdisc.parent == tcmsg.CLSACT:
            hook_of[qdisc.ifindex] = qdisc.kind
        else:
            below[qdisc.ifindex].append(qdisc)
    found: dict[str, model.Interface] = {}
    at_tcx = tcx.attached((link.ifindex for link in present if not link.ours), own_programs)
    for link in present:
        if link.ours:
            continue
        foreign, hook_marks, programs = _foreign(channel, link.ifindex, hook_of.get(link.ifindex, ""))
        if link.ifindex in at_tcx:
            programs = (model.EbpfProgram("tcx"), *programs)
        if link.xdp:
            programs = (model.EbpfProgram("xdp"), *programs)
        found[link.name] = model.Interface(
            name=link.name,
            index=link.ifindex,
            mtu=link.mtu,
            up=link.up,
            default_route=link.ifindex in with_default_route,
            root=_root(channel, link, root_of.get(link.ifindex), below[link.ifindex]),
            clsact=hook_of.get(link.ifindex) == "clsact",
            foreign_egress_filters=foreign,
            master=link.master if link.master in bundles else 0,
            lower=link.lower if link.kind in _STACKED else 0,
            kind=link.kind,
            hook_marks=hook_marks,
            link_header=link.link_header,
            programs=programs,
        )
    return found


def hook_kind(channel: netlink.Socket, ifindex: int) -> str:
    """Return the kind of the qdisc in the place of clsact: "clsact", "ingress", or "" for none."""
    for qdisc in tcmsg.qdiscs(channel):
        if qdisc.ifindex == ifindex and qdisc.parent == tcmsg.CLSACT:
            return qdisc.kind
    return ""


def _root(
    channel: netlink.Socket, link: links.Link, qdisc: tcmsg.Qdisc | None, below: list[tcmsg.Qdisc]
) -> model.RootQdisc:
    """Return the root qdisc of a device; the kernel lists none for a device that is down."""
    if qdisc is None:
        return model.RootQdisc(link.qdisc, 0, False)
    if roots.ours(qdisc):
        return model.RootQdisc(qdisc.kind, qdisc.handle >> 16, True)
    queues = frozenset(each.kind for each in below) if qdisc.kind == "mq" else frozenset[str]()
    seen = sorting.of(channel, qdisc, below)
    return model.RootQdisc(qdisc.kind, qdisc.handle >> 16, False, queues, seen.sorts, seen.filters, seen.marks)


def _foreign(
    channel: netlink.Socket, ifindex: int, hook: str
) -> tuple[tuple[str, ...], int, tuple[model.EbpfProgram, ...]]:
    """Return the egress filters of other programs, the bits of the mark that they read, and those that are eBPF.

    An ingress qdisc is listed like a filter, because it takes the place that clsact needs.
    """
    if hook != "clsact":
        return ((f"{hook} qdisc",) if hook else ()), 0, ()
    foreign = hooks.read(channel, ifindex).foreign
    programs = tuple(item for item in foreign if item.kind == "bpf" and not item.program)
    marks = 0
    for item in foreign:
        # What an eBPF program looks at cannot be known; were it all bits, no node with one could use marks.
        marks |= 0 if item in programs else item.marks
    return (
        tuple(hooks.describe(item) for item in foreign),
        marks,
        tuple(model.EbpfProgram("filter", item.name) for item in programs),
    )
