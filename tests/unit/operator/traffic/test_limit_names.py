"""The limits that hold a client are found by the prefixes that they name."""

from __future__ import annotations

from bandwidth_api import addresses
from bandwidth_api.plan import Mode, PlanEntry, Sharing
from bandwidth_operator.traffic.limit_names import LimitNames


def entry(name: str, *clients: str, excepted: tuple[str, ...] = ()) -> PlanEntry:
    prefixes, holes = (tuple(addresses.parse(text) for text in texts) for texts in (clients, excepted))
    return PlanEntry(name, "", 1, prefixes, holes, (), 1_000_000, None, Mode.ENFORCE, Sharing.SHARED, 0, 0.0, None, ())


def test_all_limits_around_a_client_the_narrowest_first() -> None:
    """An address, the networks around it, of its own family, without those that except it."""
    names = LimitNames(
        {
            each.limit: each
            for each in (
                entry("wide", "198.51.0.0/16"),
                entry("one", "198.51.100.7", "2001:db8::7"),
                entry("hole", "198.51.100.0/24", excepted=("198.51.100.0/28",)),
                entry("other", "203.0.113.0/24"),
                entry("six", "2001:db8::/32"),
            )
        }
    )
    texts = ("198.51.100.7", "198.51.100.77", "198.51.100.0/24", "2001:db8::7", "192.0.2.1")
    clients = [addresses.parse(text) for text in texts]
    found = names.holding(clients)
    assert [found.get(client, ()) for client in clients] == [
        ("one", "wide"),
        ("hole", "wide"),
        ("hole", "wide"),
        ("one", "six"),
        (),
    ]
