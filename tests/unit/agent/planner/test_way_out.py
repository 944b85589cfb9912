"""Limits whose clients are reached by an interface on which nothing is shaped."""

from __future__ import annotations

import dataclasses

from bandwidth_agent.kernel import model
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.planner import way_out
from bandwidth_api import addresses, plan
from bandwidth_api.conditions import Reason
from unit.agent import worlds

ETH0 = fake_kernel.interface()
LAN = fake_kernel.interface("lan", index=3, default_route=False)
FACTS = fake_kernel.facts(ETH0, LAN)


def entry(name: str, *clients: str, excepted: tuple[str, ...] = ()) -> plan.PlanEntry:
    return dataclasses.replace(
        worlds.limit(0, 5_000_000),
        limit=name,
        clients=tuple(map(addresses.parse, clients)),
        excepted=tuple(map(addresses.parse, excepted)),
    )


def ways(*found: tuple[str, str, str], defaults: dict[int, frozenset[str]] | None = None, table: int = 0) -> model.Ways:
    """(network asked for, part, interfaces)."""
    of: dict[plan.Prefix, tuple[model.Way, ...]] = {}
    for network, part, names in found:
        way = model.Way(addresses.parse(part), frozenset(names.split()), table)
        of[addresses.parse(network)] = (*of.get(addresses.parse(network), ()), way)
    return model.Ways(of, defaults or {})


def judged(
    answers: model.Ways, *entries: plan.PlanEntry, facts: model.Facts = FACTS, placed: tuple[str, ...] = ("eth0",)
) -> tuple[dict[str, str], tuple[str, ...]]:
    known = way_out.WayOut()
    known.unasked(entries, facts, placed)
    known.learn(answers)
    problems, warnings = known.problems(entries)
    assert {problem.reason for problem in problems.values()} <= {Reason.NOT_ON_THE_WAY}
    return {name: problem.message for name, problem in problems.items()}, warnings


def test_a_client_behind_another_interface_is_told_with_what_to_name() -> None:
    """The message names the interface it leaves by, and all that must be named so that none is lost."""
    problems, warnings = judged(
        ways(("10.0.0.7", "10.0.0.7", "lan"), ("203.0.113.7", "203.0.113.7", "eth0")),
        entry("inside", "10.0.0.7"),
        entry("outside", "203.0.113.7"),
    )
    assert problems == {
        "inside": "packets to 10.0.0.7 leave by lan, which is not shaped;"
        " name every interface to shape: --interface eth0 --interface lan"
    }
    assert warnings == ()


def test_one_client_of_several_is_enough() -> None:
    """A limit is in force when it is for each of its clients; what no packet reaches is no client that is fast."""
    answers = ways(("10.0.0.7", "10.0.0.7", "lan"), ("203.0.113.7", "203.0.113.7", "eth0"))
    assert set(judged(answers, entry("both", "203.0.113.7", "10.0.0.7"))[0]) == {"both"}
    assert judged(answers, entry("nowhere", "203.0.113.7", "2001:db8::7")) == ({}, ())


def test_a_network_of_which_a_part_leaves_elsewhere_is_in_force_with_a_warning() -> None:
    """Most of it is limited, which is what was asked for; the part that is not is named, unless it is excepted."""
    answers = ways(("10.0.0.0/8", "10.0.0.0/8", "eth0"), ("10.0.0.0/8", "10.9.0.0/16", "lan"))
    problems, (warning,) = judged(answers, entry("wide", "10.0.0.0/8"))
    assert problems == {}
    assert warning.startswith("limit wide: packets to 10.9.0.0/16 of 10.0.0.0/8 leave by lan, which is not shaped; ")
    assert judged(answers, entry("wide", "10.0.0.0/8", excepted=("10.9.0.0/16",))) == ({}, ())
    many = [entry(f"wide{number}", "10.0.0.0/8") for number in range(20)]
    assert len(judged(answers, *many)[1]) == way_out.WARNINGS_MAX + 1


def test_several_ways_at_once_count_if_one_is_shaped() -> None:
    """A route by several next hops leaves the limit in force; the one that is not shaped is a warning."""
    problems, (warning,) = judged(ways(("10.0.0.7", "10.0.0.7", "eth0 lan")), entry("a", "10.0.0.7"))
    assert problems == {}
    assert warning.startswith("limit a: some packets to 10.0.0.7 leave by lan, which is not shaped; ")
    assert judged(ways(("10.0.0.7", "10.0.0.7", "eth0")), entry("a", "10.0.0.7")) == ({}, ())


