"""Set entries as netlink: what we send is read back as the same value."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel import netlink, objects
from bandwidth_agent.kernel.linux.netfilter import ipset_wire, nfnetlink
from bandwidth_api.plan import Prefix

_DATA, _ENTRIES = 7, 8


def prefixes(family: int) -> st.SearchStrategy[Prefix]:
    bits = 32 if family == 4 else 128
    return st.builds(
        lambda address, length: Prefix(family, address >> (bits - length) << (bits - length), length),
        st.integers(0, 2**bits - 1),
        st.integers(1, bits),
    )


ENTRIES = st.builds(
    objects.SetEntry,
    mark=st.integers(0, 2**32 - 1),
    mask=st.integers(0, 2**32 - 1),
    priority=st.integers(0, 2**32 - 1),
    comment=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60),
    hole=st.booleans(),
)


@given(st.sampled_from([4, 6]).flatmap(lambda family: st.dictionaries(prefixes(family), ENTRIES, max_size=8)))
def test_entries_are_read_as_they_were_written(entries: dict[Prefix, objects.SetEntry]) -> None:
    """The kernel lays an entry out as we do; every field comes back, in both families."""
    family = next(iter(entries)).family if entries else 4
    sent = ipset_wire.put("cbl-v4", entries.items())
    data = b"".join(_data(each.body) for each in sent)
    answer = nfnetlink.GENERIC.pack(2, 0, b"\0\0") + netlink.nest(_ENTRIES, data)
    assert ipset_wire.entries(family, [_part(answer)]) == entries


def _part(body: bytes) -> netlink.Part:
    return netlink.Part(body, 0, len(body))


def _data(body: bytes) -> bytes:
    """The entry of a message, with its header."""
    for kind, start, end in netlink.attributes(body, nfnetlink.GENERIC.size, len(body)):
        if kind == _DATA:
            return body[start - 4 : (end + 3) & ~3]
    raise AssertionError("a message without an entry")


def test_an_address_is_sent_in_network_order() -> None:
    """Spot check against the documented layout, so that writer and reader cannot be wrong together."""
    network = int(ipaddress.ip_address("203.0.113.0"))
    (sent,) = ipset_wire.put(
        "cbl-v4", [(Prefix(4, network, 24), objects.SetEntry(0x50000, 0xFFFF0000, 0x7CB10005, "a"))]
    )
    assert bytes([203, 0, 113, 0]) in sent.body
    assert bytes.fromhex("00050000ffff0000") in sent.body
    assert bytes.fromhex("7cb10005") in sent.body
    assert b"cbl-v4\0" in sent.body


def test_every_refusal_has_words() -> None:
    """ipset's own codes and errnos both become a sentence."""
    assert ipset_wire.explain(4352) == "the set is full"
    assert ipset_wire.explain(2) == "No such file or directory"
