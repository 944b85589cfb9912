"""A round for all clients of all policies: who is never touched, how many at most, and who comes first."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandwidth_api import addresses
from bandwidth_api.compiler import protected_addresses
from bandwidth_api.plan import Prefix
from bandwidth_api.policy import books, machine, memory, reports, rounds, status, surroundings
from bandwidth_api.policy.books import Book
from bandwidth_api.policy.decision import What, Write
from bandwidth_api.policy.reports import Amount, Now, Port, Report
from unit.api.policy import scenes
from unit.api.policy.scenes import NODE, World

A, B, C = "203.0.113.7", "203.0.113.8", "198.51.100.9"
V6 = "2001:db8:7:1::5"


def greedy(*texts: str, mbits: float = 47) -> dict[str, scenes.Demand]:
    return {text: (lambda _, n=n: mbits + n) for n, text in enumerate(texts)}  # type: ignore[misc]


def blocks(world: World) -> list[tuple[str, str]]:
    return [(addresses.write(d.client), scenes.block(d)) for _, d in world.decisions if d.what is What.BLOCKED]


# ── who is never touched ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "exempt"),
    [(A, "203.0.113.0/24"), (A, "203.0.113.7/32"), (V6, "2001:db8:7:1::99/128"), (V6, "2001:db8::/32")],
)
def test_exempt_inside_of_everybody_and_inside_of_the_own_group(text: str, exempt: str) -> None:
    """An exempt network around a client, and an exempt address in the client's own /64."""
    world = World([scenes.policy(safety__exempt=[exempt])], greedy(text))
    world.run(200)
    assert world.whats() == ["Blocked"]
    assert scenes.block(world.decisions[0][1]) == "Exempt"
    assert not world.made


@pytest.mark.parametrize("clients", [["203.0.113.0/24"], [A], ["203.0.113.7/32", "10.0.0.1"]])
@pytest.mark.parametrize("mode", ["Enforce", "Observe", "Disabled"])
def test_beside_a_persons_limit_nothing_is_done(clients: list[str], mode: str) -> None:
    """On the client, around it, and inside its group, in force or not."""
    limit = scenes.persons_limit(*clients, mode=mode)
    world = World([scenes.policy()], greedy(A, V6), persons=[limit, scenes.persons_limit("2001:db8:7:1::1", name="b")])
    world.run(200)
    assert sorted(blocks(world)) == [("2001:db8:7:1::/64", "PersonsLimit"), (A, "PersonsLimit")]
    assert not world.made


def test_what_a_person_excepted_is_left_alone_too() -> None:
    """An exception of a person's limit is a person's word about that client."""
    limit = scenes.persons_limit("203.0.113.0/24", **{"except": ["203.0.113.7/32"]})
    world = World([scenes.policy()], greedy(A), persons=[limit])
    world.run(200)
    assert blocks(world) == [(A, "PersonsLimit")]


def test_a_persons_limit_that_has_ended_stands_in_nobodys_way() -> None:
    """It is there still, and says nothing any more."""
    ended = scenes.persons_limit(A, expiresAt="2029-01-01T00:00:00Z")
    world = World([scenes.policy()], greedy(A), persons=[ended])
    world.run(100)
    assert world.whats() == ["Limited"]


def test_a_persons_limit_takes_the_place_of_a_made_one() -> None:
    """A person writes a limit while the client is limited: ours goes at once."""
    world = World([scenes.policy()], greedy(A))
    world.run(100)
    world.persons.append(scenes.persons_limit("203.0.113.0/24"))
    world.run(1)
    assert world.whats() == ["Limited", "Released"]
    assert not world.made
    world.run(200)
    assert not world.made


def test_a_copy_of_a_made_limit_is_a_persons() -> None:
    """The label alone makes no limit ours: the name has to be that of the client."""
    world = World([scenes.policy()], greedy(A))
    world.run(100)
    (made,) = world.made.values()
    copy = made.model_copy(update={"metadata": made.metadata.model_copy(update={"name": "mine"})})
    found = surroundings.read([made, copy], protected_addresses.index(frozenset()), {}, world.now.wall)
    assert (list(found.made), list(found.persons.values())) == ([made.name], ["mine"])


