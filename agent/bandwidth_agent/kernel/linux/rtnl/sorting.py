"""Finds what a root qdisc that is not ours sorts packets by: their priority, their mark.

    eth0 ──▶ root (prio, htb, cake …) ──filters──▶ classes ──filters──▶ classes ──▶ qdiscs ──filters──▶ …

A packet that comes back from an ifb must be sorted there as it would have been without us. Owns that one question;
reads only. Of a root with very many inner classes not all filters are read: it counts as one that looks at all bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.rtnl import filter_marks, filters, tcmsg

# By skb->priority itself. Qdiscs that take it for the number of one of their classes are not meant: ours is none.
_BY_PRIORITY = frozenset({"pfifo_fast", "prio", "ets", "mqprio", "taprio", "skbprio"})
_FQ_BANDS = 16  # an attribute that fq has since it has bands (Linux 6.7)
_CAKE_MARK = 18
_PLAIN = frozenset({"noqueue", "pfifo", "bfifo", "pfifo_head_drop", "tbf", "mq", "pfifo_fast"})  # without filters
_HIERARCHIES = frozenset({"htb", "hfsc", "cbq"})  # whose classes can have classes, and then filters
_INNER_CLASSES_MAX = 64


class Seen(NamedTuple):
    sorts: str  # the kind that sorts by priority, "" without one
    filters: tuple[str, ...]
    marks: int  # bits of the mark that are looked at


def of(channel: netlink.Socket, root: tcmsg.Qdisc, below: Sequence[tcmsg.Qdisc]) -> Seen:
    """Return what a root and all qdiscs below it sort by."""
    everything = [root, *below]
    sorts = next((qdisc.kind for qdisc in everything if _by_priority(qdisc)), "")
    marks = 0
    for qdisc in everything:
        marks |= _cake_mark(qdisc)
    found = []
    inner = _inner_classes(channel, root) if any(qdisc.kind in _HIERARCHIES for qdisc in everything) else []
    if len(inner) > _INNER_CLASSES_MAX:
        marks, inner = filter_marks.ALL_BITS, []
    places = [qdisc.handle for qdisc in everything if qdisc.kind not in _PLAIN and (qdisc.handle or qdisc is root)]
    for place in (*places, *inner):
        for item in filters.dump(channel, root.ifindex, place):
            marks |= item.marks
            found.append(f"{item.kind} pref {item.pref}")
    return Seen(sorts, tuple(dict.fromkeys(found)), marks)


def _by_priority(qdisc: tcmsg.Qdisc) -> bool:
    return qdisc.kind in _BY_PRIORITY or (qdisc.kind == "fq" and _FQ_BANDS in _options(qdisc))


def _cake_mark(qdisc: tcmsg.Qdisc) -> int:
    """Return the mask by which cake takes a tin from the mark."""
    return int.from_bytes(_options(qdisc).get(_CAKE_MARK, b""), "little") if qdisc.kind == "cake" else 0


def _options(qdisc: tcmsg.Qdisc) -> dict[int, bytes]:
    return netlink.payloads(qdisc.buffer, qdisc.options, qdisc.behind)


def _inner_classes(channel: netlink.Socket, root: tcmsg.Qdisc) -> list[int]:
    """Return the classes that have child classes: only they can have filters of their own."""
    return sorted({parent for parent in _parents(channel, root) if parent & 0xFFFF})


def _parents(channel: netlink.Socket, root: tcmsg.Qdisc) -> Iterator[int]:
    for buffer, start, _ in channel.dump(tcmsg.GET_CLASS, tcmsg.header(root.ifindex, 0, 0)):
        _, _, parent, _ = tcmsg.MESSAGE.unpack_from(buffer, start + 4)
        if parent < tcmsg.CLSACT:
            yield parent
