"""A program's name says what code it has, and the numbers of maps and devices are put where they belong."""

from __future__ import annotations

import re
import struct

import pytest

from bandwidth_agent.kernel.linux.bpf import classifier_code, code, maps
from bandwidth_api import names

DESCRIPTORS = {"v4": 40, "v6": 60, "ports": 80}


def test_names_differ_where_the_code_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the program, the pair that it is for, and every bit of the code; and the kernel takes them."""
    found = {code.name(program, shard) for program in code.PROGRAMS for shard in (None, 0, 1)}
    assert len(found) == 9
    assert all(re.fullmatch("cbl_[0-9a-f]{11}", name) for name in found)
    text, needs = classifier_code.CODE[code.TO_PAIR]
    monkeypatch.setitem(classifier_code.CODE, code.TO_PAIR, ("A" + text[1:], needs))
    code._compiled.cache_clear()
    assert code.name(code.TO_PAIR, 0) not in found
    code._compiled.cache_clear()


@pytest.mark.parametrize("program", code.PROGRAMS)
def test_numbers_are_put_in(program: str) -> None:
    """Of maps as descriptors, of devices as they are, of the namespace what fits; of all else nothing changes."""
    linked = code.linked(program, 3, DESCRIPTORS, 0xF000_0007)
    numbers = {"namespace": 0x7000_0007, "pair_index": names.PAIR_INDEX + 3, "peer_index": names.PEER_INDEX + 3}
    for at, symbol in classifier_code.CODE[program][1]:
        opcode, registers, _, number = struct.unpack_from("=BBhi", linked, 8 * at)
        assert opcode == 0x18
        if symbol in DESCRIPTORS:
            assert (registers >> 4, number) == (1, DESCRIPTORS[symbol])
        else:
            assert (registers >> 4, number) == (0, numbers[symbol])


def test_every_map_that_a_program_needs_is_defined() -> None:
    """And none of the others."""
    needed = {symbol for _, needs in classifier_code.CODE.values() for _, symbol in needs}
    assert needed - {"pair_index", "peer_index", "namespace"} == set(code.MAPS) <= maps.DEFINITIONS.keys()
