"""Node states and digests → what became of each limit, and in which words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api.compiler import compile as compiler
from bandwidth_api.compiler import selector
from bandwidth_api.compiler.overlap import budget
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import node_state, slices
from bandwidth_api.plan import Mode, PlanEntry, SelectorTerm
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.history import History
from bandwidth_operator.publish import planning
from bandwidth_operator.status import limit_status, rollup
from bandwidth_operator.status.rollup import Outcome
from unit.operator import examples

EDGE = (SelectorTerm("role", "In", ("edge",)),)


def snapshot(nodes: list[objects.Node], states: list[objects.State]) -> objects.Snapshot:
    return objects.Snapshot({}, {n.name: n for n in nodes}, {}, {s.name: s for s in states})


def outcome_of(plans: History, entry: PlanEntry, nodes: list[objects.Node], states: list[objects.State]) -> Outcome:
    views = rollup.views(snapshot(nodes, states), plans, examples.NOW)
    return rollup.Rollup(views, plans).outcome(entry)


def failing(*names: str, failed: int | None = None, desired: int = 100) -> dict[str, Any]:
    """The part of a report about failing limits; `failed` when there are more than are named."""
    listed = tuple(Problem(Reason.KERNEL_REFUSED, f"{n} refused", name=n) for n in names)
    return {"failing": listed, "failed": len(listed) if failed is None else failed, "desired": desired}


def test_a_node_at_the_digest_of_a_limit_has_programmed_it() -> None:
    """A node that reports the present digest counts, one at an earlier one does not yet."""
    plans = History()
    plans.put(slices.make("plan-00000", [examples.entry("a")]))
    earlier = plans.digest
    plans.put(slices.make("plan-00000", [examples.entry("a", rate_bits_per_second=9)]))
    nodes = [examples.node("n0"), examples.node("n1")]
    states = [examples.state("n0", plans.digest), examples.state("n1", earlier)]
    outcome = outcome_of(plans, examples.entry("a"), nodes, states)
    assert (outcome.desired, outcome.programmed, outcome.failed) == (2, 1, 0)
    assert limit_status.pending(outcome)


def test_a_limit_that_did_not_change_stays_programmed_while_nodes_lag() -> None:
    """A node behind by one edit of another limit has this one."""
    plans = History([slices.make("plan-00000", [examples.entry("a")])])
    earlier = plans.digest
    plans.put(slices.make("plan-00000", [examples.entry("a"), examples.entry("b", 1)]))
    states = [examples.state("n0", earlier)]
    assert outcome_of(plans, examples.entry("a"), [examples.node("n0")], states).programmed == 1
    assert outcome_of(plans, examples.entry("b"), [examples.node("n0")], states).programmed == 0


def test_a_plan_that_comes_back_counts_as_the_latest() -> None:
    """A, B, A: who reports the digest of A has the latest plan."""
    one, other = [examples.entry("a")], [examples.entry("a", rate_bits_per_second=9)]
    plans = History()
    for entries in (one, other, one):
        plans.put(slices.make("plan-00000", entries))
    outcome = outcome_of(plans, one[0], [examples.node("n0")], [examples.state("n0", plans.digest)])
    assert outcome.programmed_everywhere


def test_an_incomplete_or_unknown_plan_is_nobody() -> None:
    """A digest that this term has not seen, or of an incomplete plan, confirms nothing and fails nothing."""
    plans = History([slices.make("plan-00000", [examples.entry("a")])])
    nodes = [examples.node("n0"), examples.node("n1")]
    states = [examples.state("n0", "f" * 32), examples.state("n1", plans.digest, plan_complete=False)]
    outcome = outcome_of(plans, examples.entry("a"), nodes, states)
    assert (outcome.desired, outcome.programmed, outcome.failed) == (2, 0, 0)


def test_failures_count_only_at_the_present_step() -> None:
    """What a node said about an earlier form of the limit is not held against the present one."""
    plans = History([slices.make("plan-00000", [examples.entry("a")])])
    states = [examples.state("n0", plans.digest, **failing("a"))]
    assert outcome_of(plans, examples.entry("a"), [examples.node("n0")], states).failing == (
        Problem(Reason.KERNEL_REFUSED, "a refused", name="n0"),
    )
    plans.put(slices.make("plan-00000", [examples.entry("a", rate_bits_per_second=9)]))
    assert outcome_of(plans, examples.entry("a"), [examples.node("n0")], states).failed == 0


def test_behind_the_last_named_limit_nothing_is_believed() -> None:
    """A node with more failing limits than it can name vouches only for names before the last one named."""
    plans = History([slices.make("plan-00000", [examples.entry(n, i) for i, n in enumerate("abcd")])])
    states = [examples.state("n0", plans.digest, **failing("b", failed=2))]
    nodes = [examples.node("n0")]
    assert outcome_of(plans, examples.entry("a"), nodes, states).programmed == 1
    assert outcome_of(plans, examples.entry("b"), nodes, states).failed == 1
    assert outcome_of(plans, examples.entry("c"), nodes, states).failed == 1


def test_a_node_where_all_fail_fails_each_with_the_named_reason() -> None:
    """When as many fail as there are, the first reason stands for all."""
    plans = History([slices.make("plan-00000", [examples.entry(n, i) for i, n in enumerate("abcd")])])
    states = [examples.state("n0", plans.digest, **failing("b", failed=4, desired=4))]
    outcome = outcome_of(plans, examples.entry("a"), [examples.node("n0")], states)
    assert outcome.failing == (Problem(Reason.KERNEL_REFUSED, "b refused", name="n0"),)


@pytest.mark.parametrize(
    ("node", "state"),
    [
        (examples.node("n0", ready=False), {}),
        (examples.node("n0"), {"heard_at": examples.NOW - 3600}),
        (examples.node("n0"), {"retired": True}),
    ],
)
def test_a_node_that_cannot_be_relied_upon_fails(node: objects.Node, state: dict[str, Any]) -> None:
    """Not Ready, silent, or retired: it is counted as failed and named."""
    plans = History([slices.make("plan-00000", [examples.entry("a")])])
    outcome = outcome_of(plans, examples.entry("a"), [node], [examples.state("n0", plans.digest, **state)])
    assert (outcome.programmed, outcome.failed) == (0, 1)
    assert outcome.failing[0].reason == Reason.NODE_NOT_REPORTING


def test_states_of_nodes_that_are_gone_do_not_count() -> None:
    """Until they are collected."""
    plans = History([slices.make("plan-00000", [examples.entry("a")])])
    states = [examples.state("n0", plans.digest), examples.state("gone", plans.digest)]
    assert outcome_of(plans, examples.entry("a"), [examples.node("n0")], states).desired == 1


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
        outcome = answers.outcome(entry)
        assert outcome.desired == len(selected)
        assert outcome.programmed == len(reached) - len(failed_on)
        assert [f.name for f in outcome.failing] == sorted(failed_on)


# ── where packets may skip netfilter ───────────────────────────────────────────────────────────────────────────


SIGN = "device cilium_host"
BYPASSED = Problem(Reason.BYPASSED, "1,204 of 1,204 packets left past it", name="a")


def verified(*names: str, count: int | None = None, sign: str = SIGN) -> dict[str, Any]:
    """The part of a report about verified limits; `count` when there are more than are named."""
    named = frozenset(names)
    return {"datapath_sign": sign, "verified": named, "verified_count": len(names) if count is None else count}


def bypassing(*names: str, bypassed: int | None = None, desired: int = 100) -> dict[str, Any]:
    listed = tuple(BYPASSED._replace(name=name) for name in names)
    all_of_them = len(names) if bypassed is None else bypassed
    return {
        "failing": listed,
        "failed": all_of_them,
        "bypassed": all_of_them,
        "desired": desired,
        "datapath_sign": SIGN,
    }


def of_fleet(*reports: dict[str, Any], limit: str = "a", held: rollup.Held = rollup.Held()) -> Outcome:  # noqa: B008
    """The outcome of a limit among a, b and c, of nodes n0, n1 … that report so."""
    plans = History([slices.make("plan-00000", [examples.entry(n, i) for i, n in enumerate("abc")])])
    nodes = [examples.node(f"n{number}") for number in range(len(reports))]
    states = [examples.state(node.name, plans.digest, **fields) for node, fields in zip(nodes, reports, strict=True)]
    views = rollup.views(snapshot(nodes, states), plans, examples.NOW)
    return rollup.Rollup(views, plans).outcome(examples.entry(limit), held=held)


def ready(outcome: Outcome) -> tuple[str, str]:
    found = conditions(outcome)["Ready"]
    return found["status"], found["reason"]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([{}, {}], ("True", "Ready")),
        ([{}, verified("a", sign="")], ("True", "Ready")),
        ([{}, verified()], ("Unknown", "Unverified")),
        ([{}, verified("b")], ("Unknown", "Unverified")),
        ([{}, verified("a")], ("True", "Ready")),
        ([verified("a", sign=""), verified()], ("True", "Ready")),
        ([*[verified()] * 98, verified("a"), verified("a")], ("True", "Ready")),
        ([verified("a"), bypassing("a")], ("False", "Bypassed")),
        ([verified(), bypassing("b")], ("Unknown", "Unverified")),
        ([bypassing("a"), failing("a")], ("False", "KernelRefused")),
        ([bypassing("a"), {"retired": True}], ("False", "NodeNotReporting")),
        ([bypassing("a"), {"plan_digest": "f" * 32}], ("False", "Pending")),
    ],
)
def test_ready_where_packets_may_skip_netfilter(reports: list[dict[str, Any]], expected: tuple[str, str]) -> None:
    """Bypassed anywhere: False. A sign, and no selected node has verified it: Unknown. Else as ever."""
    assert ready(of_fleet(*reports)) == expected


def test_what_is_bypassed_or_unverified_is_programmed() -> None:
    """The kernels hold it: only whether packets come by is in question; neither is the author's to mend."""
    for outcome in (of_fleet({}, bypassing("a")), of_fleet({}, verified())):
        found = conditions(outcome)
        assert [found[kind]["status"] for kind in ("Accepted", "Programmed")] == ["True", "True"]
        assert found["Programmed"]["message"] == "programmed on all 2 nodes"
        assert "Stalled" not in found
    outcome = of_fleet({}, bypassing("a"))
    assert (outcome.desired, outcome.programmed, outcome.failed) == (2, 1, 1)
    assert not limit_status.pending(outcome)