def test_a_table_that_knows_the_client_better_counts() -> None:
    """Where a VRF or a rule's table has a route of its own for the client, its packets take that one."""
    answers = ways(("10.0.0.7", "10.0.0.7", "lan"), table=10)
    assert "(routing table 10)" in judged(answers, entry("a", "10.0.0.7"))[0]["a"]


def test_a_default_route_of_another_table_is_a_warning() -> None:
    """Which packets a rule sends there is not known: a warning, once, however many limits there are."""
    answers = ways(("10.0.0.7", "10.0.0.7", "eth0"), defaults={101: frozenset({"lan"}), 102: frozenset({"eth0"})})
    problems, (warning,) = judged(answers, entry("a", "10.0.0.7"), entry("b", "10.0.0.7"))
    assert problems == {}
    assert "routing table 101 leave by lan" in warning


def test_what_passes_a_shaped_interface_on_its_way_down_is_on_the_way() -> None:
    """A VLAN above it, a bridge or bond of which it is a member, and a tunnel that carries the mark along."""
    facts = fake_kernel.facts(
        ETH0._replace(master=7),
        fake_kernel.interface("eth0.5", index=4, default_route=False, lower=2),
        fake_kernel.interface("macvlan", index=5, default_route=False, lower=4),
        fake_kernel.interface("br0", index=7, default_route=False, kind="bridge"),
        fake_kernel.interface("gre1", index=8, default_route=False, kind="gre"),
        fake_kernel.interface("wg0", index=9, default_route=False, kind="wireguard"),
        fake_kernel.interface("veth", index=10, default_route=False, kind="veth"),
    )
    for name in ("eth0", "eth0.5", "macvlan", "br0", "gre1"):
        assert judged(ways(("10.0.0.7", "10.0.0.7", name)), entry("a", "10.0.0.7"), facts=facts) == ({}, ()), name
    for name in ("wg0", "veth"):
        assert set(judged(ways(("10.0.0.7", "10.0.0.7", name)), entry("a", "10.0.0.7"), facts=facts)[0]) == {"a"}


def test_where_nothing_is_shaped_at_all_something_else_is_said() -> None:
    """A node without an egress interface says that, for each limit."""
    assert judged(ways(("10.0.0.7", "10.0.0.7", "lan")), entry("a", "10.0.0.7"), placed=()) == ({}, ())


def test_only_what_is_new_is_asked() -> None:
    """A limit that is added asks for its own clients; one on the way that changes, for all."""
    known = way_out.WayOut()
    a, b = entry("a", "10.0.0.7"), entry("b", "10.0.0.8")
    assert len(known.unasked((a,), FACTS, ("eth0",))) == 1
    known.learn(ways(("10.0.0.7", "10.0.0.7", "eth0")))
    known.problems((a,))
    assert known.unasked((a,), FACTS, ("eth0",)) == frozenset()
    assert known.unasked((a, b), FACTS, ("eth0",)) == {addresses.parse("10.0.0.8")}
    assert not known.learn(ways(("10.0.0.8", "10.0.0.8", "lan")))
    assert set(known.problems((a, b))[0]) == {"b"}
    assert known.learn(ways(("10.0.0.7", "10.0.0.7", "lan")))
    assert set(known.problems((a, b))[0]) == {"a", "b"}
    assert known.unasked((a, b), dataclasses.replace(FACTS), ("eth0",)) == frozenset()
    assert known.unasked((a, b), FACTS, ("eth0", "lan")) == frozenset()
    assert known.problems((a, b)) == ({}, ())
    more = fake_kernel.facts(ETH0, LAN, fake_kernel.interface("veth", index=9, default_route=False))
    assert known.unasked((a, b), more, ("eth0", "lan")) == frozenset()
    assert known.unasked((a, b), FACTS, ("eth0", "lan")) == frozenset()
    assert len(known.unasked((a, b), fake_kernel.facts(ETH0, LAN._replace(up=False)), ("eth0", "lan"))) == 2
