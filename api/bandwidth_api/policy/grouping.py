"""Which client an address belongs to, in the eyes of one policy. Pure."""

from __future__ import annotations

import functools

from bandwidth_api import addresses
from bandwidth_api.crds.policy import Spec
from bandwidth_api.plan import PortRange, Prefix
from bandwidth_api.policy.reports import Amount


def client_of(spec: Spec, address: Prefix) -> Prefix | None:
    """Return the group that counts as one client; None if it is not watched, or no client that could be limited.

    A group is never wider than the watched network that it lies in. What is wider than a group belongs to nobody.
    """
    groups = spec.watch.group_by
    length = groups.ipv4 if address.family == 4 else groups.ipv6
    around = [each.length for each in spec.watch.clients if addresses.covers(each, address)]
    if not around:
        return None
    length = max(length, min(around))
    if address.length < length or not _can_be_limited(group := _shortened(address, length)):
        return None
    return group


def _shortened(prefix: Prefix, length: int) -> Prefix:
    spare = addresses.BITS[prefix.family] - length
    return Prefix(prefix.family, prefix.network >> spare << spare, length)


@functools.lru_cache(4096)
def _can_be_limited(group: Prefix) -> bool:
    try:
        addresses.parse_client(addresses.write(group))
    except ValueError:
        return False
    return True


def counted_bytes(spec: Spec, amount: Amount) -> float:
    """Return the bytes that count: of a policy with ports, those of its ports as far as they are known."""
    if not spec.watch.ports:
        return amount.bytes
    share = sum(port.share for port in amount.ports if _of(spec.watch.ports, port.protocol, port.number))
    return amount.bytes * min(1.0, max(0.0, share))


def _of(ranges: tuple[PortRange, ...], protocol: str, number: int) -> bool:
    return any(each.protocol == protocol and each.first <= number <= each.last for each in ranges)
