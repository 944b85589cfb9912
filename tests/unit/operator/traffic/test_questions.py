"""The life and death of questions, and what they ask of the nodes together; the time is handed in."""

from __future__ import annotations

import dataclasses
import math

from bandwidth_api.crds import asked
from bandwidth_api.crds.asked import Asked
from bandwidth_api.crds.traffic_query import Query, Spec
from bandwidth_operator.traffic.questions import (
    ASK_AGAIN_SECONDS,
    PER_AUTHOR_MAX,
    QUESTIONS_MAX,
    Questions,
    nodes_of,
)

AGENTS = frozenset({"a", "b", "c"})


def query(name: str = "q", generation: int = 1, renewed_at: float | None = None, **spec: object) -> Query:
    made = Spec(**spec)  # type: ignore[arg-type]
    return Query(name, f"uid-{name}", generation, made, created=f"created-{name}", renewed_at=renewed_at)


def noted(*queries: Query, now: float = 100.0, server: float | None = None) -> Questions:
    questions = Questions()
    questions.note({q.name: q for q in queries}, now, server)
    return questions


def asking(questions: Questions, before: Asked | None, now: float, agents: frozenset[str] = AGENTS) -> Asked | None:
    """One turn: what the head carries after it."""
    wanted = questions.to_ask(questions.census(now).living, agents, (), before, now, 7)
    if wanted is not None and wanted != before:
        questions.was_asked(wanted, now)
    return wanted


# ── life and death ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_question_lives_for_less_than_a_minute_and_is_dead_then() -> None:
    """Unless it is renewed, it lives for 56 s after it was seen, and is to be deleted from then on."""
    questions = noted(query())
    assert [q.name for q in questions.census(155.9).living] == ["q"]
    assert questions.census(155.9).next_at == 156.0
    census = questions.census(156.0)
    assert (census.living, [q.name for q in census.dead]) == ((), ["q"])


def test_another_generation_is_a_renewal_and_a_status_is_none() -> None:
    """The life begins anew with each change of the spec; the same generation once more changes nothing."""
    questions = noted(query())
    questions.note({"q": query()}, 130.0, None)
    assert questions.census(150.0).next_at == 156.0
    questions.note({"q": query(generation=2)}, 150.0, None)
    assert questions.census(160.0).next_at == 206.0


def test_a_short_life_ends_before_the_question_is_deleted() -> None:
    """A question of 5 s is not answered after that, and can be read for the rest of its minute."""
    questions = noted(query(seconds=5))
    census = questions.census(105.0)
    assert (census.living, [q.name for q in census.ended], census.dead) == ((), ["q"], ())
    assert census.next_at == 156.0
    assert questions.census(156.0).dead


def test_a_new_leader_knows_how_old_a_question_is() -> None:
    """By the server's clock: an operator that takes over gives no question another minute."""
    questions = noted(query(renewed_at=5000.0), now=100.0, server=5050.0)
    assert questions.census(105.0).living
    assert questions.census(106.0).dead
    assert noted(query(renewed_at=9000.0), now=100.0, server=5050.0).census(155.0).living  # a clock that is wrong
    assert noted(query(renewed_at=1.0), now=100.0, server=5050.0).census(100.0).dead


def test_one_that_is_asked_again_under_the_same_name_is_another() -> None:
    """Deleted and created again, it has a life of its own."""
    questions = noted(query())
    other = dataclasses.replace(query(), uid="another")
    questions.note({"q": other}, 150.0, None)
    assert questions.census(200.0).living


def test_no_more_than_sixteen_live() -> None:
    """The oldest ones are answered, however many there are; all others are surplus until these end."""
    many = [dataclasses.replace(query(f"q{n:03d}"), author=f"user {n}") for n in range(1000)]
    census = noted(*many).census(100.0)
    assert [q.name for q in census.living] == [f"q{n:03d}" for n in range(QUESTIONS_MAX)]
    assert len(census.surplus) == 1000 - QUESTIONS_MAX


def test_nobody_keeps_others_from_asking() -> None:
    """One who asks a thousand times, first and under names that come first, has one answer before others have theirs;
    what is beyond a bound is deleted, whether it is renewed or not."""
    many = [dataclasses.replace(query(f"a{n:04d}"), author="eve") for n in range(1000)]
    others = [dataclasses.replace(query(f"z{n}"), author=f"user {n}") for n in range(5)]
    questions = noted(*many, *others)
    questions.note({q.name: dataclasses.replace(q, generation=2) for q in (*many, *others)}, 110.0, None)
    census = questions.census(111.0)
    assert [q.name for q in census.living[:6]] == ["a0000", "z0", "z1", "z2", "z3", "z4"]
    assert len(census.living) == QUESTIONS_MAX
    assert len(census.living) + len(census.surplus) == PER_AUTHOR_MAX + 5
    assert len(census.flood) == 1000 - PER_AUTHOR_MAX
    assert {q.author for q in census.flood} == {"eve"}


# ── what is asked of the nodes ─────────────────────────────────────────────────────────────────────────────────


