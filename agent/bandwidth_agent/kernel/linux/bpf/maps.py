"""One map in the kernel: many of its entries written, deleted or read at a time.

Owns the sizes that classifier.bpf.c has too. Knows nothing of what keys and values mean. Linux before 5.13 cannot do
many entries of every kind of map at a time: there it is one after the other.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_agent.kernel.linux.bpf import system_call

_LOOKUP, _UPDATE, _DELETE, _NEXT_KEY = 1, 2, 3, 4
_LOOKUP_BATCH, _UPDATE_BATCH, _DELETE_BATCH = 24, 26, 27
_ARRAY, _LPM_TRIE = 2, 11
_NO_PREALLOCATION, _MAPPABLE = 1, 1 << 10

_ENTRY_ATTRIBUTES = struct.Struct("=I4xQQQ")  # map, key, value or next key, flags
_BATCH_ATTRIBUTES = struct.Struct("=QQQQIIQQ")  # where it begins, where it ended, keys, values; count, map, flags
_READ_AT_ONCE = 1 << 14

PER_FAMILY_TABLES = 1 << 11
NAME_BYTES = 32


Space = ctypes.Array[ctypes.c_char]


class Definition(NamedTuple):
    kind: int
    key_bytes: int
    value_bytes: int
    most_entries: int
    flags: int


DEFINITIONS: Mapping[str, Definition] = {
    # For agents only: no program reads it. Asked before every change, so it costs no system call for each entry.
    "names": Definition(_ARRAY, 4, NAME_BYTES, 2 * PER_FAMILY_TABLES, _MAPPABLE),
    "v4": Definition(_LPM_TRIE, 12, 4, 1 << 18, _NO_PREALLOCATION),
    "v6": Definition(_LPM_TRIE, 24, 4, 1 << 18, _NO_PREALLOCATION),
    "ports": Definition(_ARRAY, 4, 4, 1 << 18, _MAPPABLE),
}


class Map:
    """An open map. `close` gives the descriptor back; the map lives as long as a name or a program holds it."""

    def __init__(self, descriptor: int, definition: Definition) -> None:
        self.descriptor, self._definition = descriptor, definition
        _, self._key_bytes, self._value_bytes, self._most_entries, _ = definition

    @classmethod
    def make(cls, name: str) -> Map:
        """Make a map that nothing holds yet."""
        definition = DEFINITIONS[name]
        return cls(system_call.create_map(*definition, f"cbl_{name}"), definition)

    @classmethod
    def open(cls, name: str, path: str) -> Map:
        """Open a map by its name in a bpf file system. Raises OSError: ENOENT where there is none, or another one.

        Another version, or another program, may have put that there.
        """
        made = cls(system_call.open_pinned(path), DEFINITIONS[name])
        if not made._is_as_defined():
            made.close()
            raise FileNotFoundError(errno.ENOENT, f"{path} is no map of this version")
        return made

    def _is_as_defined(self) -> bool:
        try:
            found = system_call.map_info(self.descriptor)
        except OSError:  # it is no map
            return False
        return (found.kind, *found[2:]) == self._definition

    def close(self) -> None:
        os.close(self.descriptor)

    @property
    def id(self) -> int:
        return system_call.map_info(self.descriptor).id

    def put(self, keys: bytes, values: bytes) -> dict[int, int]:
        """Write entries in this order, each as one; the errno of each that was refused, by position."""
        return self._change(_UPDATE_BATCH, _UPDATE, keys, values)

    def delete(self, keys: bytes) -> dict[int, int]:
        """Delete entries in this order; the errno of each that was refused, by position. ENOENT: it was not there."""
        return self._change(_DELETE_BATCH, _DELETE, keys, b"")

    def memory(self) -> bytes:
        """Return the values of an array whose memory can be mapped, each at a multiple of 8: a copy, in no time."""
        size = -(-self._value_bytes // 8) * 8 * self._most_entries
        with mmap.mmap(self.descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
            return mapped[:]

    def read(self) -> tuple[bytes, bytes]:
        """Return all keys and all values, of an array in the order of its indexes."""
        keys, values = bytearray(), bytearray()
        some_keys, some_values = _space(_READ_AT_ONCE * self._key_bytes), _space(_READ_AT_ONCE * self._value_bytes)
        place = _space(max(self._key_bytes, 8))
        begin, code = 0, 0
        while not code:
            first_key, first_value = ctypes.addressof(some_keys), ctypes.addressof(some_values)
            end = ctypes.addressof(place)
            count, code = self._batch(_LOOKUP_BATCH, begin, end, first_key, first_value, _READ_AT_ONCE)
            if code not in (0, errno.ENOENT):  # ENOENT: these were the last
                return self._read_singly()
            keys += memoryview(some_keys)[: count * self._key_bytes]
            values += memoryview(some_values)[: count * self._value_bytes]
            begin = end
        return bytes(keys), bytes(values)

    def _read_singly(self) -> tuple[bytes, bytes]:
        keys, values = bytearray(), bytearray()
        key, following, value = _space(self._key_bytes), _space(self._key_bytes), _space(self._value_bytes)
        known = 0
        while not self._one(_NEXT_KEY, known, ctypes.addressof(following)):
            key.raw = following.raw
            known = ctypes.addressof(key)
            if not self._one(_LOOKUP, known, ctypes.addressof(value)):
                keys += key.raw
                values += value.raw
        return bytes(keys), bytes(values)

    def _change(self, many: int, one: int, keys: bytes, values: bytes) -> dict[int, int]:
        all_keys, all_values = _space(len(keys), keys), _space(len(values), values)
        refused: dict[int, int] = {}
        total, done = len(keys) // self._key_bytes, 0
        while done < total:
            key, value = self._at(all_keys, self._key_bytes, done), self._at(all_values, self._value_bytes, done)
            made, code = self._batch(many, 0, 0, key, value, total - done)
            done += made
            if code:  # the one at which it stopped is tried by itself: perhaps this kernel does one at a time only
                key, value = self._at(all_keys, self._key_bytes, done), self._at(all_values, self._value_bytes, done)
                code = self._one(one, key, value)
                if code:
                    refused[done] = code
                done += 1
        return refused

    @staticmethod
    def _at(entries: Space, size: int, position: int) -> int:
        return ctypes.addressof(entries) + size * position if len(entries) else 0

    def _batch(self, number: int, begin: int, end: int, keys: int, values: int, count: int) -> tuple[int, int]:
        """Return how many entries were done, and the errno with which it stopped."""
        attributes = _BATCH_ATTRIBUTES.pack(begin, end, keys, values, count, self.descriptor, 0, 0)
        buffer = _space(len(attributes), attributes)
        code = -min(system_call.attempt(number, buffer), 0)
        done = int(_BATCH_ATTRIBUTES.unpack(buffer.raw)[4])
        refused_whole = code and done == count  # the kernel has not come to the first
        return (0 if refused_whole else done), code

    def _one(self, number: int, key: int, value: int) -> int:
        attributes = _ENTRY_ATTRIBUTES.pack(self.descriptor, key, value, 0)
        return -min(system_call.attempt(number, _space(len(attributes), attributes)), 0)


def _space(size: int, content: bytes = b"") -> Space:
    return ctypes.create_string_buffer(content, size)