def test_the_messages_have_nodes_signs_and_numbers() -> None:
    """Where, why it is so, and what comes next."""
    told = conditions(of_fleet({}, bypassing("a")))["Ready"]["message"]
    assert told == "bypassed on 1 of 2 nodes; n1: 1,204 of 1,204 packets left past it"
    told = conditions(of_fleet({}, verified()))["Ready"]["message"]
    assert "no packet of its clients was seen to pass its class yet" in told
    assert "n1 past its class (device cilium_host)" in told
    told = conditions(of_fleet(verified("a"), verified("a"), verified(), verified()))["Ready"]["message"]
    assert told == "in force on all 4 nodes; its packets were seen to pass its class on 2 of them: n0, n1"
    told = conditions(of_fleet(*[verified("a")] * 5))["Ready"]["message"]
    assert told.endswith("on 5 of them: n0, n1, n2 and others")


def test_without_a_sign_a_status_is_as_ever() -> None:
    """Nothing of it is written, so that no status changes where no node asks."""
    written = limit_status.status(of_fleet(verified("a", sign="")), examples.limit("a"), examples.NOW)
    assert "verified" not in written
    assert conditions(of_fleet({}))["Ready"]["message"] == "in force on the one node"


def test_more_bypassed_limits_than_a_report_can_name() -> None:
    """Those behind the last named one may be among them: Unknown, but for those that are named as verified."""
    crowded = bypassing("b", bypassed=50)
    assert ready(of_fleet(crowded | verified("a"))) == ("True", "Ready")
    outcome = of_fleet(crowded, verified("c"), limit="c")
    assert ready(outcome) == ("Unknown", "Unverified")
    assert "50 limits are bypassed on n0" in conditions(outcome)["Ready"]["message"]
    assert ready(of_fleet(crowded | verified("c"), limit="c")) == ("True", "Ready")
    everything = of_fleet(bypassing("b", bypassed=100), limit="c")
    assert ready(everything) == ("False", "Bypassed")
    assert "so is every limit of this node; b: 1,204 of" in conditions(everything)["Ready"]["message"]


