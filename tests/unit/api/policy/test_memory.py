"""A pardon outlives whoever decides: it may die at any moment, and a person may delete a limit at any other."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandwidth_api import addresses
from bandwidth_api.crds import limit as limits
from bandwidth_api.crds.limit import Limit
from bandwidth_api.plan import Prefix
from bandwidth_api.policy import books, made_limit, memory, rounds
from bandwidth_api.policy.books import Book
from bandwidth_api.policy.decision import Decision, What, Write
from bandwidth_api.policy.reports import Report
from unit.api.policy import scenes
from unit.api.policy.scenes import World

A, B = "203.0.113.7", "203.0.113.8"
MEMORY_SECONDS = 150
STATUS_SECONDS = 3
LETS_GO = (What.LIFTED, What.EXPIRED, What.RELEASED, What.REMOVED)


class KilledError(Exception):
    """Whoever decides dies here."""


@dataclasses.dataclass
class Server(World):
    """An API server with a status for the policy, and a program that writes both one after the other, and may die."""

    texts: tuple[str, ...] = ()  # of the status
    writes_left: int | None = None  # before it dies; None: it lives
    alive: bool = True
    readable: bool = True  # the policy
    began: bool = True  # what lives has read what is remembered
    deletions: dict[Prefix, list[float]] = dataclasses.field(default_factory=dict)  # by a person, `Now.steady`
    makings: dict[Prefix, list[float]] = dataclasses.field(default_factory=dict)
    _told_at: int = -10

    def decide(self, reports: list[Report]) -> None:
        """One round of a program that lives, and what it writes, or a part of that."""
        if not self.alive:
            return
        try:
            self._round(reports)
        except KilledError:
            self.alive, self.book, self.writes_left = False, Book(), None

    def start(self) -> None:
        """Another program begins."""
        if not self.alive:
            self.alive, self.book, self.began = True, Book(), False
            self.read_again(self.readable)

    def kill(self) -> None:
        self.alive, self.book = False, Book()

    def read_again(self, readable: bool) -> None:
        """The policy can be read from now on, or not any more."""
        self.readable = readable
        if readable and self.alive and not self.began:
            self.began = True
            self.begin({"fair": self.texts})

    def delete(self, text: str) -> None:
        """A person deletes the limit of a client."""
        client = scenes.client(text)
        found = self.made.pop(made_limit.name("fair", client), None)
        if found is None or (found.expires_at(0) or 0) <= self.now.wall:
            return
        last = next((d for _, d in reversed(self.decisions) if d.client == client and d.enforced), None)
        if last is None or last.what not in LETS_GO:
            self.deletions.setdefault(client, []).append(self.now.steady)

    def _round(self, reports: list[Report]) -> None:
        policies, unread = (self.policies, ()) if self.readable else ([], ("fair",))
        self.book, decided = rounds.decide(self.book, policies, reports, self.around(), self.now, unread)
        self.decisions += [(self.second, each) for each in decided]
        entry = self.book.entries.get("fair")
        texts = self.texts if entry is None else memory.remembered(entry, self.now)
        at_once = memory.limited(texts) != memory.limited(self.texts)
        if texts != self.texts and (at_once or self.second - self._told_at >= STATUS_SECONDS):
            self._dies()
            self.texts, self._told_at = texts, self.second
        for each in decided:
            if each.write is not None:
                self._dies()
                self._write(each)

    def _dies(self) -> None:
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                raise KilledError

    def _write(self, decision: Decision) -> None:
        if decision.write is Write.DELETE:
            self.made.pop(decision.limit, None)
            return
        before = self.made.get(decision.limit)
        if before is None and decision.write is Write.CHANGE:
            return
        if before is None:
            self.makings.setdefault(decision.client, []).append(self.now.steady)
        written = made_limit.document(self.policies[0], decision)
        written["metadata"]["creationTimestamp"] = "2030-01-01T00:00:00Z"
        found = limits.parse(written)
        assert isinstance(found, Limit), found
        created = self.now.wall if before is None else before.created_at
        self.made[decision.limit] = found.model_copy(
            update={"metadata": found.metadata.model_copy(update={"creation_timestamp": created})}
        )
        self.book = books.written(self.book, decision, self.now)

    def broken(self) -> list[tuple[str, float, float]]:
        """Each limit that was made too early after a deletion: the client, when it was deleted, when it was made."""
        return [
            (addresses.write(client), deleted, made)
            for client, all_made in self.makings.items()
            for made in all_made
            for deleted in self.deletions.get(client, ())
            if deleted <= made < deleted + MEMORY_SECONDS
        ]


def policy(**changes: Any) -> Any:
    quick: dict[str, Any] = {
        "when__rate__forSeconds": 5,
        "then__memorySeconds": MEMORY_SECONDS,
        "then__steps": [{"rate": "20Mbit", "ttlSeconds": 60}, {"rate": "10Mbit", "ttlSeconds": 90}],
        "lift__forSeconds": 30,
    }
    return scenes.policy(**(quick | changes))


def server() -> Server:
    """Two greedy clients, one of which stops now and then."""
    return Server([policy()], {A: lambda _: 60, B: lambda second: 60 if second % 200 < 100 else 0})


def act(world: Server, what: str, number: int) -> None:
    """One event of a life."""
    if what == "run":
        world.run(number)
    elif what == "dies":  # after so many more writes
        if world.alive:
            world.writes_left = number % 4
    elif what == "kill":
        world.kill()
    elif what == "start":
        world.start()
    elif what == "delete":
        world.delete((A, B)[number % 2])
    elif what == "mode":
        mode = ("Enforce", "Observe", "Disabled")[number % 3]
        world.policies = [policy(generation=world.policies[0].metadata.generation + 1, then__mode=mode)]
    else:
        world.read_again(readable=number % 2 == 0)


def events(*what: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    one = st.tuples(st.sampled_from(what), st.integers(0, 40))
    run = st.tuples(st.just("run"), st.integers(1, 70))
    return st.lists(st.tuples(run, one, st.sampled_from([("start", 0), ("run", 0)])).map(list), min_size=3).map(
        lambda parts: [each for part in parts for each in part]
    )


@given(life=events("run", "dies", "kill", "delete", "delete", "mode", "readable"))
@settings(max_examples=150, deadline=None)
def test_no_limit_follows_a_deletion_within_the_memory(life: list[tuple[str, int]]) -> None:
    """At whatever moment a person deletes it, a program dies, none runs, another begins, the mode is another, or the
    policy cannot be read for a while."""
    world = server()
    world.run(6)
    for what, number in life:
        act(world, what, number)
    world.read_again(readable=True)
    world.start()
    world.policies = [policy(generation=99)]
    world.run(60)
    assert world.broken() == []


@given(life=events("run", "kill", "readable"))
@settings(max_examples=60, deadline=None)
def test_nobody_is_pardoned_whom_nobody_pardoned(life: list[tuple[str, int]]) -> None:
    """A program that dies between two rounds, and a policy that cannot be read for a while, pardon nobody."""
    world = server()
    world.run(6)
    for what, number in life:
        act(world, what, number)
    world.read_again(readable=True)
    world.start()
    world.run(20)
    assert "Pardoned" not in world.whats()
    assert world.made or world.whats()[-1] == "Expired"


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_who_dies_between_the_status_and_the_limit_leaves_the_client_alone(writes: int) -> None:
    """The status told of a limit that was never made: that looks like a deletion, and is taken for one. Without the
    status nothing was made either, and with the limit it goes on."""
    world = Server([policy()], {A: lambda _: 60})
    world.writes_left = writes
    while world.alive and world.second < 20:
        world.run(1)
    world.kill()
    world.start()
    world.run(20)
    assert world.whats() == [["Limited", "Limited"], ["Limited", "Pardoned", "Blocked"], ["Limited"]][writes]


@pytest.mark.parametrize("absent", [0, 30, 59, 61, 100])
def test_a_limit_that_is_deleted_while_nothing_runs(absent: int) -> None:
    """It is a pardon, told when a program runs again, also after the end that the limit had."""
    world = Server([policy()], {A: lambda _: 60})
    world.run(10)
    world.kill()
    world.delete(A)
    deleted_at = world.second
    world.run(absent)
    world.start()
    world.run(MEMORY_SECONDS + 30)
    assert world.whats()[:4] == ["Limited", "Pardoned", "Blocked", "Limited"]
    assert world.decisions[1][1].limit == made_limit.name("fair", scenes.client(A))
    assert world.decisions[1][1].why == memory.WHY
    assert deleted_at + MEMORY_SECONDS <= world.decisions[3][0]


def test_a_limit_that_is_deleted_before_it_was_read() -> None:
    """It was answered that it is written, so it was there; a cache that is late is waited for."""
    world = Server([policy()], {A: lambda _: 60})
    while not world.made:
        world.run(1)
    world.delete(A)
    world.run(9)
    assert world.whats() == ["Limited"]
    world.run(30)
    assert world.whats() == ["Limited", "Pardoned", "Blocked"]


def test_a_cache_that_is_late_heals() -> None:
    """A limit that is read later than a deletion would be believed is taken over again."""
    world = Server([policy()], {A: lambda _: 60})
    while not world.made:
        world.run(1)
    hidden = dict(world.made)
    world.made.clear()
    world.run(20)
    world.made.update(hidden)
    world.run(5)
    assert world.whats() == ["Limited", "Pardoned", "Blocked"]
    assert books.limited(world.book) == {scenes.client(A)}


def test_a_deletion_in_the_last_moment_is_one() -> None:
    """Between the last round before the end of a limit and the first one after it, or when the clock says so."""
    for forward in (0, 600):
        world = Server([policy(then__steps=[{"rate": "20Mbit", "ttlSeconds": 60}])], {A: lambda _: 60})
        world.run(10)
        ((_, limited),) = world.decisions
        world.policies = [policy(generation=2, lift__whenBelowPercent=0)]
        world.demands[A] = lambda _: 12  # it does not press: no step follows
        world.run(int(limited.expires_at - world.now.wall) - 1)
        world.delete(A)
        world.set_forward_seconds = forward
        world.run(2)
        assert world.whats()[-1] == "Pardoned"


def test_what_is_remembered_in_other_modes() -> None:
    """Pardons, in Observe where they stand in the way, and in Disabled; not who was slowed."""
    world = Server([policy()], {A: lambda _: 60, B: lambda second: 60 if second < 20 else 0})
    world.run(80)
    world.delete(A)
    world.run(5)
    assert sorted(text.split()[2] for text in world.texts) == ["Ended", "Pardoned"]
    for number, mode in enumerate(("Observe", "Disabled", "Enforce"), 2):
        world.policies = [policy(generation=number, then__mode=mode)]
        world.run(10)
        assert [text.split()[2] for text in world.texts] == ["Pardoned"]
        world.kill()
        world.start()
        world.run(10)
        assert [text.split()[2] for text in world.texts] == ["Pardoned"], mode
    observed = [scenes.block(each) for _, each in world.decisions if not each.enforced]
    assert set(observed) == {"Pardoned"}


def test_a_policy_that_was_made_again_remembers_nothing() -> None:
    """Neither from the one before it, which had another uid, nor as a deletion of what that one made."""
    world = Server([policy()], {A: lambda _: 60})
    world.run(10)
    world.delete(A)
    world.run(3)
    world.policies, world.texts = [policy(uid="v")], ()
    world.kill()
    world.start()
    world.run(10)
    assert world.whats()[-1] == "Limited"


def test_while_a_policy_cannot_be_read_its_limits_stay_until_they_end() -> None:
    """Nothing new, nothing longer; other policies leave their clients alone."""
    world = Server([policy()], {A: lambda _: 60, B: lambda second: 60 if second > 20 else 0})
    world.run(10)
    (end,) = (each.expires_at(0) for each in world.made.values())
    world.read_again(readable=False)
    world.run(200)
    assert [made_limit.name("fair", scenes.client(A))] == list(world.made)
    assert [each.expires_at(0) for each in world.made.values()] == [end]
    assert world.whats() == ["Limited"]
    assert world.rate(A) == 1e9
    beside = policy()
    beside = beside.model_copy(update={"metadata": beside.metadata.model_copy(update={"name": "beside"})})
    report = scenes.Report(scenes.NODE, world.now.steady, 5.0, (scenes.Amount(scenes.client(A), 60e6),))
    _, decided = rounds.decide(world.book, [beside], [report], world.around(), world.now, ("fair",))
    assert [scenes.block(each) for each in decided] == ["OtherPolicy"]


def test_while_a_policy_cannot_be_read_no_pardon_is_forgotten() -> None:
    """Neither one that was known before, nor a deletion meanwhile."""
    world = Server([policy()], {A: lambda _: 60, B: lambda _: 60})
    world.run(10)
    world.delete(A)
    world.run(2)
    world.read_again(readable=False)
    world.run(5)
    world.delete(B)
    world.run(5)
    world.read_again(readable=True)
    world.run(30)
    assert world.made == {}
    assert [text.split()[2] for text in world.texts] == ["Pardoned", "Pardoned"]


def test_a_deletion_while_a_change_was_refused() -> None:
    """The limit is there as it was, and its deletion in that minute is a pardon too, also over a restart."""
    for restarts in (False, True):
        world = Server([policy()], {A: lambda _: 60})
        world.run(10)
        (made,) = world.made.values()
        steps = [{"rate": "8Mbit", "ttlSeconds": 60}]
        world.policies = [policy(generation=2, then__steps=steps)]
        world.run(1)
        assert world.whats() == ["Limited", "Adjusted"]
        world.made[made.name] = made
        world.book, _ = books.refused(world.book, world.decisions[-1][1], "rule leastRate", world.now)
        world.run(4)
        if restarts:
            world.kill()
        world.delete(A)
        world.start()
        world.run(100)
        assert world.makings == {scenes.client(A): world.makings[scenes.client(A)][:1]}
        assert [text.split()[2] for text in world.texts] == ["Pardoned"]


def test_an_older_status_and_an_older_program() -> None:
    """Without the word the limits are taken over as ever; who does not know it passes it over."""
    world = Server([policy()], {A: lambda _: 60})
    world.run(10)
    world.texts = ()
    world.kill()
    world.start()
    world.run(1)
    assert world.whats() == ["Limited"]
    assert [text.split()[:3] for text in world.texts] == [[A, "1", "Limited"]]


def test_pardons_are_the_last_to_be_forgotten() -> None:
    """Where a status holds no more: first whose limits ended, however long they would be remembered."""
    now = World([], {}).now
    end = int(now.wall)
    texts = [f"203.0.{n // 250}.{n % 250} 1 Ended {end + 5000}" for n in range(300)]
    texts += [f"198.51.{n // 250}.{n % 250} 1 Pardoned {end + 100}" for n in range(600)]
    book, _ = memory.remember(Book(), scenes.policy(), texts, {}, now)
    kept = [text.split()[2] for text in memory.remembered(book.entries["fair"], now)]
    assert kept == ["Pardoned"] * 600 + ["Ended"] * (memory.REMEMBERED_MAX - 600)


@pytest.mark.parametrize(("seconds", "pardoned"), [(-86400, True), (-3600, True), (0, True), (100, True), (1e6, False)])
def test_clocks_of_two_programs_that_differ(seconds: float, pardoned: bool) -> None:
    """Behind or a little ahead nothing is lost, and nobody is left alone for longer than the policy says."""
    world = Server([policy()], {A: lambda _: 60})
    world.run(10)
    world.kill()
    world.delete(A)
    world.set_forward_seconds = seconds
    world.start()
    world.run(6)
    assert ("Pardoned" in world.whats()) is pardoned
    states = world.book.entries["fair"].clients.values()
    assert all(state.remembered_until <= world.now.steady + MEMORY_SECONDS for state in states)
