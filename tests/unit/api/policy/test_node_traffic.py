"""What the nodes are asked for policies, and what a round is told of their answers."""

from __future__ import annotations

import dataclasses

import pytest

from bandwidth_api import addresses
from bandwidth_api.crds import watched, watching
from bandwidth_api.crds.client_rows import Port
from bandwidth_api.crds.policy import Policy
from bandwidth_api.crds.watched import Client, Span, Watched
from bandwidth_api.crds.watching import Watch
from bandwidth_api.plan import Mode, SelectorTerm
from bandwidth_api.policy import books, node_traffic, rounds, surroundings
from bandwidth_api.policy.decision import What
from bandwidth_api.policy.reports import Amount, Now, Report
from unit.api.policy import scenes

CLIENT = addresses.parse("198.51.100.7")
EDGE = SelectorTerm("edge", "In", ("yes",))


def test_nothing_is_asked_without_a_policy() -> None:
    """Nor with policies that are switched off: then no node opens anything."""
    off = scenes.policy(then__mode="Disabled")
    assert node_traffic.asked([], (), 3) is None
    assert node_traffic.asked([off], (), 3) is None
    watch = node_traffic.asked([off, scenes.policy(then__mode="Observe")], (), 3)
    assert watch is not None
    assert len(watch.watches) == 1


def test_the_floor_is_half_of_the_least_threshold() -> None:
    """Of a share each node works it out by what it can carry; of a volume it is the mean that reaches it."""
    rate = scenes.policy()
    volume = scenes.policy("v", when__rate=None, when__volume={"above": "10G", "withinSeconds": 86400})
    share = scenes.policy("s", when__rate=None, when__share={"abovePercent": 50})
    both = scenes.policy("b", when__share={"abovePercent": 10})
    assert node_traffic.watches([rate], 3) == (Watch(20_000_000, None),)
    assert node_traffic.watches([rate, volume], 3) == (Watch(int(8e10 / 86400 / 2), None),)
    assert node_traffic.watches([rate, share], 3) == (Watch(20_000_000, 25),)
    assert node_traffic.watches([both], 3) == (Watch(20_000_000, None),)


