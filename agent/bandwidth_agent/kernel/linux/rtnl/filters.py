"""Traffic control filters: their messages, a dump as records, and the mark → class filter of a tree.

Owns the encoding of bpf filters and of the two actions that we use: a redirect, and one that clears bits of the mark.
`hooks` owns the meaning of the filters of an egress hook together.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel import netlink, objects
from bandwidth_agent.kernel.linux.rtnl import bytecode, filter_marks, tcmsg
from bandwidth_api import names

_CHAIN = 11
_ACTIONS, _OPS_LENGTH, _OPS, _PROGRAM, _NAME, _FLAGS, _PROGRAM_ID = 1, 4, 5, 6, 7, 8, 11
_DIRECT_ACTION = 1
_ACTION_KIND, _ACTION_OPTIONS, _ACTION_STATS = 1, 2, 4
_BASIC = struct.Struct("=QI")  # bytes, packets
_MIRRED_PARAMETERS = 2
_MIRRED = struct.Struct("=IIiiiiI")  # ifindex, capabilities, action, references, bindings, direction, target
_OK, _PIPE, _STOLEN = 0, 3, 4
_EGRESS_REDIRECT = 1
_SKBEDIT_PARAMETERS, _SKBEDIT_PRIORITY, _SKBEDIT_QUEUE, _SKBEDIT_MARK, _SKBEDIT_TYPE, _SKBEDIT_MASK = 2, 3, 4, 5, 7, 8
_SKBEDIT = struct.Struct("=IIiii")  # index, capabilities, action, references, bindings

_EVERY_PROTOCOL = 0x0300  # ETH_P_ALL in network byte order
_TREE = names.HTB_MAJOR << 16
_CLASSIFY_HANDLE = 1


class Filter(NamedTuple):
    """One filter of a dump. `target`: interface index of its last action, a mirred redirect; None: other actions.

    `cleared`: the bits of the mark that its first action clears; None where there are actions that we never use.
    `marks`: the bits of the mark that it looks at. `acted_*`: what was redirected. `name`: of an eBPF program.
    """

    chain: int
    pref: int
    handle: int
    kind: str
    program: bytes
    direct_action: bool
    target: int | None
    cleared: int | None
    actions: int
    marks: int
    acted_bytes: int
    acted_packets: int
    name: str = ""
    program_id: int = 0  # of an eBPF program


def dump(channel: netlink.Socket, ifindex: int, parent: int) -> Iterator[Filter]:
    """Read the filters at one place of one device; none if the place does not exist."""
    try:
        parts = channel.dump(tcmsg.GET_FILTER, tcmsg.header(ifindex, 0, parent))
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENOENT, errno.EINVAL):
            return
        if error.errno == errno.EMSGSIZE:  # what kernels answer to a dump with an `fw` in it that has no handle
            yield _decode(0, 0, {tcmsg.KIND: b"fw"})
            return
        raise
    head: Filter | None = None
    for buffer, start, end in parts:
        _, handle, _, info = tcmsg.MESSAGE.unpack_from(buffer, start + 4)
        fields = netlink.payloads(buffer, start + 20, end)
        found = _decode(handle, info >> 16, fields)
        if head is not None and (head.chain, head.pref) != (found.chain, found.pref):
            yield head
        head = None
        if handle or tcmsg.OPTIONS in fields:
            yield found
        elif found.kind in filter_marks.WITHOUT_FILTERS:
            head = found  # the head of a preference means something only if nothing follows under it
    if head is not None:
        yield head


def _decode(handle: int, pref: int, fields: dict[int, bytes]) -> Filter:
    options = netlink.payloads(fields.get(tcmsg.OPTIONS, b""), 0, len(fields.get(tcmsg.OPTIONS, b"")))
    kind = netlink.text(fields.get(tcmsg.KIND, b""))
    bpf = options if kind == "bpf" else {}
    actions = [
        netlink.payloads(bpf[_ACTIONS], first, last)
        for _, first, last in netlink.attributes(bpf.get(_ACTIONS, b""), 0, len(bpf.get(_ACTIONS, b"")))
    ]
    cleared, target = _clears_and_redirects(actions)
    acted = _acted(actions)
    return Filter(
        chain=int.from_bytes(fields.get(_CHAIN, b""), "little"),
        pref=pref,
        handle=handle,
        kind=kind,
        program=bpf.get(_OPS, b""),
        direct_action=bool(int.from_bytes(bpf.get(_FLAGS, b""), "little") & _DIRECT_ACTION),
        target=target,
        cleared=cleared,
        actions=len(actions),
        marks=filter_marks.looked_at(kind, options),
        acted_bytes=acted[0],
        acted_packets=acted[1],
        name=netlink.text(bpf.get(_NAME, b"")),
        program_id=int.from_bytes(bpf.get(_PROGRAM_ID, b""), "little"),
    )


def _acted(actions: list[dict[int, bytes]]) -> tuple[int, int]:
    """Return bytes and packets of all redirects."""
    total_bytes = total_packets = 0
    for action in actions:
        if netlink.text(action.get(_ACTION_KIND, b"")) != "mirred":
            continue
        attributes = action.get(_ACTION_STATS, b"")
        statistics = netlink.payloads(attributes, 0, len(attributes))
        basic = statistics.get(tcmsg.STATS_BASIC, b"")
        count, packets = _BASIC.unpack_from(basic) if len(basic) >= _BASIC.size else (0, 0)
        if tcmsg.STATS_PACKETS64 in statistics:  # after 2³² packets
            (packets,) = struct.unpack_from("=Q", statistics[tcmsg.STATS_PACKETS64])
        total_bytes, total_packets = total_bytes + count, total_packets + packets
    return total_bytes, total_packets


def _clears_and_redirects(actions: list[dict[int, bytes]]) -> tuple[int | None, int | None]:
    """Return what the actions do, if they only clear bits of the mark and then, perhaps, redirect."""
    cleared: int | None = 0
    target: int | None = None
    for number, action in enumerate(actions):
        kind, options = netlink.text(action.get(_ACTION_KIND, b"")), action.get(_ACTION_OPTIONS, b"")
        attributes = netlink.payloads(options, 0, len(options))
        if kind == "mirred" and number == len(actions) - 1:
            target = _target(attributes.get(_MIRRED_PARAMETERS, b""))
        elif kind == "skbedit" and number == 0:
            cleared = _cleared(attributes, _OK if len(actions) == 1 else _PIPE)
        else:
            return None, None
    return (None, None) if (cleared == 0 and target is None and actions) or cleared is None else (cleared, target)


def _target(parameters: bytes) -> int | None:
    if len(parameters) < _MIRRED.size:
        return None
    _, _, verdict, _, _, direction, target = _MIRRED.unpack_from(parameters)
    return int(target) if (verdict, direction) == (_STOLEN, _EGRESS_REDIRECT) else None


def _cleared(attributes: dict[int, bytes], verdict: int) -> int | None:
    """Return the bits that an skbedit action of ours clears; None for one that does anything else."""
    parameters = attributes.get(_SKBEDIT_PARAMETERS, b"")
    other = attributes.keys() & {_SKBEDIT_PRIORITY, _SKBEDIT_QUEUE, _SKBEDIT_TYPE}
    if other or len(parameters) < _SKBEDIT.size or _SKBEDIT.unpack_from(parameters)[2] != verdict:
        return None
    if int.from_bytes(attributes.get(_SKBEDIT_MARK, b"\1"), "little"):
        return None
    return int.from_bytes(attributes.get(_SKBEDIT_MASK, b""), "little") or None


def put_message(
    ifindex: int,
    parent: int,
    pref: int,
    handle: int,
    program: bytes,
    *,
    direct_action: bool = False,
    clear: int = 0,
    target: int = 0,
) -> netlink.Message:
    """Return the message that creates a bpf filter, which clears bits of the mark and redirects to `target`."""
    options = [
        netlink.attribute(_OPS_LENGTH, struct.pack("=H", len(program) // 8)),
        netlink.attribute(_OPS, program),
    ]
    if direct_action:
        options.append(netlink.int_attribute(_FLAGS, _DIRECT_ACTION))
    actions = []
    if clear:
        verdict = _SKBEDIT.pack(0, 0, _PIPE if target else _OK, 0, 0)
        bits = netlink.int_attribute(_SKBEDIT_MARK, 0) + netlink.int_attribute(_SKBEDIT_MASK, clear)
        actions.append(_action("skbedit", netlink.attribute(_SKBEDIT_PARAMETERS, verdict) + bits))
    if target:
        parameters = _MIRRED.pack(0, 0, _STOLEN, 0, 0, _EGRESS_REDIRECT, target)
        actions.append(_action("mirred", netlink.attribute(_MIRRED_PARAMETERS, parameters)))
    if actions:
        options.append(netlink.nest(_ACTIONS, *(netlink.nest(n, each) for n, each in enumerate(actions, 1))))
    body = (
        tcmsg.header(ifindex, handle, parent, pref << 16 | _EVERY_PROTOCOL)
        + netlink.text_attribute(tcmsg.KIND, "bpf")
        + netlink.nest(tcmsg.OPTIONS, *options)
    )
    return netlink.Message(tcmsg.NEW_FILTER, netlink.CREATE, body)


def put_program_message(ifindex: int, parent: int, pref: int, handle: int, program: int, name: str) -> netlink.Message:
    """Return the message that makes an eBPF program (by its descriptor) a filter, or puts it in the place of one."""
    options = netlink.int_attribute(_PROGRAM, program) + netlink.text_attribute(_NAME, name)
    body = (
        tcmsg.header(ifindex, handle, parent, pref << 16 | _EVERY_PROTOCOL)
        + netlink.text_attribute(tcmsg.KIND, "bpf")
        + netlink.nest(tcmsg.OPTIONS, options, netlink.int_attribute(_FLAGS, _DIRECT_ACTION))
    )
    return netlink.Message(tcmsg.NEW_FILTER, netlink.CREATE, body)


def _action(kind: str, options: bytes) -> bytes:
    return netlink.text_attribute(_ACTION_KIND, kind) + netlink.nest(_ACTION_OPTIONS, options)


def delete_message(ifindex: int, parent: int, pref: int, handle: int) -> netlink.Message:
    """Return the message that deletes one filter; others of the same preference stay."""
    body = tcmsg.header(ifindex, handle, parent, pref << 16 | _EVERY_PROTOCOL)
    return netlink.Message(tcmsg.DELETE_FILTER, 0, body + netlink.text_attribute(tcmsg.KIND, "bpf"))


def observe_mark_filter(channel: netlink.Socket, ifindex: int) -> objects.MarkFilter | None:
    """Read the mark → class filter of our tree; one that we never write has the mask -1."""
    found: objects.MarkFilter | None = None
    for present in dump(channel, ifindex, _TREE):
        if present.pref != names.CLASSIFY_PREF or present.chain:
            continue
        mask = bytecode.read_classify(present.program)
        plain = present.handle == _CLASSIFY_HANDLE and not present.direct_action and present.target is None
        if found is not None or mask is None or not plain or present.cleared not in (0, mask):
            return objects.MarkFilter(-1)
        found = objects.MarkFilter(mask, clears=present.cleared == mask)
    return found


def put_mark_filter(channel: netlink.Socket, ifindex: int, wanted: objects.MarkFilter) -> None:
    """Put or replace the filter of our tree, and delete any other at its preference."""
    messages = [
        delete_message(ifindex, _TREE, present.pref, present.handle)
        for present in dump(channel, ifindex, _TREE)
        if present.pref == names.CLASSIFY_PREF and not present.chain and present.handle != _CLASSIFY_HANDLE
    ]
    program = bytecode.classify(wanted.mask)
    clear = wanted.mask if wanted.clears else 0
    messages.append(put_message(ifindex, _TREE, names.CLASSIFY_PREF, _CLASSIFY_HANDLE, program, clear=clear))
    channel.demand(*messages)


def delete_mark_filter(channel: netlink.Socket, ifindex: int) -> None:
    """Delete the filter of our tree, if it exists."""
    gone = delete_message(ifindex, _TREE, names.CLASSIFY_PREF, _CLASSIFY_HANDLE)
    refusal = channel.execute([gone]).get(0)
    if refusal is not None and refusal.errno not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
        raise OSError(refusal.errno, refusal.text)
