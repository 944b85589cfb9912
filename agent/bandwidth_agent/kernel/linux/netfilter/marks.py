"""Finds which bits of the packet mark the rules of other programs read or write, and which of them after our rule.

Reads the rules of nftables as the kernel holds them, those of iptables-legacy as its save program prints them, and the
policy routing rules; our own rules are skipped. Must never change anything. If a rule's bits are unknown the answer is
all of them, because a wrong "none" could break the routing of another program.

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

from bandwidth_agent.kernel import model, netlink
from bandwidth_agent.kernel.linux.netfilter import iptables_text
from bandwidth_agent.kernel.linux.netfilter.nf_tables import nfhooks, nftrules
from bandwidth_api import names

ALL_BITS = 0xFFFFFFFF

# In every rule that has to do with a mark, and in few others of the ten thousands of a node.
_CANDIDATES = re.compile("mark|-m bpf |-j CLASSIFY|--map-prio")

_PRIORITY_WRITTEN = re.compile("-j CLASSIFY|-j SET .*--map-prio")
_SETTING = {("--set-xmark", "MARK"), ("--set-mark", "MARK"), ("--tproxy-mark", "TPROXY")}

_RULE_GET = 34  # RTM_GETRULE
_RULE_HEADER_BYTES = 12
_FRA_PRIORITY, _FRA_MARK, _FRA_MASK = 6, 10, 16


def of_legacy(program: str, dump: str) -> Iterator[model.MarkUse]:
    """Return the uses in the output of `iptables-legacy-save`; `program` is its name for the report."""
    leaving: dict[str, set[str]] = {}  # table → the chains that a leaving packet passes after our rule
    end = 0
    while (found := _CANDIDATES.search(dump, end)) is not None:
        start, end = dump.rfind("\n", 0, found.start()) + 1, dump.index("\n", found.start())
        rule = dump[start:end]
        if rule.startswith("-A ") and not names.is_chain(rule.split(maxsplit=2)[1]):
            read, written = _rule_bits(rule)
            priority = _PRIORITY_WRITTEN.search(rule) is not None
            if read | written or priority:
                head = dump.rfind("\n*", 0, start) + 1
                table = dump[head + 1 :].partition("\n")[0]
                if table not in leaving:
                    leaving[table] = _from_postrouting(dump[head : dump.find("\nCOMMIT", head)])
                late = rule.split(maxsplit=2)[1] in leaving[table]
                yield model.MarkUse(
                    read | written,
                    f"{program} -t {table} {rule}",
                    # Rules for NAT see the first packet of a connection only: what they write is soon gone.
                    rewritten=written if late and table != "nat" else 0,
                    read=read if late else 0,
                    priority=late and priority,
                )


def of_nftables() -> Iterator[model.MarkUse]:
    """Return the uses in the rules of nftables, those of iptables-nft included."""
    rules = [r for r in nftrules.with_marks() if r.table != iptables_text.TABLE or not names.is_chain(r.chain)]
    leaving = nfhooks.leaving() if rules else nfhooks.Leaving(frozenset(), frozenset())
    for rule in rules:
        place = (rule.family, rule.table, rule.chain)
        always = place in leaving.every
        late = always or place in leaving.first
        yield model.MarkUse(
            rule.bits,
            str(rule),
            rewritten=rule.written if always else 0,
            read=rule.read if late else 0,
            arriving=rule.by == nftrules.WAY_BACK and not (rule.written or late),
            priority=rule.priority and always,
        )


def of_routing() -> Iterator[model.MarkUse]:
    """Return the uses in policy routing rules (`ip rule … fwmark`)."""
    with contextlib.closing(netlink.Socket()) as kernel:
        for family, word in ((socket.AF_INET, "ip rule"), (socket.AF_INET6, "ip -6 rule")):
            for part in kernel.dump(_RULE_GET, bytes([family]) + bytes(_RULE_HEADER_BYTES - 1)):
                found = netlink.payloads(part.buffer, part.start + _RULE_HEADER_BYTES, part.end)
                mark, mask = _native(found.get(_FRA_MARK)), _native(found.get(_FRA_MASK))
                if mark | mask:
                    priority = _native(found.get(_FRA_PRIORITY))
                    yield model.MarkUse(mask, f"{word} {priority}: fwmark {mark:#x}/{mask:#x}")


def merge(uses: Iterable[model.MarkUse]) -> tuple[model.MarkUse, ...]:
    """Return only the first of equal uses: thousands of similar rules mean no more than one."""
    first: dict[tuple[int, int, int, bool], model.MarkUse] = {}
    for use in uses:
        if not (use.bits or use.priority):
            continue
        first.setdefault((use.bits, use.rewritten, use.read, use.priority), use)
    return tuple(first.values())


def _from_postrouting(table: str) -> set[str]:
    """Return the chains of a saved table that packets pass after our rule on their way out."""
    found: set[str] = set()
    ahead = ["POSTROUTING"]
    while ahead:
        chain = ahead.pop()
        if chain not in found:
            found.add(chain)
            ahead += re.findall(rf"^-A {re.escape(chain)} .*-[jg] (\S+)", table, re.MULTILINE)
    return found


def _rule_bits(rule: str) -> tuple[int, int]:
    """Return the bits that one rule reads, and those that it writes."""
    try:
        words = shlex.split(rule)
    except ValueError:
        return ALL_BITS, 0
    read = written = 0
    scope = ""  # the match or target that the options belong to
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word in ("-m", "-j"):
            scope = value
            read |= ALL_BITS if value == "bpf" else 0
            written |= ALL_BITS if value == "HMARK" else 0
        elif (word, scope) in _SETTING:
            mark, mask = _mark_and_mask(value)
            written |= mark | mask
        elif word in ("--and-mark", "--or-mark", "--xor-mark") and scope == "MARK":
            written |= _mark_and_mask(value)[0] ^ (ALL_BITS if word == "--and-mark" else 0)
        elif word == "--mark" and scope == "mark":
            read |= _mark_and_mask(value)[1]
        elif word == "--restore-mark" and scope == "CONNMARK":
            written |= _copied_bits(words)
        elif word == "--save-mark" and scope == "CONNMARK":
            read |= _copied_bits(words)
        elif word == "--map-mark" or word == "--restore-skmark":
            written = ALL_BITS
        elif word == "--validmark" or (word.startswith("--zone") and value == "mark"):
            read = ALL_BITS
    return read & ALL_BITS, written & ALL_BITS


def _copied_bits(words: list[str]) -> int:
    """Return the bits that CONNMARK copies between the connection's mark and the packet's."""
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
