"""Which bits of the packet mark the rules of other programs read or write.

Owns the reading of rules for that one question: rules of nftables as the kernel holds them, those of iptables-legacy
as its save program prints them, and the policy routing rules. Rules of ours are passed over. Must never change
anything; where a rule's bits cannot be told it says all of them, because the price of a wrong "none" is somebody's
routing.

The mark of a connection is no packet mark; only where one is copied to the other does a packet mark take part.
"""

from __future__ import annotations

import contextlib
import itertools
import shlex
import socket
import sys
from collections.abc import Iterable, Iterator

from bandwidth_agent.kernel import iptables_text, model, netlink, nftrules
from bandwidth_api import names

ALL_BITS = 0xFFFFFFFF

# In every rule that has to do with a mark, and in few others of the ten thousands of a node.
_CANDIDATE = "mark"

_RULE_GET = 34  # RTM_GETRULE
_RULE_HEADER_BYTES = 12
_FRA_PRIORITY, _FRA_MARK, _FRA_MASK = 6, 10, 16


def of_legacy(program: str, dump: str) -> Iterator[model.MarkUse]:
    """The uses in what `iptables-legacy-save` printed; `program` names the family in the report."""
    end = 0
    while (found := dump.find(_CANDIDATE, end)) >= 0:
        start, end = dump.rfind("\n", 0, found) + 1, dump.find("\n", found)
        rule = dump[start:end]
        if rule.startswith("-A ") and not rule.startswith(f"-A {names.CHAIN} "):
            bits = _rule_bits(rule)
            if bits:
                table = dump[dump.rfind("\n*", 0, start) + 2 :].partition("\n")[0]
                yield model.MarkUse(bits, f"{program} -t {table} {rule}")


def of_nftables() -> Iterator[model.MarkUse]:
    """The uses in the rules of nftables, iptables-nft's among them."""
    for rule in nftrules.with_marks():
        if (rule.table, rule.chain) != (iptables_text.TABLE, names.CHAIN):
            yield model.MarkUse(rule.bits, str(rule))


def of_routing() -> Iterator[model.MarkUse]:
    """The uses in policy routing rules (`ip rule … fwmark`)."""
    with contextlib.closing(netlink.Socket()) as kernel:
        for family, word in ((socket.AF_INET, "ip rule"), (socket.AF_INET6, "ip -6 rule")):
            for part in kernel.dump(_RULE_GET, bytes([family]) + bytes(_RULE_HEADER_BYTES - 1)):
                found = netlink.payloads(part.buffer, part.start + _RULE_HEADER_BYTES, part.end)
                mark, mask = _native(found.get(_FRA_MARK)), _native(found.get(_FRA_MASK))
                if mark | mask:
                    priority = _native(found.get(_FRA_PRIORITY))
                    yield model.MarkUse(mask, f"{word} {priority}: fwmark {mark:#x}/{mask:#x}")


def merge(uses: Iterable[model.MarkUse]) -> tuple[model.MarkUse, ...]:
    """Of the uses of the same bits only the first: thousands of rules alike would say no more than one."""
    first: dict[int, model.MarkUse] = {}
    for use in uses:
        first.setdefault(use.bits, use)
    return tuple(first.values())


def _rule_bits(rule: str) -> int:
    """The bits that one rule reads or writes."""
    try:
        words = shlex.split(rule)
    except ValueError:
        return ALL_BITS
    bits = 0
    scope = ""  # the match or target that the options belong to
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word in ("-m", "-j"):
            scope = value
            bits |= ALL_BITS if value == "HMARK" else 0
        elif word in ("--set-xmark", "--set-mark", "--tproxy-mark") and scope in ("MARK", "TPROXY"):
            mark, mask = _mark_and_mask(value)
            bits |= mark | mask
        elif word in ("--and-mark", "--or-mark", "--xor-mark") and scope == "MARK":
            bits |= _mark_and_mask(value)[0] ^ (ALL_BITS if word == "--and-mark" else 0)
        elif word == "--mark" and scope == "mark":
            bits |= _mark_and_mask(value)[1]
        elif word in ("--restore-mark", "--save-mark") and scope == "CONNMARK":
            bits |= _copied_bits(words)
        elif word in ("--map-mark", "--restore-skmark") or (word.startswith("--zone") and value == "mark"):
            bits = ALL_BITS
    return bits & ALL_BITS


def _copied_bits(words: list[str]) -> int:
    """What CONNMARK copies between the connection's mark and the packet's."""
    masks = dict(itertools.pairwise(words))
    both = masks.get("--mask", hex(ALL_BITS))
    packet_mask = int(masks.get("--nfmask", both), 0)
    connection_mask = int(masks.get("--ctmask", both), 0)
    return packet_mask | connection_mask if "--restore-mark" in words else packet_mask


def _mark_and_mask(text: str) -> tuple[int, int]:
    mark, _, mask = text.partition("/")
    return int(mark, 0), int(mask, 0) if mask else ALL_BITS


def _native(value: bytes | None) -> int:
    return int.from_bytes(value or b"", sys.byteorder)
