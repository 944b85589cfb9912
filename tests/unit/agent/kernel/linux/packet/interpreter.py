"""Runs classic BPF as the kernel does, as far as our programs go: https://docs.kernel.org/networking/filter.html."""

from __future__ import annotations

import struct

PROTOCOL, PACKET_TYPE, RANDOM = 0xFFFF_F000, 0xFFFF_F004, 0xFFFF_F038


def run(program: bytes, packet: bytes, length: int, *, protocol: int, kind: int = 4, random: int = 0) -> int:
    """What a program returns for a packet; a load beyond its end returns 0, as in the kernel."""
    instructions = list(struct.iter_unpack("=HBBI", program))
    beside = {PROTOCOL: protocol, PACKET_TYPE: kind, RANDOM: random}
    a = x = at = 0
    while True:
        code, yes, no, constant = instructions[at]
        at += 1
        match code:
            case 0x20:  # ld
                if constant not in beside:
                    raise ValueError(f"a load of {constant:#x}")
                a = beside[constant]
            case 0x30:  # ldb
                if constant >= len(packet):
                    return 0
                a = packet[constant]
            case 0x80:  # ld len
                a = length
            case 0xB1:  # ldx 4*([k]&0xf)
                if constant >= len(packet):
                    return 0
                x = 4 * (packet[constant] & 15)
            case 0x54:
                a &= constant
            case 0x04:
                a = (a + constant) & 0xFFFF_FFFF
            case 0x74:
                a >>= constant
            case 0x07:
                x = a
            case 0x87:
                a = x
            case 0x15:
                at += yes if a == constant else no
            case 0x2D:
                at += yes if a > x else no
            case 0x06:
                return int(constant)
            case 0x16:
                return a
            case _:
                raise ValueError(f"instruction {code:#x}")