def test_of_what_all_nodes_send_together_each_sends_a_part() -> None:
    """A client that gets a fifth of the threshold from each of six nodes is named by all of them."""
    rate, share = {"rate": {"above": "40Mbit"}}, {"share": {"abovePercent": 50}}
    together = [scenes.policy(str(n), when=when, watch__scope="Cluster") for n, when in enumerate((rate, share))]
    assert node_traffic.watches(together, 6) == (Watch(40_000_000 // 12, 50 // 12),)
    assert node_traffic.watches([*together, scenes.policy()], 0) == (Watch(20_000_000, 25),)


def test_who_is_named_first() -> None:
    """Whoever some policy watches and not all of them exempt; as far as a head holds it."""
    some = scenes.policy(watch__clients=["10.0.0.0/8"], safety__exempt=["10.1.0.0/16", "10.2.0.0/24"])
    others = scenes.policy("b", watch__clients=["10.3.0.0/16", "192.0.2.0/24"], safety__exempt=["10.0.0.0/14"])
    everybody = scenes.policy("c", safety__exempt=["10.2.0.7/32"])

    def told(*policies: Policy) -> tuple[list[str], list[str]]:
        asked = node_traffic.asked(policies, (), 3)
        assert asked is not None
        assert watching.read(watching.write(asked)) == asked
        (watch,) = asked.watches
        return [*map(addresses.write, watch.clients)], [*map(addresses.write, watch.exempt)]

    assert told(some) == (["10.0.0.0/8"], ["10.1.0.0/16", "10.2.0.0/24"])
    assert told(some, others) == (["10.0.0.0/8", "192.0.2.0/24"], ["10.1.0.0/16", "10.2.0.0/24"])
    assert told(some, others, everybody) == ([], ["10.2.0.7"])
    many = [scenes.policy(f"p{n}", watch__clients=[f"10.{n}.{m}.0/24" for m in range(32)]) for n in range(3)]
    assert told(*many) == ([], [])


def test_policies_for_the_same_nodes_are_one_watch() -> None:
    """Others have their own; of more than a head holds one is made, for all nodes."""
    here = [scenes.policy(name, watch__nodeSelector={"matchLabels": {"edge": "yes"}}) for name in "ab"]
    fine = scenes.policy("c", watch__groupBy={"ipv4": 24, "ipv6": 128}, watch__ports=[{"protocol": "TCP", "port": 443}])
    assert node_traffic.watches([*here, fine], 3) == (
        Watch(20_000_000, None, 24, 128, ports=True),
        Watch(20_000_000, None, 32, 64, node_selector=(EDGE,)),
    )
    many = [scenes.policy(f"p{n}", watch__nodeSelector={"matchLabels": {"rack": str(n)}}) for n in range(17)]
    assert node_traffic.watches(many, 3) == (Watch(20_000_000, None),)


@pytest.mark.parametrize(
    ("seconds", "nodes", "interval", "silence"),
    [(300, 3, 5, 200), (60, 3, 2, 40), (3600, 3, 5, 300), (300, 1000, 20, 200), (5, 3, 2, 20), (60, 10_000, 200, 200)],
)
def test_reports_are_as_frequent_as_a_decision_needs_them(
    seconds: int, nodes: int, interval: int, silence: int
) -> None:
    """A sixtieth of the shortest window, and no more than 50 a second of all nodes; often enough to be alive."""
    watch = node_traffic.asked([scenes.policy(when__rate__forSeconds=seconds)], (), nodes)
    assert watch is not None
    assert (watch.interval_seconds, watch.silence_seconds) == (interval, silence)
    assert watching.read(watching.write(watch)) == watch


def test_the_limited_are_named() -> None:
    """So that nodes go on naming them; as many as a head holds."""
    clients = [addresses.parse(f"10.0.{n // 256}.{n % 256}") for n in range(600)]
    watch = node_traffic.asked([scenes.policy()], clients, 1)
    assert watch is not None
    assert watch.limited[:2] == ("10.0.0.0", "10.0.0.1")
    assert watching.read(watching.write(watch)) == watch


def test_a_report_is_of_its_time_and_of_the_time_before() -> None:
    """What was before has no candidate; times are the reader's."""
    ports = (Port("TCP", 443, 0.5),)
    of = Watched(
        1, Span(5.0, 1e9), Span(60.0, 2e9), 10**9, (Client(CLIENT, 0.0, 3),), (Client(CLIENT, 1e6, None, ports),)
    )
    before, now = node_traffic.reports("n1", of, 1000.0)
    assert before == Report("n1", 995.0, 60.0, (), 2e9, 10**9)
    assert (now.ended_at, now.seconds, now.sent_bytes, now.capacity_bits_per_second) == (1000.0, 5.0, 1e9, 10**9)
    assert now.amounts == (Amount(CLIENT, 0.0, (), 3), Amount(CLIENT, 1e6, tuple(now.amounts[1].ports), None))
    assert [tuple(port) for port in now.amounts[1].ports] == [("TCP", 443, 0.5)]


def test_a_node_that_cannot_look_says_nothing_of_traffic() -> None:
    """Nothing is made of zeros that nobody counted."""
    assert node_traffic.reports("n1", Watched(1, Span(5.0), trouble="it may not look"), 10.0) == ()
    assert node_traffic.reports("n1", Watched(1), 10.0) == ()


def test_a_round_limits_by_what_a_node_has_written() -> None:
    """From a report on the wire to a decision: 47 Mbit for 60 s, in reports of 5 s, after a time without any."""
    policy = scenes.policy()
    around = dataclasses.replace(surroundings.NOTHING, nodes={"n1": {}})
    book, found = books.Book(), []
    for second in range(5, 80, 5):
        span = Span(5.0, 30e6)
        before = Span(100.0, 1e6) if second == 5 else Span()
        wire = watched.write(Watched(second, span, before, 10**9, (), (Client(CLIENT, 47e6 / 8 * 5),)))
        read = watched.read(wire)
        assert read is not None
        now = Now(1000.0 + second, scenes.EPOCH + second)
        book, decisions = rounds.decide(book, [policy], node_traffic.reports("n1", read, now.steady), around, now)
        found += [(second, each.what, each.client) for each in decisions]
    assert policy.spec.then.mode is Mode.ENFORCE
    assert found == [(55, What.LIMITED, CLIENT)]