def test_protected_addresses() -> None:
    """A network that no limit may touch, and an address of a node in a client's group."""
    protected = frozenset({scenes.client("203.0.113.0/24"), scenes.client("2001:db8:7:1::1")})
    world = World([scenes.policy()], greedy(A, V6, C), protected=protected)
    world.run(200)
    assert sorted(blocks(world)) == [("2001:db8:7:1::/64", "Protected"), (A, "Protected")]
    assert [client for each in world.made.values() for client in each.spec.clients] == [scenes.client(C)]


def test_becoming_protected_or_exempt_ends_a_limit() -> None:
    """An edit of the policy, or a node that moves in, lets go who is limited."""
    world = World([scenes.policy()], greedy(A, C))
    world.run(100)
    assert len(world.made) == 2
    world.policies = [scenes.policy(generation=2, safety__exempt=["203.0.113.0/24"])]
    world.protected = frozenset({scenes.client(C)})
    world.run(1)
    assert not world.made
    assert sorted(scenes.block(d) for _, d in world.decisions if d.what is What.RELEASED) == ["Exempt", "Protected"]


@pytest.mark.parametrize("text", ["224.0.0.5", "127.0.0.1", "255.255.255.255", "ff02::1", "fe80::1"])
def test_what_is_no_client_is_not_looked_at(text: str) -> None:
    """Multicast, loopback and the like."""
    world = World([scenes.policy()], greedy(text))
    world.run(100)
    assert not world.decisions


# ── how many, and who first ────────────────────────────────────────────────────────────────────────────────────


def test_the_maximum_and_nobody_is_exchanged() -> None:
    """The first ones stay, also when a hotter one comes; it comes in when one leaves."""
    demands = greedy(A, B) | {C: lambda second: 400 if second > 100 else 0}
    demands[A] = lambda second: 47 if second < 300 else 0
    world = World([scenes.policy(safety__maxLimits=2, lift__forSeconds=60)], demands)
    world.run(280)
    assert world.whats() == ["Limited", "Limited", "Blocked"]
    assert blocks(world) == [(C, "Maximum")]
    assert world.decisions[0][1].client == scenes.client(B)  # the hottest first
    world.run(100)
    assert world.whats() == ["Limited", "Limited", "Blocked", "Lifted", "Limited"]
    assert [d.client for _, d in world.decisions[3:]] == [scenes.client(A), scenes.client(C)]


def test_six_in_a_minute() -> None:
    """Five are limited at once, the coldest of six a minute later, also over a restart."""
    texts = [f"203.0.113.{n}" for n in range(1, 7)]
    for restarts in (False, True):
        world = World([scenes.policy()], greedy(*texts))
        world.run(70)
        assert world.whats() == ["Limited"] * 5 + ["Blocked"]
        assert blocks(world) == [("203.0.113.1", "PerMinute")]
        if restarts:
            world.restart()
        world.run(120)
        assert len(world.made) == 6
        first, *_, last = [second for second, d in world.decisions if d.what is What.LIMITED]
        assert 60 <= last - first <= 130


def test_two_policies_one_limit() -> None:
    """By priority, then by name; the other says whose it is."""
    for high, first in ((0, "alpha"), (10, "beta")):
        world = World([scenes.policy("beta", priority=high), scenes.policy("alpha")], greedy(A))
        world.run(100)
        assert world.whats() == ["Limited", "Blocked"]
        assert world.decisions[0][1].policy == first
        assert scenes.block(world.decisions[1][1]) == "OtherPolicy"
        assert len(world.made) == 1


def test_two_policies_of_other_groups_never_overlap() -> None:
    """One counts addresses, the other networks around them: still one limit for a client."""
    wide = scenes.policy("wide", watch__groupBy={"ipv4": 24}, when__rate__above="60Mbit")
    world = World([wide, scenes.policy("narrow", when__rate__forSeconds=90)], greedy(A, B))
    world.run(300)
    assert [addresses.write(c) for each in world.made.values() for c in each.spec.clients] == ["203.0.113.0/24"]


