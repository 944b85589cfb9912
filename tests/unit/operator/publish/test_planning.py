"""The plan of all limits, made again and again as limits and nodes change."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bandwidth_api import addresses
from bandwidth_api.compiler.width import Widest
from bandwidth_api.crds import slices
from bandwidth_operator.cache import objects
from bandwidth_operator.protection.guard_rails import GuardRails
from bandwidth_operator.publish import planning
from unit.operator import examples

NAMES = ("a", "b", "c", "d")
CLIENTS = ("203.0.113.7", "203.0.113.0/24", "10.0.0.0/8", "10.0.0.1", "2001:db8::/16")
NODES = ("203.0.113.7", "10.0.0.1", "192.0.2.1")

_CHANGES = st.tuples(
    st.sampled_from(NAMES),
    st.none() | st.sampled_from(CLIENTS) | st.just("no address"),
    st.frozensets(st.sampled_from(NODES), max_size=2),
    st.sampled_from((Widest(), Widest(8, 16))),
)


@settings(deadline=None)
@given(st.lists(_CHANGES, min_size=1, max_size=12))
def test_a_plan_made_from_the_last_one_is_the_same_as_one_made_from_nothing(changes: list[Any]) -> None:
    """Whatever is edited, deleted, too wide, protected by now or no more, or kept as it was before an edit."""
    limits: dict[str, objects.Limit] = {}
    written: dict[str, slices.Slice] = {}
    before: planning.Planned | None = None
    for generation, (name, client, protected, widest) in enumerate(changes, 1):
        if client is None:
            limits.pop(name, None)
        else:
            limits[name] = examples.limit(name, client=client, generation=generation)
        addressed = frozenset(map(addresses.network, protected))
        node = objects.Node("n", "u", 1, {}, True, addressed)
        snapshot = objects.Snapshot(limits, {"n": node}, {}, {"n": examples.state("n", "d")})
        rails = GuardRails(widest=widest)
        after = planning.plan_of(snapshot, written, examples.NOW, rails, before=before)
        assert after == planning.plan_of(snapshot, written, examples.NOW, rails)
        assert not after.plan.entries.keys() & after.left_out.keys()
        before = after
        written = {"plan-00000": slices.make("plan-00000", list(after.plan.entries.values()), 1)}
