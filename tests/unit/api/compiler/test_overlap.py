"""Who wins where: the rules one by one, ports, and edits to what was resolved before.

That all rules together are right is what test_oracle shows.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bandwidth_api import addresses
from bandwidth_api.compiler.overlap import intervals, losing_limits, port_strips, resolve
from bandwidth_api.compiler.overlap.or_tree import OrTree
from bandwidth_api.plan import ClassKey, Mode, PlanEntry, PortRange, Prefix, Sharing


def entry(limit: str, *clients: str | Prefix, **more: Any) -> PlanEntry:
    """An entry with texts for prefixes and ports as `993`, `1-9` or `UDP:53`."""
    excepted = tuple(addresses.parse(text) for text in more.pop("excepted", ()))
    fields: dict[str, Any] = {
        "limit": limit,
        "uid": "",
        "generation": 1,
        "clients": tuple(addresses.parse(c) if isinstance(c, str) else c for c in clients),
        "excepted": excepted,
        "ports": tuple(port_range(text) for text in more.pop("dialled", ())),
        "rate_bits_per_second": 5_000_000,
        "burst_bytes": None,
        "mode": Mode.ENFORCE,
        "sharing": Sharing.SHARED,
        "priority": 0,
        "created_at": 0.0,
        "expires_at": None,
        "node_selector": (),
    }
    return PlanEntry(**(fields | more))


def port_range(text: str) -> PortRange:
    protocol, _, numbers = text.rpartition(":")
    first, _, last = numbers.partition("-")
    return PortRange(protocol or "TCP", int(first), int(last or first))


def tables(*entries: PlanEntry) -> dict[str, dict[str, str | None]]:
    """The tables by family and ports, in texts: class as `limit` or `limit client`, None for a hole."""
    return {
        f"v{table.family}" + "".join(f" {p.protocol}:{p.first}-{p.last}" for p in table.ports): {
            addresses.write(prefix): None if key is None else f"{key.limit} {key.client}".strip()
            for prefix, key in table.entries.items()
        }
        for table in resolve.resolve(entries).tables
    }


# ── the rules ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing() -> None:
    """No entries, no tables, no classes."""
    assert tables() == {}
    assert resolve.resolve([]).classes == {}


def test_no_overlap() -> None:
    """Entries that touch no other keep what they name, in the table of their family."""
    assert tables(entry("a", "10.0.0.1", "2001:db8::/64"), entry("b", "10.0.0.2", "10.1.0.0/16")) == {
        "v4": {"10.0.0.1": "a", "10.0.0.2": "b", "10.1.0.0/16": "b"},
        "v6": {"2001:db8::/64": "a"},
    }


def test_the_longest_prefix_wins() -> None:
    """Of equal priority, the limit with the longer prefix around an address wins there."""
    wide, narrow = entry("wide", "10.0.0.0/8"), entry("narrow", "10.0.0.1", created_at=5.0)
    assert tables(wide, narrow) == {"v4": {"10.0.0.0/8": "wide", "10.0.0.1": "narrow"}}
    assert resolve.resolve([wide, narrow]).overridden == {"wide": ("narrow",)}


def test_priority_goes_before_prefix() -> None:
    """A higher priority wins over a longer prefix, which then needs no entry and has no class."""
    wide, narrow = entry("wide", "10.0.0.0/8", priority=1), entry("narrow", "10.0.0.1")
    assert tables(wide, narrow) == {"v4": {"10.0.0.0/8": "wide"}}
    resolution = resolve.resolve([wide, narrow])
    assert resolution.classes == {ClassKey("wide", ""): wide}
    assert resolution.overridden == {"narrow": ("wide",)}


def test_the_prefix_that_counts_is_the_one_around_the_address() -> None:
    """A limit with a long prefix elsewhere has no advantage here."""
    one, other = entry("a", "10.0.0.0/16", "10.9.9.9"), entry("b", "10.0.0.0/24", "10.0.0.0/8")
    assert tables(one, other) == {"v4": {"10.0.0.0/8": "b", "10.0.0.0/16": "a", "10.0.0.0/24": "b", "10.9.9.9": "a"}}


def test_age_and_name_decide_ties() -> None:
    """On the same prefix the older limit wins; of one age, the name that comes first."""
    assert tables(entry("a", "10.0.0.1", created_at=2.0), entry("b", "10.0.0.1", created_at=1.0)) == {
        "v4": {"10.0.0.1": "b"}
    }
    assert tables(entry("b", "10.0.0.1"), entry("a", "10.0.0.1")) == {"v4": {"10.0.0.1": "a"}}


def test_except_is_a_hole() -> None:
    """What is excepted has no limit, or belongs to the limit that would win without the one that excepts it."""
    cut = entry("cut", "10.0.0.0/8", excepted=["10.1.0.0/16"], priority=1)
    assert tables(cut) == {"v4": {"10.0.0.0/8": "cut", "10.1.0.0/16": None}}
    assert tables(cut, entry("inside", "10.1.2.0/24"), entry("other", "10.0.0.0/7"))["v4"] == {
        "10.0.0.0/7": "other",
        "10.0.0.0/8": "cut",
        "10.1.0.0/16": "other",
        "10.1.2.0/24": "inside",
    }


def test_except_of_everything_leaves_nothing() -> None:
    """A limit that excepts all its clients has no entry and no class."""
    assert tables(entry("a", "10.0.0.0/8", "10.1.0.0/16", excepted=["10.0.0.0/8"])) == {}
    halves = entry("b", "10.0.0.0/8", excepted=["10.0.0.0/9", "10.128.0.0/9"])
    assert tables(halves) == {}
    assert resolve.resolve([halves, entry("c", "10.0.0.0/7")]).overridden == {}


def test_prefixes_covered_by_longer_ones_need_no_entry() -> None:
    """Where longer prefixes share all of its addresses, a prefix decides nothing."""
    halves = entry("halves", "10.0.0.0/9", "10.128.0.0/9")
    assert tables(entry("whole", "10.0.0.0/8"), halves) == {"v4": {"10.0.0.0/9": "halves", "10.128.0.0/9": "halves"}}


def test_shared_and_per_entry() -> None:
    """PerEntry clients have classes of their own, also one inside another; Shared ones need the outer entry only."""
    clients = ("10.0.0.0/8", "10.0.0.1", "2001:db8::/64")
    assert tables(entry("s", *clients)) == {"v4": {"10.0.0.0/8": "s"}, "v6": {"2001:db8::/64": "s"}}
    assert tables(entry("p", *clients, sharing=Sharing.PER_ENTRY)) == {
        "v4": {"10.0.0.0/8": "p 10.0.0.0/8", "10.0.0.1": "p 10.0.0.1"},
        "v6": {"2001:db8::/64": "p 2001:db8::/64"},
    }


# ── ports ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ports_override_the_table_without() -> None:
    """A limit on a port has its own table; where it does not win there is a hole or nothing."""
    whole, mail = entry("whole", "10.0.0.1"), entry("mail", "10.0.0.0/8", dialled=["993"])
    assert tables(whole, mail) == {
        "v4": {"10.0.0.1": "whole"},
        "v4 TCP:993-993": {"10.0.0.0/8": "mail", "10.0.0.1": None},
    }
    first = dataclasses.replace(mail, priority=1)
    assert tables(whole, first)["v4 TCP:993-993"] == {"10.0.0.0/8": "mail"}
    assert resolve.resolve([whole, first]).overridden == {"whole": ("mail",)}
    assert resolve.resolve([whole, mail]).overridden == {"mail": ("whole",)}


def test_port_sets_are_made_disjoint() -> None:
    """Overlapping ranges become sets of ports that no limit divides."""
    low, high = entry("low", "10.0.0.1", dialled=["1-10"]), entry("high", "10.0.0.2", dialled=["5-20", "UDP:5"])
    assert tables(low, high) == {
        "v4 TCP:1-4": {"10.0.0.1": "low"},
        "v4 TCP:5-10": {"10.0.0.1": "low", "10.0.0.2": "high"},
        "v4 TCP:11-20 UDP:5-5": {"10.0.0.2": "high"},
    }


def test_port_sets_with_the_same_answers_are_one() -> None:
    """A limit on ports that nowhere wins divides nothing; families are divided apart."""
    outer = entry("outer", "10.0.0.1", "2001:db8::1", dialled=["1-10"], priority=1)
    inner = entry("inner", "10.0.0.1", dialled=["5"])
    assert tables(outer, inner) == {"v4 TCP:1-10": {"10.0.0.1": "outer"}, "v6 TCP:1-10": {"2001:db8::1": "outer"}}


def test_normal_ports() -> None:
    """Ranges that overlap, touch or repeat are one."""
    found = port_strips.normal([port_range(text) for text in ("5-9", "UDP:7", "1-4", "10", "3-6", "12", "12")])
    assert found == (PortRange("TCP", 1, 10), PortRange("TCP", 12, 12), PortRange("UDP", 7, 7))


selectors = st.lists(
    st.builds(
        lambda protocol, ends: PortRange(protocol, min(ends), max(ends)),
        st.sampled_from(("TCP", "UDP")),
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
    ),
    min_size=1,
    max_size=3,
).map(port_strips.normal)


@settings(max_examples=300, deadline=None)
@given(st.lists(selectors, max_size=5, unique=True))
def test_strips(chosen: list[port_strips.Selector]) -> None:
    """Every selected port is in one strip, whose bit is set for exactly the selectors that hold it; none is alike."""
    found = port_strips.strips(chosen)
    holders = [[s for s in chosen if found.masks[s] >> number & 1] for number in range(len(found.ports))]
    assert all(holders)
    assert all(one != other for i, one in enumerate(holders) for other in holders[:i])
    assert all(mask < 1 << len(found.ports) for mask in found.masks.values())
    for protocol in ("TCP", "UDP"):
        for port in range(14):

            def holds(selector: port_strips.Selector, protocol: str = protocol, port: int = port) -> bool:
                return any(r.protocol == protocol and r.first <= port <= r.last for r in selector)

            around = [number for number, strip in enumerate(found.ports) if holds(strip)]
            wanted = [selector for selector in chosen if holds(selector)]
            assert [holders[number] for number in around] == ([wanted] if wanted else [])


@given(st.sets(st.integers(0, 400)))
def test_bits(chosen: set[int]) -> None:
    """The bits of a mask are found from the lowest on, be they few or many."""
    assert list(port_strips.bits(sum(1 << bit for bit in chosen))) == sorted(chosen)


@given(st.lists(st.integers(0, 15), max_size=9), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 15))), st.data())
def test_or_trees(masks: list[int], puts: list[tuple[int, int]], data: st.DataObject) -> None:
    """The first set from a place on that shares a bit is found, also after some of them were replaced."""
    tree, row = OrTree(masks), list(masks)
    for at, mask in puts:
        if at < len(row):
            row[at] = mask
            tree.put(at, mask)
    wanted, start = data.draw(st.integers(0, 15)), data.draw(st.integers(0, 10))
    assert tree.first(wanted, start) == next((i for i in range(start, len(row)) if row[i] & wanted), -1)


# ── edits ──────────────────────────────────────────────────────────────────────────────────────────────────────


def edited(entries: dict[str, PlanEntry], choose: random.Random) -> dict[str, PlanEntry]:
    """The entries after one edit of the kinds that happen: come, go, another rate, client, priority, ports."""
    after = dict(entries)
    name = f"limit-{choose.randrange(40)}"
    client = Prefix(4, (10 << 24) + choose.randrange(1 << 7), 32)
    if choose.random() < 0.2:
        client = Prefix(4, (10 << 24) + (choose.randrange(1 << 3) << 4), 28)
    before = after.get(name)
    if before is None or choose.random() < 0.2:
        more = {"dialled": ["993"]} if choose.random() < 0.1 else {}
        family6 = [Prefix(6, 0x20010DB8 << 96 | choose.randrange(1 << 7), 128)] if choose.random() < 0.3 else []
        sharing = choose.choice(list(Sharing))
        after[name] = entry(name, client, *family6, created_at=choose.random(), sharing=sharing, **more)
    elif choose.random() < 0.3:
        del after[name]
    elif choose.random() < 0.5:
        after[name] = dataclasses.replace(before, rate_bits_per_second=choose.randrange(10**6))
    else:
        after[name] = dataclasses.replace(before, priority=choose.randrange(3))
    return after


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_edits_are_followed(choose: random.Random) -> None:
    """After any series of edits the answer is the one worked out again, and earlier answers are as they were."""
    entries: dict[str, PlanEntry] = {}
    memo = resolve.Memo()
    answers = []
    for _ in range(60):
        for _ in range(choose.choice((0, 1, 1, 2))):
            entries = edited(entries, choose)
        wanted = list(entries.values())
        answers.append((wanted, resolve.resolve(wanted, memo)))
    before: list[PlanEntry] | None = None
    for wanted, answer in answers:
        if wanted != before:  # one that was asked for twice is worked out once
            before, expected = wanted, resolve.resolve(wanted)
        assert answer == expected


def test_equal_entries_that_are_other_objects() -> None:
    """Entries compiled again, equal to the old ones, have the same answer."""
    wanted = [entry("a", "10.0.0.0/8"), entry("b", "10.0.0.1"), entry("c", "10.0.0.1", dialled=["5"])]
    memo = resolve.Memo()
    first = resolve.resolve(wanted, memo)
    assert first == resolve.resolve([dataclasses.replace(e) for e in wanted], memo)


def test_new_classes_come_in_a_certain_order() -> None:
    """Those without a rival as wanted, the others by address, and by name what came since the last answer."""
    wanted = [entry(f"l-{number:02}", f"10.0.0.{number}") for number in range(40)]
    around = entry("around", "10.0.0.0/26", priority=-1)
    names = [e.limit for e in wanted]
    assert [key.limit for key in resolve.resolve(wanted).classes] == names
    assert [key.limit for key in resolve.resolve([around, *wanted]).classes] == ["around", *names]
    more = [entry(f"k-{number:02}", f"10.0.1.{number}") for number in range(20)]
    memo = resolve.Memo()
    resolve.resolve(wanted, memo)
    assert [key.limit for key in resolve.resolve([*wanted, *more], memo).classes] == [*names, *(e.limit for e in more)]


# ── crowds ─────────────────────────────────────────────────────────────────────────────────────────────────────

TEN = 10 << 24


def singles(count: int) -> list[PlanEntry]:
    return [entry(f"s-{i}", Prefix(4, TEN + i * 7, 32)) for i in range(count)]


def around(count: int, **more: Any) -> list[PlanEntry]:
    return [entry(f"w-{i}", Prefix(4, TEN, 8), created_at=float(i), **more) for i in range(count)]


def test_few_winners_are_named() -> None:
    """However many win over a limit, a bounded number is named, the same for every order of the entries."""
    crowd = [*around(1), *singles(200)]
    named = resolve.resolve(crowd).overridden
    assert len(named["w-0"]) == losing_limits.NAMED_MAX
    assert resolve.resolve(crowd[::-1]).overridden == named


def test_spaces() -> None:
    """Points in order, with what lies in them, what is next around them, and which have no address of their own."""
    texts = ["10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.128.0.1", "11.0.0.0/8"]
    space = intervals.space([addresses.parse(text) for text in reversed(texts)])
    assert [addresses.write(point) for point in space.points] == texts
    assert space.ends == [4, 2, 4, 4, 5]
    assert space.hollow == [True, False, False, False, False]
    assert space.outer == [-1, -1, -1, 2, -1]