def test_what_would_be_done_stands_in_nobodys_way() -> None:
    """A policy in Observe with a higher priority does not keep another from its work."""
    world = World([scenes.policy("look", priority=9, then__mode="Observe"), scenes.policy("act")], greedy(A))
    world.run(100)
    assert [(d.policy, d.what, d.enforced) for _, d in world.decisions[:2]] == [
        ("look", What.LIMITED, False),
        ("act", What.LIMITED, True),
    ]


# ── conditions ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_while_the_uplink_is_busy() -> None:
    """The same client is left alone while there is room for everybody."""
    for other, whats in ((100e6, []), (800e6, ["Limited"])):
        world = World(
            [scenes.policy(when__uplink={"abovePercent": 80})],
            greedy(A),
            capacity_bits_per_second=10**9,
            other_bits_per_second=other,
        )
        world.run(120)
        assert world.whats() == whats


@pytest.mark.parametrize(
    "when", [{"share": {"abovePercent": 5}}, {"rate": {"above": "40M"}, "uplink": {"abovePercent": 10}}]
)
def test_what_needs_a_capacity_that_nobody_knows_does_nothing(when: dict[str, Any]) -> None:
    """Neither a share nor a busy uplink can be told, and it is told that it cannot; with a capacity both can."""
    unknown = World([scenes.policy(when=when)], greedy(A), other_bits_per_second=1e9)
    unknown.run(400)
    assert not unknown.decisions
    assert status.counts(unknown.book, unknown.policies[0], unknown.nodes, unknown.now).capacity_unknown == (NODE,)
    known = World(
        [scenes.policy(when=when)], greedy(A), other_bits_per_second=1e9, capacity_bits_per_second=500_000_000
    )
    known.run(400)
    assert known.whats()[:1] == ["Limited"]
    assert status.counts(known.book, known.policies[0], known.nodes, known.now).capacity_unknown == ()


def test_a_capacity_that_is_named_counts() -> None:
    """What the policy says goes before what the node knows."""
    world = World(
        [scenes.policy(when__uplink={"abovePercent": 80, "capacity": "50Mbit"})],
        greedy(A),
        capacity_bits_per_second=10**10,
    )
    world.run(100)
    assert world.whats() == ["Limited"]


def test_a_volume_within_some_time() -> None:
    """Who goes on after it is limited; who has stopped is not."""
    when = {"volume": {"above": "500M", "withinSeconds": 3600}}
    going = World([scenes.policy(when=when)], greedy(A, mbits=25))
    stopped = World([scenes.policy(when=when)], {A: lambda second: 250 if second < 16 else 0})
    stopped.silent = True  # and nobody saw it until it was over
    stopped.run(15)
    stopped.silent = False
    for world, whats in ((going, ["Limited"]), (stopped, [])):
        world.run(300)
        assert world.whats() == whats
    assert "480 MiB within 3600 s" in going.decisions[0][1].why


def test_ports_that_are_not_watched_do_not_count() -> None:
    """And a client of whose ports nothing is known counts nothing."""
    policy = scenes.policy(watch__ports=[{"port": 993}])
    for ports, whats in (
        ((), []),
        ((Port("TCP", 993, 0.5), Port("TCP", 443, 0.5)), []),
        ((Port("TCP", 993, 0.9),), [What.LIMITED]),
        ((Port("UDP", 993, 0.9),), []),
    ):
        world = World([policy], {})
        for second in range(100):
            world.second = second
            world.decide([Report(NODE, world.now.steady, 1.0, (Amount(scenes.client(A), 50e6 / 8, ports),))])
        assert [d.what for _, d in world.decisions] == whats


def test_nodes_alone_or_together() -> None:
    """Nodes that send 30 Mbit each are too much together, and not alone; one that is not selected counts nothing."""
    nodes = {"a": {"edge": "yes"}, "b": {"edge": "yes"}, "c": {}}

    def run(**watch: Any) -> World:
        world = World([scenes.policy(watch=watch)], {}, nodes=nodes)
        for second in range(100):
            world.second = second
            world.decide(
                [
                    Report(name, world.now.steady, 1.0, (Amount(scenes.client(A), 30e6 / 8),))
                    for name in ("a", "b", "c", "gone")
                ]
            )
        return world

    assert run().whats() == []
    assert run(scope="Cluster").whats() == ["Limited"]
    assert run(scope="Cluster", nodeSelector={"matchLabels": {"edge": "yes"}}).whats() == ["Limited"]
    assert run(scope="Cluster", nodeSelector={"matchLabels": {"edge": "no"}}).whats() == []


