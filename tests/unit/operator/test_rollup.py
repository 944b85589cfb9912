"""Node states and digests → what became of each limit, and in which words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api import compile as compiler
from bandwidth_api import node_state, selector, slices
from bandwidth_api.conditions import Reason, Rejection
from bandwidth_api.plan import Mode, PlanEntry, SelectorTerm
from bandwidth_operator import known, planning, rollup, verdicts
from bandwidth_operator.history import History
from bandwidth_operator.rollup import FailingNode, Verdict
from unit.operator import examples

EDGE = (SelectorTerm("role", "In", ("edge",)),)


def snapshot(nodes: list[known.Node], states: list[known.State]) -> known.Snapshot:
    return known.Snapshot({}, {n.name: n for n in nodes}, {}, {s.name: s for s in states})


def judged(plans: History, entry: PlanEntry, nodes: list[known.Node], states: list[known.State]) -> Verdict:
    views = rollup.views(snapshot(nodes, states), plans, examples.NOW)
    return rollup.Rollup(views, plans).judge(entry)


def failing(*names: str, failed: int | None = None, desired: int = 100) -> dict[str, Any]:
    """The part of a report about failing limits; `failed` when there are more than are named."""
    listed = tuple(node_state.FailingLimit(n, "KernelRefused", f"{n} refused") for n in names)
    return {"failing": listed, "failed": len(listed) if failed is None else failed, "desired": desired}


def test_a_node_at_the_digest_of_a_limit_has_programmed_it() -> None:
    """A node that reports the present digest counts, one at an earlier one does not yet."""
    plans = History()
    plans.put(slices.make("plan-00000", [examples.entry("a")]))
    earlier = plans.digest
    plans.put(slices.make("plan-00000", [examples.entry("a", rate_bits_per_second=9)]))
    nodes = [examples.node("n0"), examples.node("n1")]
    states = [examples.state("n0", plans.digest), examples.state("n1", earlier)]
    verdict = judged(plans, examples.entry("a"), nodes, states)
    assert (verdict.desired, verdict.programmed, verdict.failed) == (2, 1, 0)
    assert verdicts.pending(verdict)


def test_a_limit_that_did_not_change_stays_programmed_while_nodes_lag() -> None:
    """A node behind by one edit of another limit has this one."""
    plans = History([slices.make("plan-00000", [examples.entry("a")])])
    earlier = plans.digest
    plans.put(slices.make("plan-00000", [examples.entry("a"), examples.entry("b", 1)]))
    states = [examples.state("n0", earlier)]
    assert judged(plans, examples.entry("a"), [examples.node("n0")], states).programmed == 1
    assert judged(plans, examples.entry("b"), [examples.node("n0")], states).programmed == 0


def test_a_plan_that_comes_back_counts_as_the_latest() -> None:
    """A, B, A: who reports the digest of A has the latest plan."""
    one, other = [examples.entry("a")], [examples.entry("a", rate_bits_per_second=9)]
    plans = History()
    for entries in (one, other, one):
        plans.put(slices.make("plan-00000", entries))
    verdict = judged(plans, one[0], [examples.node("n0")], [examples.state("n0", plans.digest)])
    assert verdict.programmed_everywhere


def test_an_incomplete_or_unknown_plan_is_nobody() -> None:
    """A digest that this term has not seen, or of an incomplete plan, confirms nothing and fails nothing."""
    plans = History([slices.make("plan-00000", [examples.entry("a")])])
    nodes = [examples.node("n0"), examples.node("n1")]
    states = [examples.state("n0", "f" * 32), examples.state("n1", plans.digest, plan_complete=False)]
    verdict = judged(plans, examples.entry("a"), nodes, states)
    assert (verdict.desired, verdict.programmed, verdict.failed) == (2, 0, 0)


def test_failures_count_only_at_the_present_step() -> None:
    """What a node said about an earlier form of the limit is not held against the present one."""
    plans = History([slices.make("plan-00000", [examples.entry("a")])])
    states = [examples.state("n0", plans.digest, **failing("a"))]
    assert judged(plans, examples.entry("a"), [examples.node("n0")], states).failing == (
        FailingNode("n0", "KernelRefused", "a refused"),
    )
    plans.put(slices.make("plan-00000", [examples.entry("a", rate_bits_per_second=9)]))
    assert judged(plans, examples.entry("a"), [examples.node("n0")], states).failed == 0


def test_behind_the_last_named_limit_nothing_is_believed() -> None:
    """A node with more failing limits than it can name vouches only for names before the last one named."""
    plans = History([slices.make("plan-00000", [examples.entry(n, i) for i, n in enumerate("abcd")])])
    states = [examples.state("n0", plans.digest, **failing("b", failed=2))]
    nodes = [examples.node("n0")]
    assert judged(plans, examples.entry("a"), nodes, states).programmed == 1
    assert judged(plans, examples.entry("b"), nodes, states).failed == 1
    assert judged(plans, examples.entry("c"), nodes, states).failed == 1


def test_a_node_where_all_fail_fails_each_with_the_named_reason() -> None:
    """When as many fail as there are, the first reason stands for all."""
    plans = History([slices.make("plan-00000", [examples.entry(n, i) for i, n in enumerate("abcd")])])
    states = [examples.state("n0", plans.digest, **failing("b", failed=4, desired=4))]
    verdict = judged(plans, examples.entry("a"), [examples.node("n0")], states)
    assert verdict.failing == (FailingNode("n0", "KernelRefused", "b refused"),)


@pytest.mark.parametrize(
    ("node", "state"),
    [
        (examples.node("n0", ready=False), {}),
        (examples.node("n0"), {"reported_at": examples.NOW - 3600}),
        (examples.node("n0"), {"retired": True}),
    ],
)
def test_a_node_that_cannot_be_relied_upon_fails(node: known.Node, state: dict[str, Any]) -> None:
    """Not Ready, silent, or retired: it is counted as failed and named."""
    plans = History([slices.make("plan-00000", [examples.entry("a")])])
    verdict = judged(plans, examples.entry("a"), [node], [examples.state("n0", plans.digest, **state)])
    assert (verdict.programmed, verdict.failed) == (0, 1)
    assert verdict.failing[0].reason == Reason.NODE_NOT_REPORTING


def test_states_of_nodes_that_are_gone_do_not_count() -> None:
    """Until they are collected."""
    plans = History([slices.make("plan-00000", [examples.entry("a")])])
    states = [examples.state("n0", plans.digest), examples.state("gone", plans.digest)]
    assert judged(plans, examples.entry("a"), [examples.node("n0")], states).desired == 1


@given(st.data())
def test_the_quick_count_equals_the_slow_one(data: st.DataObject) -> None:
    """For any nodes, plans and reports the counts are those of asking each node about each limit."""
    names = [f"l{n}" for n in range(6)]
    selectors = {name: data.draw(st.sampled_from(((), EDGE)), label=name) for name in names}
    plans = History()
    digests = ["f" * 32]
    rates: dict[str, int] = {}
    changed: dict[str, int] = {}
    for step in range(data.draw(st.integers(1, 5))):
        name = data.draw(st.sampled_from(names))
        rates[name] = rates.get(name, 0) + 1
        changed[name] = step
        entries = [
            examples.entry(n, names.index(n), rate_bits_per_second=r, node_selector=selectors[n])
            for n, r in rates.items()
        ]
        plans.put(slices.make("plan-00000", entries))
        digests.append(plans.digest)
    nodes, states, at = [], [], {}
    for n in range(data.draw(st.integers(0, 5))):
        node = f"n{n}"
        index = data.draw(st.integers(0, len(digests) - 1))
        failed = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=3))
        nodes.append(examples.node(node, role=data.draw(st.sampled_from(("edge", "core")))))
        states.append(examples.state(node, digests[index], **failing(*sorted(failed))))
        at[node] = (index - 1, failed)
    views = rollup.views(snapshot(nodes, states), plans, examples.NOW)
    answers = rollup.Rollup(views, plans)
    for name in rates:
        entry = examples.entry(name, node_selector=selectors[name])
        selected = [n.name for n in nodes if selector.selects(entry.node_selector, n.labels)]
        reached = [n for n in selected if at[n][0] >= changed[name]]
        failed_on = [n for n in reached if name in at[n][1]]
        verdict = answers.judge(entry)
        assert verdict.desired == len(selected)
        assert verdict.programmed == len(reached) - len(failed_on)
        assert [f.name for f in verdict.failing] == sorted(failed_on)


# ── in words ───────────────────────────────────────────────────────────────────────────────────────────────────


def conditions(verdict: Verdict, limit: known.Limit | None = None) -> dict[str, dict[str, Any]]:
    found = verdicts.status(verdict, limit or examples.limit("a"), examples.NOW)["conditions"]
    return {c["type"]: c for c in found}


GOOD = Verdict(published=True, desired=3, programmed=3, entry=examples.entry("a"), agents=3)


@pytest.mark.parametrize(
    ("verdict", "reason", "word"),
    [
        (GOOD, "Ready", "all 3 nodes"),
        (GOOD._replace(entry=examples.entry("a", mode=Mode.OBSERVE)), "Ready", "only counting"),
        (GOOD._replace(programmed=1), "Pending", "2 of 3 nodes"),
        (GOOD._replace(published=False, programmed=0), "Pending", "on its way"),
        (GOOD._replace(desired=0, programmed=0), "NoNodeSelected", "none of the 3 nodes"),
        (GOOD._replace(desired=0, programmed=0, agents=0), "NoNodeSelected", "DaemonSet"),
        (
            GOOD._replace(programmed=2, failed=1, failing=(FailingNode("n1", "ForeignQdisc", "eth0 has tbf"),)),
            "ForeignQdisc",
            "not in force on 1 of 3 nodes; n1: eth0 has tbf",
        ),
        (
            GOOD._replace(programmed=2, failed=1, failing=(FailingNode("n1", "OfTheFuture", "?"),)),
            "KernelRefused",
            "n1: ?",
        ),
        (
            Verdict(left_out=Rejection(Reason.EXPIRED, "spec.expiresAt", "the limit's time is over")),
            "Expired",
            "spec.expiresAt: the limit's time is over",
        ),
        (
            Verdict(rejected=(Rejection(Reason.INVALID, "spec.egress.rate", "no rate"),)),
            "Invalid",
            "spec.egress.rate: no rate",
        ),
        (
            GOOD._replace(rejected=(Rejection(Reason.INVALID, "spec.egress.rate", "no rate"),)),
            "KeptPrevious",
            "what was accepted before stays in force",
        ),
    ],
)
def test_the_condition_ready_says_why(verdict: Verdict, reason: str, word: str) -> None:
    """Every state has its reason and a message that says what is wrong."""
    ready = conditions(verdict)["Ready"]
    assert ready["reason"] == reason == verdicts.ready_reason(verdict)
    assert ready["status"] == ("True" if reason == "Ready" else "False")
    assert word in ready["message"]
    assert ready["observedGeneration"] == 1


def test_the_same_verdict_over_what_it_wrote_changes_nothing() -> None:
    """A status is written only when it differs: a second time it is the same, later or not."""
    limit = examples.limit("a")
    for verdict in (GOOD, GOOD._replace(programmed=1), Verdict(left_out=Rejection(Reason.EXPIRED, "", "over"))):
        status = verdicts.status(verdict, limit, examples.NOW)
        written = dataclasses.replace(limit, status=status)
        assert verdicts.status(verdict, written, examples.NOW + 100) == status


def test_only_a_change_of_status_moves_the_time() -> None:
    """lastTransitionTime stays when only the reason or the message changes."""
    limit = examples.limit("a")
    status = verdicts.status(GOOD._replace(programmed=1), limit, examples.NOW)
    later = verdicts.status(GOOD._replace(programmed=2), dataclasses.replace(limit, status=status), examples.NOW + 9)
    assert {c["lastTransitionTime"] for c in later["conditions"]} == {
        c["lastTransitionTime"] for c in status["conditions"]
    }


def test_effective_numbers() -> None:
    """The rate as written, what a node enforces of it, and the burst that the agent computes."""
    status = verdicts.status(
        GOOD._replace(entry=examples.entry("a", rate_bits_per_second=1_000_000)), examples.limit("a"), 0
    )
    assert status["effective"] == {
        "rateBitsPerSecond": 5_000_000,
        "perNodeRateBitsPerSecond": 1_000_000,
        "burstBytes": 2_100,
    }


def test_winners_are_named() -> None:
    """The condition Conflicted names three of them."""
    conflicted = conditions(GOOD._replace(winners=("b", "c", "d", "e")))["Conflicted"]
    assert conflicted["status"] == "True"
    assert "b, c, d and others" in conflicted["message"]
    assert conditions(GOOD)["Conflicted"]["status"] == "False"


def test_stalled_is_there_while_only_an_edit_helps() -> None:
    """A limit that cannot be used says Stalled, as long as that is so and with one time; a good one never has it."""
    bad = Verdict(rejected=(Rejection(Reason.INVALID, "spec.egress.rate", "no rate"),))
    limit = examples.limit("a")
    status = verdicts.status(bad, limit, examples.NOW)
    stalled = conditions(bad)["Stalled"]
    assert (stalled["status"], stalled["reason"]) == ("True", "Invalid")
    written = dataclasses.replace(limit, status=status)
    assert verdicts.status(bad, written, examples.NOW + 100) == status
    mended = verdicts.status(GOOD, written, examples.NOW + 200)
    assert {c["type"] for c in mended["conditions"]} == {"Accepted", "Programmed", "Ready", "Conflicted"}


# ── the plan ───────────────────────────────────────────────────────────────────────────────────────────────────


def planned(limits: list[known.Limit], written: tuple[slices.Slice, ...] = ()) -> planning.Planned:
    found = known.Snapshot({k.name: k for k in limits}, {}, {}, {})
    return planning.plan_of(found, {s.name: s for s in written}, examples.NOW)


def test_an_invalid_limit_fails_alone() -> None:
    """The others are planned, it is rejected with what to do."""
    made = planned([examples.limit("a"), examples.limit("b", client="nonsense")])
    assert set(made.plan.entries) == {"a"}
    assert "spec.clients[0]" in str(made.rejected["b"][0])


def test_a_limit_that_an_edit_broke_stays_as_it_was() -> None:
    """Its entry is taken from the slice; not that of an earlier limit of the same name."""
    good = compiler.entry(examples.accepted("b"), now=examples.NOW)
    in_slice = dataclasses.replace(good, uid="", generation=0)
    broken = examples.limit("b", client="nonsense", generation=2)
    assert planned([broken], (slices.make("plan-00000", [in_slice]),)).plan.entries == {"b": in_slice}
    of_another = dataclasses.replace(in_slice, created_at=in_slice.created_at - 1)
    assert planned([broken], (slices.make("plan-00000", [of_another]),)).plan.entries == {}


def test_no_limit_touches_an_address_of_a_node() -> None:
    """It is rejected with the node's address, also where it was in force and an edit broke it; others are planned."""
    item = {
        "metadata": {"name": "n", "uid": "u", "resourceVersion": "1"},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "192.0.2.5"},
                {"type": "InternalIP", "address": "2001:db8::5"},
                {"type": "Hostname", "address": "198.51.100.9"},
                {"type": "ExternalIP", "address": "unheard-of"},
            ]
        },
    }
    node = known.read(known.Kind.NODE, item, None)
    assert isinstance(node, known.Node)
    excepted = {"except": ["192.0.2.5/32"]}
    found = [
        examples.limit("around", client="192.0.2.0/24"),
        examples.limit("six", client="2001:db8::/32"),
        examples.limit("spared", client="192.0.2.0/24", **excepted),
        examples.limit("elsewhere", client="198.51.100.9"),
        examples.limit("broken", client="nonsense"),
    ]
    before = compiler.entry(examples.accepted("broken", client="192.0.2.5"), now=examples.NOW)
    written = {s.name: s for s in [slices.make("plan-00000", [before])]}
    snapshot = known.Snapshot({k.name: k for k in found}, {node.name: node}, {}, {})
    made = planning.plan_of(snapshot, written, examples.NOW)
    assert set(made.plan.entries) == {"spared", "elsewhere"}
    assert set(made.rejected) == {"around", "six", "broken"}
    why = made.rejected["around"][0]
    assert (why.reason, why.field) == (Reason.PROTECTED_ADDRESS, "spec.clients[0]")
    assert "192.0.2.5/32 to spec.except" in why.message
    assert made.rejected["broken"][0].reason is Reason.INVALID


