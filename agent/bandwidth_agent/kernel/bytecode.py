"""The three classic BPF programs of our filters, as bytes; pure.

A program is recognised by writing it again: read the numbers where ours stand, build, compare.
"""

from __future__ import annotations

import struct

from bandwidth_api import names

_INSTRUCTION = struct.Struct("=HBBI")

_LOAD_WORD = 0x20
_AND, _OR, _SHIFT_RIGHT = 0x54, 0x44, 0x74
_JUMP_IF_EQUAL = 0x15
_RETURN, _RETURN_A = 0x06, 0x16
_MARK = 0xFFFF_F000 + 20  # the ancillary load of skb->mark

_NO_MATCH = 0  # of a filter
_MATCH = 0xFFFF_FFFF  # of a filter: use its own class and actions
_ACT_OK = 0  # in direct-action mode: let the packet go, ask no later filter
_ACT_CONTINUE = 0xFFFF_FFFF  # in direct-action mode: ask the next filter


def _program(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)


def low_bit(mask: int) -> int:
    """The number of the lowest bit of a mask."""
    return (mask & -mask).bit_length() - 1


def classify(mask: int) -> bytes:
    """Mark → class of our HTB: no match where the masked mark is 0, else 7cb1:(masked mark, shifted down)."""
    return _program(
        (_LOAD_WORD, 0, 0, _MARK),
        (_AND, 0, 0, mask),
        (_JUMP_IF_EQUAL, 3, 0, 0),
        (_SHIFT_RIGHT, 0, 0, low_bit(mask)),
        (_OR, 0, 0, names.HTB_MAJOR << 16),
        (_RETURN_A, 0, 0, 0),
        (_RETURN, 0, 0, _NO_MATCH),
    )


def stop(mask: int) -> bytes:
    """For direct-action mode: a packet without our mark leaves the hook here, the others go on."""
    return _program(
        (_LOAD_WORD, 0, 0, _MARK),
        (_AND, 0, 0, mask),
        (_JUMP_IF_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ACT_OK),
        (_RETURN, 0, 0, _ACT_CONTINUE),
    )


def redirect(mask: int, shift: int | None, shard: int) -> bytes:
    """Match the marks of one shard; without a shift every mark. A masked mark of 0 never matches, even in shard 0."""
    if shift is None:
        return _program(
            (_LOAD_WORD, 0, 0, _MARK),
            (_AND, 0, 0, mask),
            (_JUMP_IF_EQUAL, 1, 0, 0),
            (_RETURN, 0, 0, _MATCH),
            (_RETURN, 0, 0, _NO_MATCH),
        )
    return _program(
        (_LOAD_WORD, 0, 0, _MARK),
        (_AND, 0, 0, mask),
        (_JUMP_IF_EQUAL, 3, 0, 0),
        (_SHIFT_RIGHT, 0, 0, shift),
        (_JUMP_IF_EQUAL, 0, 1, shard),
        (_RETURN, 0, 0, _MATCH),
        (_RETURN, 0, 0, _NO_MATCH),
    )


def read_classify(program: bytes) -> int | None:
    """The mask of a program that `classify` wrote."""
    mask = _constant(program, 1)
    return mask if mask and program == classify(mask) else None


def read_stop(program: bytes) -> int | None:
    """The mask of a program that `stop` wrote."""
    mask = _constant(program, 1)
    return mask if mask is not None and program == stop(mask) else None


def read_redirect(program: bytes, shard: int) -> tuple[int, int | None] | None:
    """Mask and shift of a program that `redirect` wrote for this shard."""
    mask, shift = _constant(program, 1), _constant(program, 3)
    if mask is None or shift is None:
        return None
    for candidate in (None, shift):
        if program == redirect(mask, candidate, shard):
            return mask, candidate
    return None


def _constant(program: bytes, position: int) -> int | None:
    if len(program) < (position + 1) * _INSTRUCTION.size:
        return None
    return int(_INSTRUCTION.unpack_from(program, position * _INSTRUCTION.size)[3])