def test_groups() -> None:
    """Addresses of one /64 are one client; a group is no wider than the network that is watched."""
    world = World([scenes.policy()], greedy("2001:db8:7:1::1", "2001:db8:7:1::2", mbits=24))
    world.run(100)
    assert [addresses.write(d.client) for _, d in world.decisions] == ["2001:db8:7:1::/64"]
    narrow = scenes.policy(watch={"clients": ["203.0.113.6/31"], "groupBy": {"ipv4": 24}})
    world = World([narrow], greedy(A, "203.0.113.6", B, mbits=25))
    world.run(100)
    assert [addresses.write(d.client) for _, d in world.decisions] == ["203.0.113.6/31"]


# ── modes, edits, ends ─────────────────────────────────────────────────────────────────────────────────────────


def test_observe_tells_what_it_would_do_and_writes_nothing() -> None:
    """The same decisions, none of them to be written."""
    world = World([scenes.policy(then__mode="Observe")], {A: lambda second: 47 if second < 900 else 0})
    world.run(1300)
    assert world.whats() == ["Limited", "Stepped", "Lifted"]
    assert not any(d.enforced or d.write for _, d in world.decisions)


@pytest.mark.parametrize("mode", ["Observe", "Disabled"])
def test_a_policy_that_acts_no_more_takes_its_limits_away(mode: str) -> None:
    """At once; and what would be done is told from the beginning."""
    world = World([scenes.policy()], greedy(A), persons=[scenes.persons_limit(C)])
    world.run(100)
    world.policies = [scenes.policy(generation=2, then__mode=mode)]
    world.run(1)
    assert world.whats() == ["Limited", "Removed"]
    assert not world.made


def test_a_policy_that_is_gone_takes_its_limits_away() -> None:
    """Also after a restart, and those of persons stay."""
    for restarts in (False, True):
        world = World([scenes.policy()], greedy(A))
        world.run(100)
        world.policies = []
        if restarts:
            world.restart()
        world.run(1)
        assert world.whats() == ["Limited", "Removed"]
        assert world.decisions[-1][1].why == "the policy is gone"
        assert not world.made


def test_a_policy_that_was_made_again_begins_anew() -> None:
    """What an earlier policy of that name made goes, which pardons nobody: the new one limits by what it sees."""
    world = World([scenes.policy()], greedy(A))
    world.run(100)
    world.policies = [scenes.policy(uid="v")]
    world.run(1)
    assert world.whats() == ["Limited", "Removed"]
    assert not world.made
    world.run(60)
    assert [(d.what, d.step) for _, d in world.decisions[2:]] == [(What.LIMITED, 1)]
    ((_, made),) = world.made.items()
    assert made.metadata.policy_uid == "v"


def test_a_node_that_is_gone_keeps_no_limit() -> None:
    """A client of two nodes is lifted by what the one that is left says; a silent one has to be heard."""
    for gone, whats in ((True, ["Limited", "Lifted"]), (False, ["Limited"])):
        world = World([scenes.policy(lift__forSeconds=60)], {A: lambda second: 47 if second < 100 else 0})
        world.nodes = {NODE: {}, "other": {}}
        world.run(60)
        report = Report("other", world.now.steady, 1.0, (Amount(scenes.client(A), 1e5),))
        world.decide([report])
        if gone:
            world.nodes = {NODE: {}}
        world.run(300)
        assert world.whats() == whats


def test_from_observe_to_enforce_nobody_is_taken_over() -> None:
    """What would have been is no record: the first real limit is the first step, and nobody is remembered."""
    world = World([scenes.policy(then__mode="Observe")], greedy(A))
    world.run(700)
    assert world.whats() == ["Limited", "Stepped"]
    world.policies = [scenes.policy(generation=2)]
    world.run(100)
    assert [(d.what, d.step) for _, d in world.decisions[2:]] == [(What.LIMITED, 1)]


