"""Which bits of the packet mark the rules of other programs read or write, and which they write after our rule.

Owns the reading of rules for that one question: rules of nftables as the kernel holds them, those of iptables-legacy
as its save program prints them, and the policy routing rules. Rules of ours are passed over. Must never change
anything; where a rule's bits cannot be told it says all of them, because the price of a wrong "none" is somebody's
routing.

The mark of a connection is no packet mark; only where one is copied to the other does a packet mark take part.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
import socket
import sys
from collections.abc import Iterable, Iterator

from bandwidth_agent.kernel import iptables_text, model, netlink, nfhooks, nftrules
from bandwidth_api import names

ALL_BITS = 0xFFFFFFFF

# In every rule that has to do with a mark, and in few others of the ten thousands of a node.
_CANDIDATE = "mark"

_RULE_GET = 34  # RTM_GETRULE
_RULE_HEADER_BYTES = 12
_FRA_PRIORITY, _FRA_MARK, _FRA_MASK = 6, 10, 16


def of_legacy(program: str, dump: str) -> Iterator[model.MarkUse]:
    """The uses in what `iptables-legacy-save` printed; `program` names the family in the report."""
    leaving: dict[str, set[str]] = {}  # table → the chains that a leaving packet passes
    end = 0
    while (found := dump.find(_CANDIDATE, end)) >= 0:
        start, end = dump.rfind("\n", 0, found) + 1, dump.find("\n", found)
        rule = dump[start:end]
        if rule.startswith("-A ") and not rule.startswith(f"-A {names.CHAIN} "):
            bits, written = _rule_bits(rule)
            if bits:
                head = dump.rfind("\n*", 0, start) + 1
                table = dump[head + 1 :].partition("\n")[0]
                if written and table not in leaving:
                    leaving[table] = _from_postrouting(dump[head : dump.find("\nCOMMIT", head)])
                late = written and rule.split(maxsplit=2)[1] in leaving[table]
                yield model.MarkUse(bits, f"{program} -t {table} {rule}", written if late else 0)


def of_nftables() -> Iterator[model.MarkUse]:
    """The uses in the rules of nftables, iptables-nft's among them."""
    rules = [r for r in nftrules.with_marks() if (r.table, r.chain) != (iptables_text.TABLE, names.CHAIN)]
    leaving = nfhooks.leaving() if any(rule.written for rule in rules) else frozenset()
    for rule in rules:
        late = (rule.family, rule.table, rule.chain) in leaving
        yield model.MarkUse(rule.bits, str(rule), rule.written if late else 0)


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
    first: dict[tuple[int, int], model.MarkUse] = {}
    for use in uses:
        first.setdefault((use.bits, use.rewritten), use)
    return tuple(first.values())


def _from_postrouting(table: str) -> set[str]:
    """The chains of a saved table that packets pass after our rule on their way out; of NAT, only the first ones do."""
    found: set[str] = set()
    ahead = [] if table.startswith("*nat\n") else ["POSTROUTING"]
    while ahead:
        chain = ahead.pop()
        if chain not in found:
            found.add(chain)
            ahead += re.findall(rf"^-A {re.escape(chain)} .*-[jg] (\S+)", table, re.MULTILINE)
    return found


def _rule_bits(rule: str) -> tuple[int, int]:
    """The bits that one rule reads or writes, and those of them that it writes in packets that leave."""
    try:
        words = shlex.split(rule)
    except ValueError:
        return ALL_BITS, 0
    bits = written = 0
    scope = ""  # the match or target that the options belong to
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word in ("-m", "-j"):
            scope = value
            written |= ALL_BITS if value == "HMARK" else 0
        elif word in ("--set-xmark", "--set-mark") and scope == "MARK":
            mark, mask = _mark_and_mask(value)
            written |= mark | mask
        elif word == "--tproxy-mark" and scope == "TPROXY":
            mark, mask = _mark_and_mask(value)
            bits |= mark | mask
        elif word in ("--and-mark", "--or-mark", "--xor-mark") and scope == "MARK":
            written |= _mark_and_mask(value)[0] ^ (ALL_BITS if word == "--and-mark" else 0)
        elif word == "--mark" and scope == "mark":
            bits |= _mark_and_mask(value)[1]
        elif word == "--restore-mark" and scope == "CONNMARK":
            written |= _copied_bits(words)
        elif word == "--save-mark" and scope == "CONNMARK":
            bits |= _copied_bits(words)
        elif word == "--map-mark":
            written = ALL_BITS
        elif word == "--restore-skmark" or (word.startswith("--zone") and value == "mark"):
            bits = ALL_BITS
    return (bits | written) & ALL_BITS, written & ALL_BITS


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
