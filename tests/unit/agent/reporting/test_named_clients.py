"""What is seen of clients that a question names: all of each, and nothing of others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel.traffic import Estimate, Stretch
from bandwidth_agent.reporting.named_clients import NamedClients
from bandwidth_api import address_text, addresses
from bandwidth_api.plan import Prefix

ADDRESSES = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


def prefix(address: bytes, length: int) -> Prefix:
    bits = len(address) * 8
    cut = bits - min(length, bits)
    return Prefix(4 if bits == 32 else 6, int.from_bytes(address) >> cut << cut, bits - cut)


@given(st.dictionaries(ADDRESSES, st.integers(1, 1000), min_size=1, max_size=30), st.data())
def test_a_network_has_all_of_its_addresses_and_no_others(sent: dict[bytes, int], data: st.DataObject) -> None:
    """Of whatever family and length, however many are around it."""
    seen = {key: Estimate(1000.0 * amount, amount, 1e6 * amount) for key, amount in sent.items()}
    around = data.draw(st.sampled_from(sorted(sent)))
    wanted = prefix(around, data.draw(st.integers(0, len(around) * 8)))
    named = NamedClients()
    named.want([addresses.write(wanted)])
    named.add({"eth0": Stretch(5.0, 6.0, seen, {}, 0, 0, 4096)}, 6.0)
    rate = named.snapshots()[wanted].totals[0]
    inside = [key for key in sent if addresses.covers(wanted, prefix(key, address_text.BITS[6]))]
    assert rate.bits_per_second == 8000 * sum(sent[key] for key in inside)
    assert rate.samples == sum(sent[key] for key in inside)