def test_a_verified_limit_stays_so() -> None:
    """Whatever the node names later, or after a start; not where it is bypassed, nor if no such node is left."""
    held = rollup.Held(2, ("n0",))
    crowded = verified("b", count=9)
    assert of_fleet(crowded, held=held).verified == rollup.Held(1, ("n0",))
    assert of_fleet(crowded, crowded, held=held).verified == rollup.Held(2, ("n0",))
    assert of_fleet(verified(), verified("a"), held=held).verified == rollup.Held(2, ("n0", "n1"))
    assert ready(of_fleet(crowded, held=held)) == ("True", "Ready")
    assert ready(of_fleet(verified(), held=held)) == ("True", "Ready")
    assert ready(of_fleet(verified(), held=rollup.Held(1, ("gone",)))) == ("Unknown", "Unverified")
    assert ready(of_fleet(bypassing("a"), held=held)) == ("False", "Bypassed")
    assert of_fleet(bypassing("a"), verified(), held=held).verified == rollup.Held(0, ())


def test_what_is_held_is_read_from_the_status_of_the_same_edit() -> None:
    """Or of one that changed words or the end only, and nothing of a status that is not ours."""
    known = examples.limit("a")
    status = limit_status.status(of_fleet(verified("a"), verified("a")), known, examples.NOW)
    assert limit_status.held(dataclasses.replace(known, status=status)) == rollup.Held(2, ("n0", "n1"))
    for words in ({"reason": "ticket 4711"}, {"ttlSeconds": 7200}, {"expiresAt": "2030-01-31T18:00:00Z"}):
        edited = dataclasses.replace(examples.limit("a", generation=2, **words), status=status)
        assert limit_status.held(edited) == rollup.Held(2, ("n0", "n1")), words
    for change in (
        {"client": "203.0.113.8"},
        {"egress": {"rate": "6Mbit"}},
        {"egress": {"rate": "5Mbit", "ports": [{"port": 993}]}},
        {"egress": {"rate": "5Mbit", "sharing": "PerEntry"}},
        {"egress": {"rate": "5Mbit", "distribution": "SplitEvenly"}},
        {"egress": {"rate": "5Mbit", "burst": "64k"}},
        {"mode": "Observe"},
        {"priority": 7},
        {"nodeSelector": {"matchLabels": {"a": "b"}}},
    ):
        edited = dataclasses.replace(examples.limit("a", generation=2, **change), status=status)
        assert limit_status.held(edited) == rollup.Held(), change
    # A status of before the digest was written counts for the same edit.
    del status["verified"]["form"]
    assert limit_status.held(dataclasses.replace(known, status=status)) == rollup.Held(2, ("n0", "n1"))
    assert limit_status.held(dataclasses.replace(known, status=status, generation=2)) == rollup.Held()


