"""Our pairs: two veth devices, with the classes on one, and on the other a program that sends packets back.

                cblv0 (index 7cb10000)                 cblp0 (index 7cb18000)
    ──to_pair──▶  HTB, later its classes  ──the pair──▶  on arrival, filter: from_pair  ──▶ the uplink

Owns the making and removing of both devices, and the filter. Never changes a device without our name and group.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection
from typing import NamedTuple

from bandwidth_agent.kernel import netlink, objects
from bandwidth_agent.kernel.linux.rtnl import filters, links, tcmsg
from bandwidth_api import names

# The program knows this address: what the kernel or another program sends by the device itself goes no further.
_ADDRESS = bytes.fromhex("027cb1000000")
_MTU = 65535
_QUEUE_LENGTH = 1000
_FLAGS = links.UP | links.NO_ARP
_PREF, _HANDLE = 1, 1

_PEER = 1
_NUMBERS_OF_QUEUES = 31, 32  # to send, to receive
_INET6, _ADDRESS_GENERATION, _NONE = 10, 8, b"\1"


class WayBack(NamedTuple):
    """The program at the other end: its name, which says what code it has, and what loads it (a descriptor)."""

    name: str
    load: Callable[[], int]


def observe(channel: netlink.Socket, present: Collection[links.Link], way_back: str) -> dict[int, objects.Pair]:
    """Return our pairs by shard. `way_back`: the name of the program that is to be there."""
    ends, peers = _ours(present)
    return {
        shard: objects.Pair(
            healthy=_joined(shard, ends, peers)
            and _set_up(ends[shard])
            and _set_up(peers[shard])
            and _leads_back(channel, peers[shard].ifindex, way_back)
        )
        for shard in ends.keys() | peers.keys()
    }


def put(channel: netlink.Socket, shard: int, way_back: WayBack) -> None:
    """Make a pair, or set up the one that is there. Raises OSError: EEXIST for a device of another program.

    In one system call, with the program before both are up: nothing arrives where nothing waits for it.
    """
    present = links.dump(channel)
    for link in present:
        if link.name in (names.pair(shard), names.peer(shard)) and not link.ours:
            raise OSError(errno.EEXIST, f"{link.name} is a device of somebody else")
    ends, peers = _ours(present)
    steps: list[tuple[netlink.Message, tuple[int, ...]]] = []  # and what is no failure
    joined = _joined(shard, ends, peers)
    if not joined:
        steps += [(_delete(link.ifindex), (errno.ENODEV,)) for found in (ends, peers) for link in _only(found, shard)]
        steps.append((_create(shard), ()))
    index, peer = names.PAIR_INDEX + shard, names.PEER_INDEX + shard
    # Where there is no IPv6 the kernel refuses to give no address, and there is nothing to refuse.
    steps += [(_without_address(each), (errno.EAFNOSUPPORT,)) for each in (index, peer)]
    program = way_back.load()
    try:
        if not joined or not _leads_back(channel, peer, way_back.name):  # whatever else is there: the device is ours
            steps.append((tcmsg.delete_clsact(peer), (errno.ENOENT, errno.EINVAL)))
            steps.append((tcmsg.make_clsact(peer), ()))
        back = filters.put_program_message(peer, tcmsg.INGRESS_HOOK, _PREF, _HANDLE, program, way_back.name)
        steps += [(back, ()), (_set(peer), ()), (_set(index), ())]
        refusals = channel.execute([message for message, _ in steps], together=True)
    finally:
        os.close(program)
    for at, refusal in sorted(refusals.items()):
        if refusal.errno not in steps[at][1]:
            raise OSError(refusal.errno, refusal.text)


def delete(channel: netlink.Socket, shard: int) -> None:
    """Delete a pair of ours with all on it; devices of another program stay."""
    for found in _ours(links.dump(channel)):
        for link in _only(found, shard):
            refusal = channel.execute([_delete(link.ifindex)]).get(0)
            if refusal is not None and refusal.errno != errno.ENODEV:  # it goes with the other end
                raise OSError(refusal.errno, refusal.text)


def _ours(present: Collection[links.Link]) -> tuple[dict[int, links.Link], dict[int, links.Link]]:
    """Return the ends with the classes and the other ends, by shard."""
    ends = {link.pair: link for link in present if link.pair is not None}
    return ends, {link.peer: link for link in present if link.peer is not None}


def _only(found: dict[int, links.Link], shard: int) -> list[links.Link]:
    return [found[shard]] if shard in found else []


def _joined(shard: int, ends: dict[int, links.Link], peers: dict[int, links.Link]) -> bool:
    """Whether both are there, under the indexes that the programs know, and one leads to the other."""
    if shard not in ends or shard not in peers:
        return False
    indexes = ends[shard].ifindex, peers[shard].ifindex
    return indexes == (names.PAIR_INDEX + shard, names.PEER_INDEX + shard) == (peers[shard].lower, ends[shard].lower)


def _set_up(link: links.Link) -> bool:
    wanted = True, False, _MTU, _QUEUE_LENGTH, names.IFB_ALIAS
    return (link.up, link.resolves, link.mtu, link.queue_length, link.alias) == wanted


def _leads_back(channel: netlink.Socket, ifindex: int, way_back: str) -> bool:
    for first in filters.dump(channel, ifindex, tcmsg.INGRESS_HOOK):
        return first.name == way_back and first.direct_action and (first.pref, first.handle) == (_PREF, _HANDLE)
    return False


def _create(shard: int) -> netlink.Message:
    both = netlink.int_attribute(links.GROUP, names.IFB_GROUP) + b"".join(
        netlink.int_attribute(queues, 1) for queues in _NUMBERS_OF_QUEUES
    )
    peer = links.HEADER.pack(0, 0, names.PEER_INDEX + shard, 0, 0)
    peer += netlink.text_attribute(links.NAME, names.peer(shard)) + both
    info = netlink.text_attribute(links.INFO_KIND, "veth") + netlink.nest(
        links.INFO_DATA, netlink.attribute(_PEER, peer)
    )
    body = links.HEADER.pack(0, 0, names.PAIR_INDEX + shard, 0, 0)
    body += netlink.text_attribute(links.NAME, names.pair(shard)) + both + netlink.nest(links.LINK_INFO, info)
    return netlink.Message(links.NEW_LINK, netlink.CREATE | netlink.EXCLUSIVE, body)


def _without_address(index: int) -> netlink.Message:
    generation = netlink.attribute(_ADDRESS_GENERATION, _NONE)
    body = links.HEADER.pack(0, 0, index, 0, 0) + netlink.nest(links.AF_SPEC, netlink.nest(_INET6, generation))
    return netlink.Message(links.NEW_LINK, 0, body)


def _set(index: int) -> netlink.Message:
    body = links.HEADER.pack(0, 0, index, _FLAGS, _FLAGS)
    body += netlink.int_attribute(links.MTU, _MTU) + netlink.int_attribute(links.QUEUE_LENGTH, _QUEUE_LENGTH)
    body += netlink.text_attribute(links.ALIAS, names.IFB_ALIAS)
    if index < names.PEER_INDEX:
        body += netlink.attribute(links.ADDRESS, _ADDRESS)
    return netlink.Message(links.NEW_LINK, 0, body)


def _delete(index: int) -> netlink.Message:
    return netlink.Message(links.DELETE_LINK, 0, links.HEADER.pack(0, 0, index, 0, 0))