def test_an_edit_to_a_lower_rate_while_limited() -> None:
    """The limit is changed at once, and lasts no longer than before."""
    world = World([scenes.policy()], greedy(A))
    world.run(100)
    end = world.decisions[0][1].expires_at
    steps = [{"rate": "8Mbit", "ttlSeconds": 900}, {"rate": "5Mbit", "ttlSeconds": 1000}]
    world.policies = [scenes.policy(generation=2, then__steps=steps)]
    world.run(2)
    assert world.whats() == ["Limited", "Adjusted"]
    assert world.rate(A) == 8
    assert world.decisions[1][1].expires_at <= end
    assert world.decisions[1][1].write is Write.CHANGE


def test_a_rate_that_a_person_wrote_into_a_made_limit_stays() -> None:
    """Its use is told by that rate then."""
    world = World([scenes.policy(lift__forSeconds=60)], greedy(A))
    world.run(100)
    ((name, made),) = world.made.items()
    egress = made.spec.egress.model_copy(update={"rate": 4_000_000})
    world.made[name] = made.model_copy(update={"spec": made.spec.model_copy(update={"egress": egress})})
    world.run(300)
    assert world.whats() == ["Limited"]
    assert world.rate(A) == 4


def test_a_write_that_is_refused_is_told_and_tried_again_later() -> None:
    """Guard rails refuse the limit: nobody is limited, the obstacle is there, and after a minute it is tried again."""
    world = World([scenes.policy()], greedy(A))
    while not world.decisions:
        world.run(1)
    world.made.clear()
    ((_, decision),) = world.decisions
    world.book, failed = books.refused(world.book, decision, "rule protected", world.now)
    assert (failed.what, failed.why, failed.write) == (What.FAILED, "rule protected", None)
    world.run(50)
    assert world.whats() == ["Limited", "Blocked"]
    assert world.decisions[1][1].block == (machine.Obstacle.REFUSED, "rule protected")
    world.run(20)
    assert [(d.what, d.step) for _, d in world.decisions[2:]] == [(What.LIMITED, 1)]


def test_a_delete_that_did_not_happen_is_decided_again() -> None:
    """A limit that should be gone and is there after half a minute is deleted once more."""
    world = World([scenes.policy()], greedy(A))
    world.run(100)
    kept = dict(world.made)
    world.policies = []
    world.run(1)
    world.made.update(kept)
    world.run(20)
    assert world.whats() == ["Limited", "Removed"]
    world.run(20)
    assert world.whats() == ["Limited", "Removed", "Removed"]
    assert not world.made


def test_reports_that_cannot_be_are_no_reports() -> None:
    """No time that passed, numbers that are none: nothing is counted."""
    world = World([scenes.policy()], {})
    for seconds, number_bytes in ((0.0, 1e12), (-1.0, 1e12), (1.0, float("nan")), (1.0, float("inf")), (1.0, -1e12)):
        for second in range(100):
            world.second = second
            world.decide([Report(NODE, world.now.steady, seconds, (Amount(scenes.client(A), number_bytes),))])
    assert not world.decisions
    assert not world.book.entries["fair"].clients


def test_a_scan_of_addresses_leaves_nothing() -> None:
    """However many addresses get a little, the book stays small, and the greedy one among them is found."""
    world = World([scenes.policy()], {})
    for second in range(120):
        world.second = second
        scanned = tuple(Amount(Prefix(4, (11 << 24) + 100 * second + n, 32), 1500.0) for n in range(100))
        world.decide([Report(NODE, world.now.steady, 1.0, (*scanned, Amount(scenes.client(A), 50e6 / 8)))])
    assert [d.client for _, d in world.decisions] == [scenes.client(A)]
    assert len(world.book.entries["fair"].clients) <= 2 * books.CLIENTS_MAX