def test_what_was_verified_outlasts_a_broken_edit() -> None:
    """What was accepted before stays in force; once it is written again, it is what was verified."""
    known = examples.limit("a")
    good = of_fleet(verified("a"))
    before = limit_status.status(good, known, examples.NOW)
    broken = dataclasses.replace(examples.limit("a", generation=2, egress={"rate": "no"}), status=before)
    assert limit_status.held(broken) == rollup.Held(1, ("n0",))
    kept = limit_status.status(good._replace(rejected=(Problem(Reason.INVALID, "no"),)), broken, examples.NOW)
    assert kept["verified"] == before["verified"]
    mended = dataclasses.replace(examples.limit("a", generation=3, reason="again"), status=kept)
    assert limit_status.held(mended) == rollup.Held(1, ("n0",))
    other = dataclasses.replace(examples.limit("a", generation=3, egress={"rate": "6Mbit"}), status=kept)
    assert limit_status.held(other) == rollup.Held()
    for odd in (7, {}, {"nodes": "2", "names": []}, {"nodes": 2, "names": {}}, {"nodes": -2, "names": [7]}):
        found = limit_status.held(dataclasses.replace(known, status={"observedGeneration": 1, "verified": odd}))
        assert found == rollup.Held()


# ── in words ───────────────────────────────────────────────────────────────────────────────────────────────────


