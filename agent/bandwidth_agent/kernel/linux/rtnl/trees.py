"""Reads our HTB trees: root, classes, leaves and filter of every device that has one, and their counters.

Reads only. Two dumps carry nearly all of it: one of all qdiscs, one of the classes of each of our devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from bandwidth_agent.kernel import model, netlink, objects
from bandwidth_agent.kernel.linux.rtnl import classes, filters, leaves, roots, tcmsg
from bandwidth_api import names


@dataclasses.dataclass(slots=True)
class _Device:
    """One device of ours, as found in the dump of all qdiscs."""

    root: tcmsg.Qdisc
    leaves: dict[int, tcmsg.Qdisc] = dataclasses.field(default_factory=dict)  # by minor of the class
    inner: dict[int, tcmsg.Qdisc] = dataclasses.field(default_factory=dict)  # by major of the qdisc around it


def _devices(qdiscs: Sequence[tcmsg.Qdisc]) -> dict[int, _Device]:
    """Return the devices with our root, by index, with the qdiscs on them."""
    found = {qdisc.ifindex: _Device(qdisc) for qdisc in qdiscs if roots.ours(qdisc)}
    for qdisc in qdiscs:
        device = found.get(qdisc.ifindex)
        if device is None or qdisc.parent >= tcmsg.CLSACT:
            continue
        if qdisc.parent >> 16 == names.HTB_MAJOR:
            device.leaves[qdisc.parent & 0xFFFF] = qdisc
        else:
            device.inner[qdisc.parent >> 16] = qdisc
    return found


def observe(
    channel: netlink.Socket, qdiscs: Sequence[tcmsg.Qdisc], name_of: Mapping[int, str]
) -> dict[str, objects.Tree]:
    """Read every tree of ours by device name. `name_of`: interface index → name."""
    trees: dict[str, objects.Tree] = {}
    for ifindex, device in _devices(qdiscs).items():
        if ifindex not in name_of:
            continue  # made since the links were read; its LINK event leads to the next reading
        inner = device.inner
        leaf_of = {
            minor: leaves.decode(minor, leaf, inner.get(leaf.handle >> 16)) for minor, leaf in device.leaves.items()
        }
        trees[name_of[ifindex]] = objects.Tree(
            default_minor=roots.decode(device.root).default_minor,
            classes=classes.observe(channel, ifindex, leaf_of),
            filter=filters.observe_mark_filter(channel, ifindex),
        )
    return trees


def counters(
    channel: netlink.Socket, name_of: Mapping[int, str]
) -> tuple[dict[str, dict[int, model.ClassCounters]], dict[str, int]]:
    """Read the counters by device and class, and the packets that passed each device in no class."""
    by_device: dict[str, dict[int, model.ClassCounters]] = {}
    direct: dict[str, int] = {}
    for ifindex, device in _devices(tcmsg.qdiscs(channel)).items():
        name = name_of.get(ifindex)
        if name is None:
            continue
        by_device[name] = classes.counters(channel, ifindex, _drops(device))
        direct[name] = roots.decode(device.root).direct_packets
    return by_device, direct


def _drops(device: _Device) -> dict[int, int]:
    """Return the drops under each class: the larger of those of its leaf and of the queue inside the leaf.

    A packet that is dropped on enqueue is counted by the inner queue and by the leaf; one that fq_codel drops on
    dequeue only by fq_codel.
    """
    dropped: dict[int, int] = {}
    for minor, leaf in device.leaves.items():
        dropped[minor] = tcmsg.drops(leaf)
        inner = device.inner.get(leaf.handle >> 16)
        if inner is not None:
            dropped[minor] = max(dropped[minor], tcmsg.drops(inner))
    return dropped