def test_nobody_asks_and_nothing_is_asked() -> None:
    """Without a question the head carries nothing, also if it did before, and nothing is ever due."""
    questions = noted()
    assert questions.to_ask((), AGENTS, (), Asked(3, 60), 100.0) is None
    assert questions.ask_next_at((), 100.0) == math.inf


def test_all_who_ask_share_one_stream() -> None:
    """The most rows, the shortest interval, all groups, all nodes that anybody names."""
    questions = noted(
        query("a", top=5, interval_seconds=10, nodes=("a", "gone")),
        query("b", top=30, interval_seconds=4, group=asked.NETWORK, nodes=("b",)),
    )
    assert asking(questions, None, 100.0) == Asked(7, 56, 4, 0, 30, asked.GROUPS, ("a", "b"))
    questions.note({q.name: q for q in (query("a", nodes=("a",)), query("c"))}, 110.0, None)
    union = asking(questions, Asked(7, 60), 110.0)
    assert union is not None
    assert union.nodes == ()


def test_nobody_that_is_named_is_there() -> None:
    """A question for nodes without an agent asks none, and not all of them."""
    union = asking(noted(query(nodes=("gone",))), None, 100.0)
    assert union is not None
    assert not any(union.asks(node) for node in AGENTS)
    assert nodes_of(query(nodes=("gone",)), AGENTS) == frozenset()


def test_renewals_are_handed_on_rarely() -> None:
    """A hundred renewals a second for two minutes rewrite the head every 15 s, and nodes never run out of time."""
    questions, head, writes, until = noted(query()), None, 0, 0.0
    now, generation = 100.0, 1
    while now < 220.0:
        generation += 1
        questions.note({"q": query(generation=generation)}, now, None)
        wanted = asking(questions, head, now)
        assert wanted is not None
        if wanted != head:
            writes, head, until = writes + 1, wanted, now + wanted.seconds
        assert until > now
        now += 0.01
    assert writes == 120 / ASK_AGAIN_SECONDS
    assert head is not None
    assert head.renewal == 7 + writes - 1


def test_what_is_asked_otherwise_is_written_within_two_seconds() -> None:
    """Whatever people change, the head is written every 2 s at most."""
    questions, head, writes, now, generation = noted(query()), None, 0, 100.0, 1
    while now < 120.0:
        generation += 1
        questions.note({"q": query(generation=generation, top=1 + generation % 50)}, now, None)
        wanted = asking(questions, head, now)
        writes, head = writes + (wanted != head), wanted
        now += 0.1
    assert 9 <= writes <= 10


def test_nodes_get_the_time_that_is_left() -> None:
    """What is asked late, or by a leader that took over, ends with the question and not a minute later."""
    questions = noted(query(renewed_at=1000.0), now=100.0, server=1042.0)
    union = asking(questions, Asked(3, 60), 100.0)
    assert union is not None
    assert (union.renewal, union.seconds) == (4, 14)


def test_without_a_renewal_the_head_stays() -> None:
    """A question that nobody renews is written once, and its end once."""
    questions = noted(query())
    head = asking(questions, None, 100.0)
    for now in range(101, 156):
        assert asking(questions, head, float(now)) == head
    assert questions.ask_next_at(questions.census(150.0).living, 150.0) == math.inf
    assert asking(questions, head, 160.0) is None


def test_reports_never_exceed_fifty_a_second() -> None:
    """The interval is 2 s up to 100 nodes and 100 s with 5,000, and the first reports are spread over as long."""
    for nodes, seconds in ((1, 2), (3, 2), (100, 2), (101, 3), (1000, 20), (5000, 100)):
        assert asked.interval_seconds(nodes) == seconds
        assert nodes / asked.interval_seconds(nodes) <= asked.REPORTS_PER_SECOND
        assert nodes <= asked.REPORTS_PER_SECOND or nodes / asked.spread_seconds(nodes) <= asked.REPORTS_PER_SECOND
    agents = frozenset(f"n{n}" for n in range(5000))
    union = asking(noted(query()), None, 100.0, agents)
    assert union is not None
    assert (union.interval_seconds, union.spread_seconds, union.nodes) == (100, 100, ())


def test_nodes_that_come_and_go_do_not_rewrite_the_head() -> None:
    """The interval stays while it is long enough and no more than a quarter too long."""
    questions = noted(query())
    head = asking(questions, None, 100.0, frozenset(f"n{n}" for n in range(5000)))
    for count in (4960, 4500, 4001, 4700, 5000):
        assert asking(questions, head, 110.0, frozenset(f"n{n}" for n in range(count))) == head
    fewer = asking(questions, head, 110.0, frozenset(f"n{n}" for n in range(2000)))
    assert fewer is not None
    assert fewer.interval_seconds == 40


def test_clients_that_are_named_are_asked_for_in_turn() -> None:
    """The first of each question before the second of any, up to sixteen, each once."""
    many = [query(f"q{n:02d}", clients=(f"198.51.100.{n}", "203.0.113.7", f"192.0.2.{n}")) for n in range(10)]
    union = asking(noted(*many), None, 100.0)
    assert union is not None
    assert len(union.clients) == asked.CLIENTS_MAX
    assert {f"198.51.100.{n}" for n in range(10)} | {"203.0.113.7"} <= set(union.clients)