def conditions(outcome: Outcome, limit: objects.Limit | None = None) -> dict[str, dict[str, Any]]:
    found = limit_status.status(outcome, limit or examples.limit("a"), examples.NOW)["conditions"]
    return {c["type"]: c for c in found}


GOOD = Outcome(published=True, desired=3, programmed=3, entry=examples.entry("a"), agents=3)


@pytest.mark.parametrize(
    ("outcome", "reason", "word"),
    [
        (GOOD, "Ready", "all 3 nodes"),
        (GOOD._replace(entry=examples.entry("a", mode=Mode.OBSERVE)), "Ready", "only counting"),
        (GOOD._replace(programmed=1), "Pending", "2 of 3 nodes"),
        (GOOD._replace(published=False, programmed=0), "Pending", "on its way"),
        (GOOD._replace(desired=0, programmed=0), "NoNodeSelected", "none of the 3 nodes"),
        (GOOD._replace(desired=0, programmed=0, agents=0), "NoNodeSelected", "DaemonSet"),
        (
            GOOD._replace(programmed=2, failed=1, failing=(Problem(Reason.FOREIGN_QDISC, "eth0 has tbf", name="n1"),)),
            "ForeignQdisc",
            "not in force on 1 of 3 nodes; n1: eth0 has tbf",
        ),
        (
            GOOD._replace(programmed=2, failed=1, failing=(Problem(Reason("OfTheFuture"), "?", name="n1"),)),
            "KernelRefused",
            "n1: ?",
        ),
        (
            Outcome(left_out=Problem(Reason.EXPIRED, "the limit's time is over", "spec.expiresAt")),
            "Expired",
            "spec.expiresAt: the limit's time is over",
        ),
        (
            Outcome(rejected=(Problem(Reason.INVALID, "no rate", "spec.egress.rate"),)),
            "Invalid",
            "spec.egress.rate: no rate",
        ),
        (
            GOOD._replace(rejected=(Problem(Reason.INVALID, "no rate", "spec.egress.rate"),)),
            "KeptPrevious",
            "what was accepted before stays in force",
        ),
    ],
)
def test_the_condition_ready_says_why(outcome: Outcome, reason: str, word: str) -> None:
    """Every state has its reason and a message that says what is wrong."""
    ready = conditions(outcome)["Ready"]
    assert ready["reason"] == reason == limit_status.ready_reason(outcome)
    assert ready["status"] == ("True" if reason == "Ready" else "False")
    assert word in ready["message"]
    assert ready["observedGeneration"] == 1


def test_a_reason_of_a_newer_agent_is_handed_on_as_it_is() -> None:
    """From a report to the list of failing nodes no word is lost that this version does not know."""
    plans = History([slices.make("plan-00000", [examples.entry("a")])])
    newer = Problem(Reason("OfTheFuture"), "?", name="a")
    report = examples.state("n0", plans.digest, desired=1, failed=1, failing=(newer,))
    written = node_state.write(report.content)
    read = dataclasses.replace(report, content=node_state.read({"metadata": {"name": "n0"}, "status": written}))
    outcome = outcome_of(plans, examples.entry("a"), [examples.node("n0")], [read])
    status = limit_status.status(outcome, examples.limit("a"), examples.NOW)
    assert status["failingNodes"] == [{"name": "n0", "reason": "OfTheFuture", "message": "?"}]


def test_the_same_outcome_over_what_it_wrote_changes_nothing() -> None:
    """A status is written only when it differs: a second time it is the same, later or not."""
    limit = examples.limit("a")
    for outcome in (GOOD, GOOD._replace(programmed=1), Outcome(left_out=Problem(Reason.EXPIRED, "over"))):
        status = limit_status.status(outcome, limit, examples.NOW)
        written = dataclasses.replace(limit, status=status)
        assert limit_status.status(outcome, written, examples.NOW + 100) == status