def test_what_nodes_are_asked_for() -> None:
    """Nothing without a policy that looks; else the least floor and the finest groups."""
    assert reports.sampling([scenes.policy(then__mode="Disabled")]) is None
    one = scenes.policy(watch__groupBy={"ipv4": 24})
    other = scenes.policy("b", when={"volume": {"above": "9G", "withinSeconds": 7200}}, watch__ports=[{"port": 993}])
    assert reports.sampling([one]) == (20e6, 24, 64, False)
    assert reports.sampling([one, other]) == (5e6, 32, 64, True)
    assert reports.sampling([scenes.policy(when={"share": {"abovePercent": 5}})]) == (0.0, 32, 64, False)


# ── whatever happens ───────────────────────────────────────────────────────────────────────────────────────────

EXEMPT = scenes.client("203.0.113.0/30")
PROTECTED = scenes.client("203.0.113.8/31")
PERSONS = "203.0.113.12/30"
ACTS = ("nothing", "restart", "forward", "back", "delete", "silent", "edit", "observe", "enforce", "person", "refuse")
# After these a program cannot know of every limit that was made in the last minute.
FORGETS = {"restart", "forward", "back", "delete", "observe", "refuse"}


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """What happens, how long until the next, and a seed for who gets how much then."""
    return draw(
        st.lists(st.tuples(st.sampled_from(ACTS), st.integers(1, 90), st.integers(0, 2**16)), min_size=1, max_size=8)
    )


@settings(max_examples=20)
@given(lives(), st.integers(1, 4), st.integers(1, 3))
def test_nobody_is_limited_who_must_not_be_whatever_happens(life: list[Any], most: int, per_minute: int) -> None:
    """Traffic, deaths, clocks, persons: never an exempt, protected or taken address, too many, too long or two."""
    policy = scenes.policy(
        when__rate__forSeconds=10,
        then__steps=[{"rate": "20Mbit", "ttlSeconds": 60}, {"rate": "5Mbit", "ttlSeconds": 90}],
        then__memorySeconds=120,
        lift__forSeconds=30,
        safety={"maxLimits": most, "maxNewPerMinute": per_minute, "exempt": [addresses.write_cidr(EXEMPT)]},
    )
    world = World(
        [policy], {}, persons=[scenes.persons_limit(PERSONS)], protected=frozenset({PROTECTED}), report_seconds=2
    )
    made_at: dict[str, int] = {}
    for act, seconds, seed in life:
        source = random.Random(seed)
        world.demands = {f"203.0.113.{n}": _steady(source.choice((0, 10, 47, 300))) for n in range(18)}
        world.silent = act == "silent"
        generation = world.policies[0].metadata.generation
        if act == "restart":
            world.restart()
        elif act in ("forward", "back"):
            world.set_forward_seconds += (1 if act == "forward" else -1) * source.choice((5, 70, 4000))
        elif act == "delete":
            world.made = dict(list(world.made.items())[1:])
        elif act in ("edit", "observe", "enforce"):
            then = {"mode": "Observe" if act == "observe" else "Enforce"}
            spec = world.policies[0].spec
            spec = spec.model_copy(update={"then": spec.then.model_copy(update=then)})
            metadata = policy.metadata.model_copy(update={"generation": generation + 1})
            world.policies = [policy.model_copy(update={"spec": spec, "metadata": metadata})]
        elif act == "person":
            world.persons = [
                scenes.persons_limit(PERSONS),
                scenes.persons_limit(f"203.0.113.{source.randrange(18)}", name="b"),
            ]
        for _ in range(seconds):
            decided = world.run(1)
            if act == "refuse":
                for _, decision in decided:
                    if decision.write is Write.MAKE:
                        world.made.pop(decision.limit)
                        world.book, _ = books.refused(world.book, decision, "no", world.now)
            _check(world, most, made_at)
    starts = [second for second, d in world.decisions if d.write is Write.MAKE]
    if not {act for act, _, _ in life} & FORGETS:
        for second in starts:
            assert sum(second <= other < second + 60 for other in starts) <= per_minute


def _steady(mbits: float) -> scenes.Demand:
    return lambda _: mbits


