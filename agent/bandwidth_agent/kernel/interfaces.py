"""What matters to us of the interfaces that are not ours: their roots, their egress hooks, their default routes.

Reads only.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from bandwidth_agent.kernel import hooks, links, model, netlink, roots, tcmsg


def observe(
    channel: netlink.Socket, present: Iterable[links.Link], with_default_route: Container[int]
) -> dict[str, model.Interface]:
    """Every interface that is not an ifb of ours, by name."""
    root_of: dict[int, model.RootQdisc] = {}
    hook_of: dict[int, str] = {}
    for qdisc in tcmsg.qdiscs(channel):
        if qdisc.parent == tcmsg.ROOT:
            root_of[qdisc.ifindex] = model.RootQdisc(qdisc.kind, qdisc.handle >> 16, roots.ours(qdisc))
        elif qdisc.parent == tcmsg.CLSACT:
            hook_of[qdisc.ifindex] = qdisc.kind
    return {
        link.name: model.Interface(
            name=link.name,
            index=link.ifindex,
            mtu=link.mtu,
            up=link.up,
            default_route=link.ifindex in with_default_route,
            # The kernel shows no root of a device that is down, and none of one that has none.
            root=root_of.get(link.ifindex, model.RootQdisc(link.qdisc, 0, False)),
            clsact=hook_of.get(link.ifindex) == "clsact",
            foreign_egress_filters=_foreign(channel, link.ifindex, hook_of.get(link.ifindex, "")),
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


def _foreign(channel: netlink.Socket, ifindex: int, hook: str) -> tuple[str, ...]:
    """Other programs' egress filters. An ingress qdisc is told like one: it takes the place that clsact needs."""
    if hook == "clsact":
        return tuple(hooks.describe(item) for item in hooks.read(channel, ifindex).foreign)
    return (f"{hook} qdisc",) if hook else ()
