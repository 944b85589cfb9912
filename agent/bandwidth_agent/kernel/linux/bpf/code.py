"""Our programs as code: what the compiler made, with the numbers of maps and devices put in, and a name for it.

A program's name in the kernel says what code it has: an agent without memory compares names.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import struct
from collections.abc import Mapping

from bandwidth_agent.kernel.linux.bpf import classifier_code
from bandwidth_api import names

TO_PAIR, TO_PRIORITY, FROM_PAIR = "to_pair", "to_priority", "from_pair"
PROGRAMS = (TO_PAIR, TO_PRIORITY, FROM_PAIR)
MAPS = ("v4", "v6", "ports")  # that programs look into

_DIGEST_DIGITS = 11  # as many as a name of 15 bytes has room for
_INSTRUCTION_BYTES = 8
_NUMBER, _NUMBER_MAX = struct.Struct("=i"), 0x7FFF_FFFF
_MAP_BY_DESCRIPTOR = 1 << 4


def name(program: str, shard: int | None) -> str:
    """Return what the kernel is to call this program, made for the pair of this shard if it is for one."""
    code, needs = _compiled(program)
    made_of = repr((code, needs, names.PAIR_INDEX, names.PEER_INDEX, shard)).encode()
    return names.PROGRAM_PREFIX + hashlib.sha256(made_of).hexdigest()[:_DIGEST_DIGITS]


def linked(program: str, shard: int | None, maps: Mapping[str, int], namespace: int) -> bytes:
    """Return the instructions with these maps (their descriptors by name), for a network namespace (its number)."""
    numbers = {"namespace": namespace & _NUMBER_MAX}
    if shard is not None:
        numbers |= {"pair_index": names.PAIR_INDEX + shard, "peer_index": names.PEER_INDEX + shard}
    compiled, needs = _compiled(program)
    code = bytearray(compiled)
    for instruction, symbol in needs:
        at = instruction * _INSTRUCTION_BYTES
        if symbol in maps:
            code[at + 1] |= _MAP_BY_DESCRIPTOR
        _NUMBER.pack_into(code, at + 4, maps[symbol] if symbol in maps else numbers[symbol])
    return bytes(code)


@functools.cache
def _compiled(program: str) -> tuple[bytes, tuple[tuple[int, str], ...]]:
    text, needs = classifier_code.CODE[program]
    return base64.b64decode(text), needs
