"""Which limit holds a client, as the kernel's sets say it, and whether it is being slowed."""

from __future__ import annotations

import dataclasses

import pytest

from bandwidth_agent import reconcile, settings
from bandwidth_agent.kernel import model
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.limits import Wanted
from bandwidth_agent.sight import limits_in_force
from bandwidth_agent.sight.limits_in_force import Reading
from bandwidth_api import addresses, plan
from bandwidth_sight.rows import Hold, MadeBy
from unit.agent.entries import MBIT, entry

HOST, INSIDE, HOLE, OTHER = map(addresses.network, ("203.0.113.7", "198.51.100.9", "198.51.100.1", "192.0.2.1"))
ENTRIES = (
    entry("one", "203.0.113.7", rate=5 * MBIT),
    dataclasses.replace(
        entry("net", "198.51.100.0/24", rate=8 * MBIT), excepted=(addresses.parse_cidr("198.51.100.1/32"),)
    ),
    dataclasses.replace(entry("watch", "2001:db8::/64", rate=2 * MBIT), mode=plan.Mode.OBSERVE),
)


@pytest.fixture
def kernel() -> fake_kernel.FakeKernel:
    """A kernel in which these limits are in force."""
    made = fake_kernel.FakeKernel()
    assert reconcile.Reconciler(made, settings.Settings()).run(Wanted(ENTRIES), read=True).ok
    return made


@pytest.mark.parametrize("source", ["kernel", "entries"])
def test_a_client_has_the_limit_whose_set_entry_holds_it(kernel: fake_kernel.FakeKernel, source: str) -> None:
    """The longest prefix counts, an exception is none; what is in no set has none. From the kernel or from files."""
    state = kernel.observe()
    found = limits_in_force.of_kernel(state) if source == "kernel" else limits_in_force.of_entries(ENTRIES)
    assert found.holds(HOST) == (Hold("one", 5 * MBIT, at_limit=False, observes=False),)
    assert found.holds(INSIDE) == (Hold("net", 8 * MBIT, at_limit=False, observes=False),)
    assert found.holds(HOLE) == found.holds(OTHER) == ()
    assert found.holds(addresses.network("2001:db8::9")) == (Hold("watch", 2 * MBIT, at_limit=False, observes=True),)


HTTPS, DNS = plan.PortRange("TCP", 443, 443), plan.PortRange("UDP", 53, 53)
PORTS = (
    dataclasses.replace(entry("web", "203.0.113.7", rate=5 * MBIT), ports=(HTTPS,)),
    dataclasses.replace(entry("names", "203.0.113.0/24", rate=2 * MBIT), ports=(DNS,)),
    dataclasses.replace(entry("rest", "203.0.113.7", rate=8 * MBIT), priority=-1),
)


@pytest.mark.parametrize("source", ["kernel", "entries", "no rules"])
def test_a_limit_for_ports_is_known_by_them(source: str) -> None:
    """Each limit with its ports, the one without for all others; where rules cannot be read, for some ports."""
    made = fake_kernel.FakeKernel()
    assert reconcile.Reconciler(made, settings.Settings()).run(Wanted(PORTS), read=True).ok
    state = made.observe()
    assert limits_in_force.has_ports(state)
    if source == "no rules":
        state = dataclasses.replace(state, chains={})
    found = limits_in_force.of_entries(PORTS) if source == "entries" else limits_in_force.of_kernel(state)
    ports = {hold.limit: hold.ports for hold in found.holds(HOST)}
    known = source != "no rules"
    assert ports == {"web": (HTTPS,) if known else None, "names": (DNS,) if known else None, "rest": ()}
    other = found.holds(addresses.network("203.0.113.8"))
    assert [(hold.limit, hold.ports) for hold in other] == [("names", (DNS,) if known else None)]


def test_only_limits_with_ports_need_rules(kernel: fake_kernel.FakeKernel) -> None:
    """The usual sets and the set of all clients do not."""
    assert not limits_in_force.has_ports(kernel.observe())


def counters(kernel: fake_kernel.FakeKernel, at: float, sent_bytes: dict[str, int]) -> Reading:
    """A reading in which the class of each limit has sent so many bytes."""
    state = kernel.observe()
    number = {hold.limit: n for n, hold in limits_in_force.of_kernel(state)._holds.items()}
    by_number = {number[name]: sent for name, sent in sent_bytes.items()}
    return Reading(
        at,
        {
            device: {n: model.ClassCounters(by_number.get(n, 0), 0, 0, 0, 0, 0, 0) for n in tree.classes}
            for device, tree in state.trees.items()
        },
    )


def test_a_limit_says_which_policy_made_it(kernel: fake_kernel.FakeKernel) -> None:
    """By its name; all others were written by persons."""
    found = limits_in_force.of_kernel(kernel.observe(), made_by={"one": MadeBy("fair", 1, 2)})
    assert [hold.made_by for hold in found.holds(HOST)] == [MadeBy("fair", 1, 2)]
    assert [hold.made_by for hold in found.holds(INSIDE)] == [None]


def test_at_its_limit_is_95_per_cent_of_its_rate(kernel: fake_kernel.FakeKernel) -> None:
    """By what its class sent between two readings; an Observe limit slows nobody, whatever it counts."""
    found = limits_in_force.of_kernel(kernel.observe())
    second = MBIT // 8
    before = counters(kernel, 10.0, {"one": 100, "net": 100, "watch": 100})
    after = counters(
        kernel, 12.0, {"one": 100 + round(9.6 * second), "net": 100 + 15 * second, "watch": 100 + 99 * second}
    )
    found.heed(before, after)
    assert found.holds(HOST)[0].at_limit
    assert not found.holds(INSIDE)[0].at_limit
    assert not found.holds(addresses.network("2001:db8::9"))[0].at_limit
    found.heed(after, after)
    assert found.holds(HOST)[0].at_limit
    found.heed(after, counters(kernel, 14.0, {}))
    assert not found.holds(HOST)[0].at_limit


def test_a_newer_state_remembers_who_was_at_its_limit(kernel: fake_kernel.FakeKernel) -> None:
    """Until the next counters, so that the word does not come and go."""
    state = kernel.observe()
    found = limits_in_force.of_kernel(state)
    found.heed(counters(kernel, 10.0, {}), counters(kernel, 11.0, {"one": MBIT}))
    assert limits_in_force.of_kernel(state, found.at_limit).holds(HOST)[0].at_limit


def test_networks_for_grouping_are_those_of_limits(kernel: fake_kernel.FakeKernel) -> None:
    """Single addresses are none."""
    assert set(limits_in_force.networks(kernel.observe())) >= {
        addresses.parse("198.51.100.0/24"),
        addresses.parse("2001:db8::/64"),
    }
    assert HOST not in limits_in_force.networks(kernel.observe())


def test_of_two_limits_for_one_network_the_one_that_wins_is_shown() -> None:
    """By priority, then the older."""
    older = dataclasses.replace(entry("b", "203.0.113.0/24"), created_at=1.0)
    newer = dataclasses.replace(entry("a", "203.0.113.0/24"), created_at=2.0)
    assert limits_in_force.of_entries((newer, older)).holds(HOST)[0].limit == "b"
    first = dataclasses.replace(newer, priority=5)
    assert limits_in_force.of_entries((first, older)).holds(HOST)[0].limit == "a"