def test_nodes_with_an_agent_are_counted() -> None:
    """Those that have a state; not the state of a node that is gone, nor a node that never had an agent."""
    found = snapshot(
        [examples.node("n0"), examples.node("n1", ready=False), examples.node("no-agent")],
        [examples.state("n0", "d"), examples.state("n1", "d"), examples.state("gone", "d")],
    )
    assert planning.plan_of(found, {}, examples.NOW).agents == 2


def test_left_out_limits_have_a_reason() -> None:
    """Disabled and expired limits are not in the plan and say why; the next expiry is known."""
    ends = "2027-01-15T08:00:10Z"
    made = planned(
        [
            examples.limit("off", mode="Disabled"),
            examples.limit("over", expiresAt="2020-01-01T00:00:00Z"),
            examples.limit("soon", expiresAt=ends),
        ]
    )
    assert set(made.plan.entries) == {"soon"}
    assert {n: r.reason for n, r in made.left_out.items()} == {"off": Reason.DISABLED, "over": Reason.EXPIRED}
    assert made.until == examples.NOW + 10


def test_winners_are_looked_for_on_nodes_that_enforce_both() -> None:
    """Limits of disjoint nodes do not meet; on a node that has both labels they do."""
    edge, core = {"matchLabels": {"edge": "yes"}}, {"matchLabels": {"core": "yes"}}
    plan = planned([examples.limit("a", nodeSelector=edge), examples.limit("b", nodeSelector=core, priority=5)]).plan

    def views(*labels: dict[str, str]) -> list[rollup.NodeView]:
        return [rollup.NodeView(f"n{i}", each, 0, None, {}, None, False) for i, each in enumerate(labels)]

    assert planning.winners(plan, views({"edge": "yes"}, {"core": "yes"})) == {}
    assert planning.winners(plan, views({"edge": "yes", "core": "yes"})) == {"a": ("b",)}
