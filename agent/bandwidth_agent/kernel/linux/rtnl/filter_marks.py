"""Finds which bits of the packet mark a traffic control filter reads. Pure: decodes the filter's options.

Where that is unknown (an eBPF program, a kind that is not decoded here) the answer is all bits, because with a wrong
"none" our marks could make another program's filter sort packets wrongly.
"""

from __future__ import annotations

import struct

from bandwidth_agent.kernel import netlink

ALL_BITS = 0xFFFFFFFF

# Kinds that classify although there is no filter under their preference: `fw` without a handle takes the whole mark
# for a class.
WITHOUT_FILTERS = frozenset({"fw"})

_BLIND = frozenset({"flower", "matchall", "route", "tcindex", "rsvp", "rsvp6", "cgroup"})
_FW_MASK = 5
_U32_MARK = 10
_FLOW_KEYS, _FLOW_KEY_MARK = 1, 1 << 7
_BPF_OPS = 5
_BASIC_MATCHES, _MATCH_LIST = 2, 2
_META, _META_LEFT = 4, 2  # kind of ematch; its attributes: header, left, right
_META_HEADER = 1
_META_MARK = 12  # TCF_META_ID_NFMARK
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_WORD, _MARK = 0x20, 0xFFFF_F000 + 20


def looked_at(kind: str, options: dict[int, bytes]) -> int:
    """Return the bits that a filter of this kind with these options compares."""
    match kind:
        case "fw":
            return _number(options.get(_FW_MASK)) or ALL_BITS
        case "u32":
            mark = options.get(_U32_MARK, b"")
            return int(struct.unpack_from("=II", mark)[1]) if len(mark) >= 8 else 0
        case "flow":
            return ALL_BITS if _number(options.get(_FLOW_KEYS)) & _FLOW_KEY_MARK else 0
        case "bpf":
            return _of_program(options[_BPF_OPS]) if _BPF_OPS in options else ALL_BITS
        case "basic":
            return _of_matches(options.get(_BASIC_MATCHES, b""))
        case _:
            return 0 if kind in _BLIND else ALL_BITS


def _of_program(program: bytes) -> int:
    """Return all bits if a classic BPF program loads the mark, whatever it does with it; else none."""
    whole = len(program) - len(program) % _INSTRUCTION.size
    loads = any(code == _LOAD_WORD and k == _MARK for code, _, _, k in _INSTRUCTION.iter_unpack(program[:whole]))
    return ALL_BITS if loads else 0


def _of_matches(tree: bytes) -> int:
    """Return all bits if one of the ematches compares the mark; else none."""
    matches = netlink.payloads(tree, 0, len(tree)).get(_MATCH_LIST, b"")
    for _, start, end in netlink.attributes(matches, 0, len(matches)):
        if struct.unpack_from("=xxH", matches, start)[0] != _META:
            continue
        header = netlink.payloads(matches, start + 8, end).get(_META_HEADER, b"")
        # tcf_meta_hdr: two values of kind, shift and operation; the lowest 11 bits of the kind are what is compared
        if any(value & 0x7FF == _META_MARK for value in struct.unpack_from("=HxxH", header)):
            return ALL_BITS
    return 0


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "little")
