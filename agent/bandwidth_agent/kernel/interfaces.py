"""What matters to us of the interfaces that are not ours: their roots, their egress hooks, their default routes.

Reads only.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Container

from bandwidth_agent.kernel import hooks, links, model, netlink, roots, tcmsg

_BUNDLES = frozenset({"bridge", "bond", "team"})  # what leaves by them leaves by one of their members
_STACKED = frozenset({"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"})  # what leaves by them leaves by their link


def observe(
    channel: netlink.Socket, present: Collection[links.Link], with_default_route: Container[int]
) -> dict[str, model.Interface]:
    """Every interface that is not an ifb of ours, by name."""
    root_of: dict[int, tcmsg.Qdisc] = {}
    hook_of: dict[int, str] = {}
    below: dict[int, set[str]] = collections.defaultdict(set)
    bundles = {link.ifindex for link in present if link.kind in _BUNDLES}
    for qdisc in tcmsg.qdiscs(channel):
        if qdisc.parent == tcmsg.ROOT:
            root_of[qdisc.ifindex] = qdisc
        elif qdisc.parent == tcmsg.CLSACT:
            hook_of[qdisc.ifindex] = qdisc.kind
        else:
            below[qdisc.ifindex].add(qdisc.kind)
    return {
        link.name: model.Interface(
            name=link.name,
            index=link.ifindex,
            mtu=link.mtu,
            up=link.up,
            default_route=link.ifindex in with_default_route,
            root=_root(link, root_of.get(link.ifindex), below[link.ifindex]),
            clsact=hook_of.get(link.ifindex) == "clsact",
            foreign_egress_filters=_foreign(channel, link.ifindex, hook_of.get(link.ifindex, "")),
            master=link.master if link.master in bundles else 0,
            lower=link.lower if link.kind in _STACKED else 0,
        )
        for link in present
        if link.shard is None
    }


def hook_kind(channel: netlink.Socket, ifindex: int) -> str:
    """The kind of the qdisc in the place of clsact: "clsact", "ingress", or "" for none."""
    for qdisc in tcmsg.qdiscs(channel):
        if qdisc.ifindex == ifindex and qdisc.parent == tcmsg.CLSACT:
            return qdisc.kind
    return ""


def _root(link: links.Link, qdisc: tcmsg.Qdisc | None, below: set[str]) -> model.RootQdisc:
    """The root of a device. The kernel shows none of a device that is down, and none of one that has none."""
    if qdisc is None:
        return model.RootQdisc(link.qdisc, 0, False)
    queues = frozenset(below if qdisc.kind == "mq" else ())
    return model.RootQdisc(qdisc.kind, qdisc.handle >> 16, roots.ours(qdisc), queues)


def _foreign(channel: netlink.Socket, ifindex: int, hook: str) -> tuple[str, ...]:
    """Other programs' egress filters. An ingress qdisc is told like one: it takes the place that clsact needs."""
    if hook == "clsact":
        return tuple(hooks.describe(item) for item in hooks.read(channel, ifindex).foreign)
    return (f"{hook} qdisc",) if hook else ()