def test_only_a_change_of_status_moves_the_time() -> None:
    """lastTransitionTime stays when only the reason or the message changes."""
    limit = examples.limit("a")
    status = limit_status.status(GOOD._replace(programmed=1), limit, examples.NOW)
    later = limit_status.status(
        GOOD._replace(programmed=2), dataclasses.replace(limit, status=status), examples.NOW + 9
    )
    assert {c["lastTransitionTime"] for c in later["conditions"]} == {
        c["lastTransitionTime"] for c in status["conditions"]
    }


def test_effective_numbers() -> None:
    """The rate as written, what a node enforces of it, and the burst that the agent computes."""
    status = limit_status.status(
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
    bad = Outcome(rejected=(Problem(Reason.INVALID, "no rate", "spec.egress.rate"),))
    limit = examples.limit("a")
    status = limit_status.status(bad, limit, examples.NOW)
    stalled = conditions(bad)["Stalled"]
    assert (stalled["status"], stalled["reason"]) == ("True", "Invalid")
    written = dataclasses.replace(limit, status=status)
    assert limit_status.status(bad, written, examples.NOW + 100) == status
    mended = limit_status.status(GOOD, written, examples.NOW + 200)
    assert {c["type"] for c in mended["conditions"]} == {"Accepted", "Programmed", "Ready", "Conflicted"}


# ── the plan ───────────────────────────────────────────────────────────────────────────────────────────────────


def planned(limits: list[objects.Limit], written: tuple[slices.Slice, ...] = ()) -> planning.Planned:
    found = objects.Snapshot({k.name: k for k in limits}, {}, {}, {})
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
    node = objects.read(objects.Kind.NODE, item, None)
    assert isinstance(node, objects.Node)
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
    snapshot = objects.Snapshot({k.name: k for k in found}, {node.name: node}, {}, {})
    made = planning.plan_of(snapshot, written, examples.NOW)
    assert set(made.plan.entries) == {"spared", "elsewhere"}
    assert set(made.rejected) == {"around", "six", "broken"}
    why = made.rejected["around"][0]
    assert (why.reason, why.field) == (Reason.PROTECTED_ADDRESS, "spec.clients[0]")
    assert "192.0.2.5/32 to spec.except" in why.message
    assert made.rejected["broken"][0].reason is Reason.INVALID


def test_overlaps_beyond_the_budget_are_left_out_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest goes without and says so; on nodes that enforce only one of two, nothing is beyond it."""
    monkeypatch.setattr(budget, "SHARED", 0)
    monkeypatch.setattr(budget, "FREE", 0)
    low, high = [{"port": 1, "endPort": 9}], [{"port": 5, "endPort": 20}]
    found = [
        examples.limit("a", client="203.0.113.0/24", egress={"rate": "5Mbit", "ports": low}),
        examples.limit("b", client="203.0.113.0/24", egress={"rate": "5Mbit", "ports": high}),
        examples.limit("c", client="198.51.100.7"),
    ]
    made = planned(found)
    assert set(made.plan.entries) == {"a", "c"}
    outcome = planning.outcome("b", made, rollup.Rollup([], History([])), {})
    conditions = {c["type"]: c for c in limit_status.status(outcome, found[1], examples.NOW)["conditions"]}
    assert (conditions["Ready"]["status"], conditions["Ready"]["reason"]) == ("False", "OverlapBudget")
    assert "budget" in conditions["Ready"]["message"]
    apart = [
        examples.limit(
            name,
            client="203.0.113.0/24",
            egress={"rate": "5Mbit", "ports": dialled},
            nodeSelector={"matchLabels": {"zone": name}},
        )
        for name, dialled in (("a", low), ("b", high))
    ]
    nodes = [examples.node("n0", zone="a"), examples.node("n1", zone="b")]
    states = [examples.state("n0", "d"), examples.state("n1", "d")]
    of_nodes = dataclasses.replace(snapshot(nodes, states), limits={k.name: k for k in apart})
    assert set(planning.plan_of(of_nodes, {}, examples.NOW).plan.entries) == {"a", "b"}


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
