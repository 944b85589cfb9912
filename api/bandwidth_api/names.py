"""Every name, handle and number that marks an object as ours, in Kubernetes and in the kernel.

An agent without memory recognises a kernel object as ours by these alone, and touches nothing else.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from bandwidth_api.plan import ClassKey, PortRange

GROUP = "clientbandwidth.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
LIMIT_KIND = "ClientBandwidthLimit"
POLICY_KIND = "ClientBandwidthPolicy"
POLICY = f"{GROUP}/policy"  # a label of limits that a policy made: its name
POLICY_STEP = f"{GROUP}/policy-step"  # an annotation of these: which of the policy's steps it is in, counted from 1
AUTHOR = f"{GROUP}/author"  # an annotation of limits and questions: the user, as the API server knows them

# Links. An ifb is ours when its name and its group number are; the alias is for people.
IFB_PREFIX = "cbl"
IFB_ALIAS = "clientbandwidth.io"
IFB_GROUP = 0x7CB1

# A pair of veth devices takes the place of the ifbs where packets are classified by eBPF programs. Its index is given
# too, so that what leads to it does not depend on the order in which devices were made.
PAIR_PREFIX = "cblv"
PEER_PREFIX = "cblp"
PAIR_INDEX = 0x7CB10000  # and the shard
PEER_INDEX = 0x7CB18000

# tc. Class numbers (minors) run from 1 to CLASS_MAX on whatever device they live; the leaf qdisc of class n has the
# handle n:, the fq_codel inside it (INNER_MAJOR | n):. HTB_MAJOR lies in none of these ranges, nor in the
# range from 0x8001 from which the kernel numbers qdiscs without a handle.
HTB_MAJOR = 0x7CB1
CLASS_MAX = 0x7BFF
SHARD_SIZE = 512  # class numbers per ifb: class n lives on ifb n // SHARD_SIZE
INNER_MAJOR = 0x8000
OBSERVE_PARENT = 0x7CFF  # parent class of the Observe classes of a device
DEFAULT_CLASS = 0x7CFE  # only where HTB replaced a root that gave the others an AQM

# Filters. The preference is after every preference the kernel hands out by itself (0xC000 and below).
STOP_PREF = 0xFE00
REDIRECT_PREF = 0xFE01
CLASSIFY_PREF = 0xFE02
# An eBPF program that is a filter comes before those of all others: just before the first of them, or where that is at
# 1, at 1 too, as the newest of them. This is where it is if there is no other.
PROGRAM_PREF = 0x7CB1
# Its handle remembers the same as that of the stop filter in its second bit; the first tells a new one from an old one.
PROGRAM_HANDLE = 0x7CB1_0000
PROGRAM_HANDLE_OWN_CLSACT = 2
PROGRAM_PREFIX = "cbl_"
# The handle of the stop filter remembers whether the clsact qdisc under it is ours to remove.
STOP_HANDLE_FOREIGN_CLSACT = 1
STOP_HANDLE_OWN_CLSACT = 2

# netfilter
CHAIN = "CBL-POSTROUTING"
_CHAINS = re.compile(r"CBL-(?:POSTROUTING|(?:TCP|UDP)-\d{1,5}-\d{1,5})")
SET_PREFIX = "cbl-v"
# Behind SET_PREFIX, the family and a hyphen: twelve digits, as in the names of sets with ports, so that an older agent,
# which does not know this set, still recognises it as one of ours and removes it.
_CLIENTS = "ffffffffffff"
COMMENT_MAX = 255  # bytes, ipset
LIMIT_NAME_MAX = 180  # leaves room for a client (43) and an expiry


def ifb(shard: int) -> str:
    """Return the name of the ifb that holds the classes of one shard."""
    return f"{IFB_PREFIX}{shard}"


def pair(shard: int) -> str:
    """Return the name of the device of a pair that holds the classes of one shard."""
    return f"{PAIR_PREFIX}{shard}"


def peer(shard: int) -> str:
    """Return the name of the other end of a pair, which packets come out of."""
    return f"{PEER_PREFIX}{shard}"


def set_name(family: int, ports: tuple[PortRange, ...]) -> str:
    """Return the name of one table's ipset, at most 31 bytes. A set being filled for a swap ends in `-new`."""
    if not ports:
        return f"{SET_PREFIX}{family}"
    text = ",".join(f"{p.protocol}:{p.first}-{p.last}" for p in ports)
    return f"{SET_PREFIX}{family}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def clients_set(family: int) -> str:
    """Return the name of a family's guard set: all addresses in any table, looked up before the tables."""
    return f"{SET_PREFIX}{family}-{_CLIENTS}"


def ports_chain(ports: PortRange) -> str:
    """Return the name of the chain for packets of these ports, used when one chain would have too many ranges."""
    return f"CBL-{ports.protocol}-{ports.first}-{ports.last}"


def is_chain(name: str) -> bool:
    """Return whether a chain has a name of ours."""
    return _CHAINS.fullmatch(name) is not None


class Label(NamedTuple):
    """The content of a set entry's comment: the limit and client that it belongs to, and when it expires."""

    key: ClassKey
    expires_at: int | None  # seconds since the epoch


def comment(key: ClassKey, expires_at: float | None) -> str:
    """Return the comment of a set entry, at most COMMENT_MAX bytes; a long limit name is shortened."""
    words = [short_limit(key.limit)]
    if key.client:
        words.append(f"client={key.client}")
    if expires_at is not None:
        words.append(f"until={int(expires_at)}")
    return " ".join(words)


def short_limit(limit: str) -> str:
    """Return the limit's name if it fits into a comment, else its beginning and a digest."""
    if len(limit) <= LIMIT_NAME_MAX:
        return limit
    return f"{limit[: LIMIT_NAME_MAX - 13]}~{hashlib.sha256(limit.encode()).hexdigest()[:12]}"


def parse_comment(text: str) -> Label:
    """Parse a comment written by `comment`; a shortened name stays short, and unknown words are ignored."""
    limit, _, rest = text.partition(" ")
    client, expires_at = "", None
    for word in rest.split():
        name, _, value = word.partition("=")
        if name == "client":
            client = value
        elif name == "until" and value.isdigit():
            expires_at = int(value)
    return Label(ClassKey(limit, client), expires_at)
