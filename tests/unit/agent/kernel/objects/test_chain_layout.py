"""Rules spread over chains: each port meets the rules that it met before, and few of them, however many there are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.fake import tracer
from bandwidth_agent.kernel.objects import chain_layout
from bandwidth_api import names
from bandwidth_api.plan import PortRange
from unit.agent import worlds

PASSED_MAX = 2 + 13 + chain_layout.LEAF_RULES  # one protocol and the other, halvings, ranges
CHAINS_MAX = 16  # that nftables follows, one below the other, with POSTROUTING


def rule(number: int, first: int, last: int, protocol: str = "TCP") -> objects.Rule:
    return objects.Rule(f"cbl-v4-{number:012}", PortRange(protocol, first, last), True, False)


# Small ranges close together as well as wide ones, so that they overlap, touch and lie across every border.
EDGES = st.integers(1, 40) | st.integers(32_760, 32_780) | st.integers(1, 65_535)
RULES = st.lists(
    st.builds(
        lambda number, one, other, protocol: rule(number, min(one, other), max(one, other), protocol),
        st.integers(0, 5),
        EDGES,
        EDGES,
        st.sampled_from(("TCP", "TCP", "UDP")),
    ),
    max_size=40,
)
PLAIN = objects.Rule("cbl-v4", None, True, False)


def answering(rules: list[objects.Rule], protocol: str, port: int) -> list[str]:
    """The sets that a packet is looked up in, in order, by the words of the model; a set counts where it is last."""
    found = [
        each.set_name
        for each in rules
        if each.ports is None or (each.ports.protocol == protocol and each.ports.first <= port <= each.ports.last)
    ]
    return [name for place, name in enumerate(found) if name not in found[place + 1 :]]


def met(layout: chain_layout.Layout, protocol: str, port: int) -> list[str]:
    return [each.set_name for each in tracer.passed(layout, protocol, port)]


def passed(layout: chain_layout.Layout, protocol: str, port: int) -> tuple[int, int]:
    """How many rules a packet passes, those that are not for it included, and through how many chains."""
    rules, chains, ahead = 0, 1, list(layout[names.CHAIN])
    while ahead:
        line = ahead.pop(0)
        rules += 1
        here = line.ports is None or (line.ports.protocol == protocol and line.ports.first <= port <= line.ports.last)
        if here and isinstance(line, chain_layout.Goto):
            chains, ahead = chains + 1, list(layout[line.chain])
    return rules, chains


def interesting(rules: list[objects.Rule]) -> list[tuple[str, int]]:
    ends = {edge + near for r in rules if r.ports for edge in r.ports[1:] for near in (-1, 0, 1)}
    return [(protocol, port) for protocol in ("TCP", "UDP") for port in sorted(ends) if 0 <= port <= 65_535]


@worlds.unhurried
@given(RULES)
def test_each_packet_meets_the_rules_that_are_for_it_in_order(rules: list[objects.Rule]) -> None:
    """Whatever overlaps: the sets that a packet is looked up in, and the last that decides, are those of the rules."""
    whole = [PLAIN, *rules]
    layout = chain_layout.laid_out(whole)
    for protocol, port in interesting(rules):
        assert met(layout, protocol, port) == answering(whole, protocol, port)


@worlds.unhurried
@given(RULES)
def test_there_is_one_way_to_say_what_rules_do(rules: list[objects.Rule]) -> None:
    """The canonical rules do the same, are laid out the same, and are what a walk through the chains finds again."""
    whole = [PLAIN, *rules]
    canonical = chain_layout.canonical(whole)
    assert chain_layout.laid_out(canonical) == chain_layout.laid_out(whole)
    assert chain_layout.canonical(canonical) == canonical
    assert chain_layout.canonical(chain_layout.flat(chain_layout.laid_out(whole))) == canonical


def test_few_ranges_stand_in_the_first_chain() -> None:
    """As many as a leaf holds need no other chain, and read as an agent before this layout would write them."""
    few = [rule(number, 10 * number + 1, 10 * number + 5) for number in range(chain_layout.LEAF_RULES)]
    assert chain_layout.laid_out([PLAIN, *few]) == {names.CHAIN: (PLAIN, *few)}
    assert len(chain_layout.laid_out([PLAIN, *few, rule(9, 900, 900)])) > 1


SHAPES = {
    "every port by itself": [rule(port % 7, port, port) for port in range(1, 65_536)],
    "a heap at the lowest ports": [rule(port, port, port) for port in range(1, 64)]
    + [rule(1, 1 << bit, 1 << bit) for bit in range(6, 16)],
    "a few on each side of every border": [
        rule(bit, (1 << bit) + near, (1 << bit) + near) for bit in range(4, 16) for near in (-2, -1, 0, 1)
    ],
    "seven ranges of a thousand limits": [rule(n // 7, 1 + 9 * n, 4 + 9 * n) for n in range(7_000)],
    "both protocols": [rule(port, port, port, protocol) for protocol in ("TCP", "UDP") for port in range(1, 20_000, 3)],
}


@pytest.mark.parametrize("rules", SHAPES.values(), ids=SHAPES.keys())
def test_a_packet_passes_few_rules_and_chains(rules: list[objects.Rule]) -> None:
    """A bound that no number of ranges moves: of the rules, and of the chains one below the other."""
    layout = chain_layout.laid_out(rules)
    for port in {*range(70), *random.Random(7).sample(range(65_536), 500), *(1 << bit for bit in range(16))}:
        for protocol in ("TCP", "UDP"):
            rules_passed, chains = passed(layout, protocol, port)
            assert rules_passed <= PASSED_MAX
            assert chains + 1 <= CHAINS_MAX
    assert len(layout) <= 2 + len(rules)


@worlds.unhurried
@given(st.sets(st.integers(1, 65_535), min_size=20, max_size=400), st.integers(1, 65_535))
def test_another_range_changes_few_chains(ports: set[int], added: int) -> None:
    """The borders are always the same, so that a change at thousands of ranges writes one chain or two again."""
    before = chain_layout.laid_out([rule(1, port, port) for port in sorted(ports - {added})])
    after = chain_layout.laid_out([rule(1, port, port) for port in sorted(ports | {added})])
    assert sum(before[name] != after.get(name) for name in before) <= 2
