"""The three classic BPF programs of our filters, as bytes. Pure.

A program is recognised by building it again: read the numbers at the places where ours are, build, compare.
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
    """Return the position of the lowest bit of a mask."""
    return (mask & -mask).bit_length() - 1


def classify(mask: int) -> bytes:
    """Return the program that maps a mark to a class: no match if the masked mark is 0, else 7cb1:(mark, shifted)."""
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
    """Return the direct-action program that lets packets without our mark leave the hook here."""
    return _program(
        (_LOAD_WORD, 0, 0, _MARK),
        (_AND, 0, 0, mask),
        (_JUMP_IF_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ACT_OK),
        (_RETURN, 0, 0, _ACT_CONTINUE),
    )


def redirect(mask: int, shift: int | None, shard: int) -> bytes:
    """Return the program that matches the marks of one shard; without a shift every mark. Never a masked mark of 0."""
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
    """Return the mask of a program that `classify` built; None for another program."""
    mask = _constant(program, 1)
    return mask if mask and program == classify(mask) else None


def read_stop(program: bytes) -> int | None:
    """Return the mask of a program that `stop` built; None for another program."""
    mask = _constant(program, 1)
    return mask if mask is not None and program == stop(mask) else None


def read_redirect(program: bytes, shard: int) -> tuple[int, int | None] | None:
    """Return mask and shift of a program that `redirect` built for this shard; None for another program."""
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
