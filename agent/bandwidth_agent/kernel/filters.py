"""Filters of traffic control: their messages, a dump as records, and the mark → class filter of a tree.

Owns the encoding of bpf filters and of the one action that we use. What the filters of the egress hook mean
together is `hooks`'.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel import bytecode, model, netlink, tcmsg
from bandwidth_api import names

_CHAIN = 11
_ACTIONS, _OPS_LENGTH, _OPS, _FLAGS = 1, 4, 5, 8
_DIRECT_ACTION = 1
_ACTION_KIND, _ACTION_OPTIONS, _ACTION_STATS = 1, 2, 4
_BASIC = struct.Struct("=QI")  # bytes, packets
_MIRRED_PARAMETERS = 2
_MIRRED = struct.Struct("=IIiiiiI")  # ifindex, capabilities, action, references, bindings, direction, target
_STOLEN = 4
_EGRESS_REDIRECT = 1

_EVERY_PROTOCOL = 0x0300  # ETH_P_ALL in network byte order
_TREE = names.HTB_MAJOR << 16
_CLASSIFY_HANDLE = 1


class Filter(NamedTuple):
    """One filter of a dump. `target`: interface index of its only action, a mirred redirect; None: other actions.

    `acted_*`: what went through its actions.
    """

    chain: int
    pref: int
    handle: int
    kind: str
    program: bytes
    direct_action: bool
    target: int | None
    actions: bool
    acted_bytes: int
    acted_packets: int


def dump(channel: netlink.Socket, ifindex: int, parent: int) -> Iterator[Filter]:
    """The filters at one place of one device; none where the place is not."""
    try:
        parts = channel.dump(tcmsg.GET_FILTER, tcmsg.header(ifindex, 0, parent))
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENOENT, errno.EINVAL):
            return
        raise
    for buffer, start, end in parts:
        _, handle, _, info = tcmsg.MESSAGE.unpack_from(buffer, start + 4)
        fields = netlink.payloads(buffer, start + 20, end)
        if not handle and tcmsg.OPTIONS not in fields:
            continue  # the head of the filters of one preference
        options = netlink.payloads(fields.get(tcmsg.OPTIONS, b""), 0, len(fields.get(tcmsg.OPTIONS, b"")))
        kind = netlink.text(fields.get(tcmsg.KIND, b""))
        chain = int.from_bytes(fields.get(_CHAIN, b""), "little")
        bpf = options if kind == "bpf" else {}
        acted = _acted(bpf.get(_ACTIONS, b""))
        yield Filter(
            chain=chain,
            pref=info >> 16,
            handle=handle,
            kind=kind,
            program=bpf.get(_OPS, b""),
            direct_action=bool(int.from_bytes(bpf.get(_FLAGS, b""), "little") & _DIRECT_ACTION),
            target=_redirect_target(bpf.get(_ACTIONS, b"")),
            actions=_ACTIONS in bpf,
            acted_bytes=acted[0],
            acted_packets=acted[1],
        )


def _acted(actions: bytes) -> tuple[int, int]:
    """Bytes and packets of all actions."""
    total_bytes = total_packets = 0
    for _, start, end in netlink.attributes(actions, 0, len(actions)):
        told = netlink.payloads(actions, start, end).get(_ACTION_STATS, b"")
        statistics = netlink.payloads(told, 0, len(told))
        basic = statistics.get(tcmsg.STATS_BASIC, b"")
        count, packets = _BASIC.unpack_from(basic) if len(basic) >= _BASIC.size else (0, 0)
        if tcmsg.STATS_PACKETS64 in statistics:  # after 2³² packets
            (packets,) = struct.unpack_from("=Q", statistics[tcmsg.STATS_PACKETS64])
        total_bytes, total_packets = total_bytes + count, total_packets + packets
    return total_bytes, total_packets


def _redirect_target(actions: bytes) -> int | None:
    targets = []
    for _, start, end in netlink.attributes(actions, 0, len(actions)):
        action = netlink.payloads(actions, start, end)
        if netlink.text(action.get(_ACTION_KIND, b"")) != "mirred":
            return None
        options = action.get(_ACTION_OPTIONS, b"")
        parameters = netlink.payloads(options, 0, len(options)).get(_MIRRED_PARAMETERS, b"")
        if len(parameters) < _MIRRED.size:
            return None
        _, _, verdict, _, _, direction, target = _MIRRED.unpack_from(parameters)
        if (verdict, direction) != (_STOLEN, _EGRESS_REDIRECT):
            return None
        targets.append(target)
    return targets[0] if len(targets) == 1 else None


def put_message(
    ifindex: int, parent: int, pref: int, handle: int, program: bytes, *, direct_action: bool = False, target: int = 0
) -> netlink.Message:
    """Create or replace a bpf filter; with a `target` its action redirects to that interface."""
    options = [
        netlink.attribute(_OPS_LENGTH, struct.pack("=H", len(program) // 8)),
        netlink.attribute(_OPS, program),
    ]
    if direct_action:
        options.append(netlink.int_attribute(_FLAGS, _DIRECT_ACTION))
    if target:
        parameters = _MIRRED.pack(0, 0, _STOLEN, 0, 0, _EGRESS_REDIRECT, target)
        action = netlink.text_attribute(_ACTION_KIND, "mirred") + netlink.nest(
            _ACTION_OPTIONS, netlink.attribute(_MIRRED_PARAMETERS, parameters)
        )
        options.append(netlink.nest(_ACTIONS, netlink.nest(1, action)))
    body = (
        tcmsg.header(ifindex, handle, parent, pref << 16 | _EVERY_PROTOCOL)
        + netlink.text_attribute(tcmsg.KIND, "bpf")
        + netlink.nest(tcmsg.OPTIONS, *options)
    )
    return netlink.Message(tcmsg.NEW_FILTER, netlink.CREATE, body)


def delete_message(ifindex: int, parent: int, pref: int, handle: int) -> netlink.Message:
    """Delete one filter; others of the same preference stay."""
    body = tcmsg.header(ifindex, handle, parent, pref << 16 | _EVERY_PROTOCOL)
    return netlink.Message(tcmsg.DELETE_FILTER, 0, body + netlink.text_attribute(tcmsg.KIND, "bpf"))


def observe_mark_filter(channel: netlink.Socket, ifindex: int) -> model.MarkFilter | None:
    """The mark → class filter of our tree; one that we would not write has the mask -1."""
    found: model.MarkFilter | None = None
    for present in dump(channel, ifindex, _TREE):
        if present.pref != names.CLASSIFY_PREF or present.chain:
            continue
        mask = bytecode.read_classify(present.program)
        plain = present.handle == _CLASSIFY_HANDLE and not present.direct_action and not present.actions
        if found is not None or mask is None or not plain:
            return model.MarkFilter(-1)
        found = model.MarkFilter(mask)
    return found


def put_mark_filter(channel: netlink.Socket, ifindex: int, wanted: model.MarkFilter) -> None:
    """Put or replace the filter of our tree, and take away what else stands at its preference."""
    messages = [
        delete_message(ifindex, _TREE, present.pref, present.handle)
        for present in dump(channel, ifindex, _TREE)
        if present.pref == names.CLASSIFY_PREF and not present.chain and present.handle != _CLASSIFY_HANDLE
    ]
    program = bytecode.classify(wanted.mask)
    messages.append(put_message(ifindex, _TREE, names.CLASSIFY_PREF, _CLASSIFY_HANDLE, program))
    channel.demand(*messages)


def delete_mark_filter(channel: netlink.Socket, ifindex: int) -> None:
    """Delete the filter of our tree, if it is there."""
    gone = delete_message(ifindex, _TREE, names.CLASSIFY_PREF, _CLASSIFY_HANDLE)
    refusal = channel.execute([gone]).get(0)
    if refusal is not None and refusal.errno not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
        raise OSError(refusal.errno, refusal.text)