def _check(world: World, most: int, made_at: dict[str, int]) -> None:
    clients = [client for each in world.made.values() for client in each.spec.clients]
    assert len(clients) == len(set(clients)) <= most
    for name in world.made.keys() - made_at.keys():
        made_at[name] = world.second
    for name in made_at.keys() - world.made.keys():
        del made_at[name]
    for second, decision in world.decisions:
        if second == world.second and decision.write in (Write.MAKE, Write.CHANGE):
            made_at[decision.limit] = second
            assert decision.expires_at - decision.at <= {1: 60, 2: 90}[decision.step]
    for name, each in world.made.items():
        assert world.second - made_at[name] <= 91, name
        for client in each.spec.clients:
            for other in (EXEMPT, PROTECTED, *(c for limit in world.persons for c in limit.spec.clients)):
                assert not addresses.covers(other, client)
                assert not addresses.covers(client, other)


NETWORKS = st.builds(
    lambda last, length: scenes.client(f"203.0.113.{last >> (32 - length) << (32 - length)}/{length}"),
    st.integers(0, 63),
    st.integers(26, 32),
)
SOME = st.frozensets(NETWORKS, max_size=4)


@settings(max_examples=200)
@given(
    exempt=SOME,
    protected=SOME,
    persons=SOME,
    clients=st.frozensets(st.integers(0, 63), max_size=40),
    groups=st.tuples(st.integers(26, 32), st.integers(26, 32)),
    most=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    modes=st.tuples(st.sampled_from(["Enforce", "Observe", "Disabled"]), st.sampled_from(["Enforce", "Observe"])),
)
def test_at_once_nobody_is_limited_who_must_not_be(
    exempt: frozenset[Prefix],
    protected: frozenset[Prefix],
    persons: frozenset[Prefix],
    clients: frozenset[int],
    groups: tuple[int, int],
    most: tuple[int, int],
    modes: tuple[str, str],
) -> None:
    """Everybody is too much at the same moment for two policies: nobody who must not, none too many, no overlap."""
    policies = [
        scenes.policy(
            name,
            watch__groupBy={"ipv4": length},
            then__mode=mode,
            safety={"maxLimits": limits, "maxNewPerMinute": 8, "exempt": sorted(map(addresses.write_cidr, exempt))},
        )
        for name, length, limits, mode in zip("ab", groups, most, modes, strict=True)
    ]
    theirs = [scenes.persons_limit(addresses.write(each), name=f"p{n}") for n, each in enumerate(sorted(persons))]
    around = surroundings.read(theirs, protected_addresses.index(protected), {NODE: {}}, scenes.EPOCH)
    amounts = tuple(Amount(scenes.client(f"203.0.113.{n}"), 1e12 + n) for n in sorted(clients))
    now = Now(1000.0, scenes.EPOCH)
    _, decided = rounds.decide(Book(), policies, [Report(NODE, 1000.0, 60.0, amounts)], around, now)
    made = [each for each in decided if each.write is Write.MAKE]
    for each in made:
        for other in exempt | protected | persons:
            assert not addresses.covers(other, each.client)
            assert not addresses.covers(each.client, other)
    for one in made:
        assert not any(addresses.covers(one.client, other.client) for other in made if other is not one)
    for policy, limits in zip(policies, most, strict=True):
        ours = [each for each in made if each.policy == policy.name]
        assert len(ours) <= limits
        assert not ours or policy.spec.then.mode == "Enforce"
    free = {
        n
        for n in clients
        if not any(addresses.covers(o, scenes.client(f"203.0.113.{n}")) for o in exempt | protected | persons)
    }
    if free and groups == (32, 32) and modes[0] == "Enforce":
        assert len([each for each in made if each.policy == "a"]) == min(len(free), most[0])


def test_the_end_of_a_book_is_bounded() -> None:
    """At most two hundred are remembered over a restart, those that are remembered for longest."""
    now = Now(1000.0, scenes.EPOCH)
    texts = [f"203.0.{n // 250}.{n % 250} 1 Ended {int(scenes.EPOCH) + 100 + n}" for n in range(500)]
    book, _ = memory.remember(Book(), scenes.policy(), texts, {}, now)
    kept = memory.remembered(book.entries["fair"], now)
    assert len(kept) == memory.ENDED_MAX
    assert kept[0].endswith(str(int(scenes.EPOCH) + 599))
