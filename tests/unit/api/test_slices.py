"""The wire forms between operator and agents: round trips, digests, what cannot be read, size and speed."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api import plan
from bandwidth_api.compiler import assembly
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import node_state, slices
from bandwidth_api.plan import Plan, Prefix
from unit.operator import examples


@given(st.lists(examples.entries(), max_size=5, unique_by=lambda e: e.limit), st.integers(0, 2**40))
def test_a_slice_is_read_as_it_was_written(entries: list[object], term: int) -> None:
    """What a reader decodes from JSON equals what the writer encoded, the digest included."""
    made = slices.make("plan-00000", entries, term)  # type: ignore[arg-type]
    wire = json.loads(json.dumps({"metadata": {"name": "plan-00000"}, "spec": slices.write(made)}))
    assert slices.read(wire) == made


def test_a_head_is_read_as_it_was_written() -> None:
    """The head names slices and may say retire."""
    for head in (slices.Head(("plan-00000", "plan-00001"), term=3), slices.Head((), retire=True, term=4)):
        assert slices.read({"metadata": {"name": "plan"}, "spec": slices.write(head)}) == head


def test_a_head_says_how_many_nodes_there_are() -> None:
    """It is read as it was written, retiring or not; of few nodes the object says nothing."""
    for head in (slices.Head(("plan-00000",), nodes=8192), slices.Head((), retire=True, term=4, nodes=512)):
        assert slices.read({"metadata": {"name": "plan"}, "spec": slices.write(head)}) == head
    assert "nodes" not in slices.write(slices.Head(("plan-00000",)))


@pytest.mark.parametrize("nodes", [None, 0, -1, -(10**400), 1.5, 512.0, True, "512", "many", [], {}, [512]])
def test_a_head_is_never_lost_for_its_number_of_nodes(nodes: object) -> None:
    """What is no number of nodes counts as none, because the names of the slices are what matters."""
    spec = {"schema": 1, "term": 2, "slices": ["plan-00000"], "nodes": nodes}
    assert slices.read({"metadata": {"name": "plan"}, "spec": spec}) == slices.Head(("plan-00000",), term=2)


@given(examples.entries())
def test_digests_differ_when_anything_does(entry: object) -> None:
    """Another rate is another digest, of the slice and of the plan."""
    assert isinstance(entry, examples.PlanEntry)
    faster = dataclasses.replace(entry, rate_bits_per_second=entry.rate_bits_per_second + 1)
    one, other = slices.make("x", [entry]), slices.make("x", [faster])
    assert one.digest != other.digest
    assert slices.plan_digest({"x": one.digest}) != slices.plan_digest({"x": other.digest})


def test_the_digest_of_a_plan_does_not_depend_on_the_order_of_arrival() -> None:
    """Slices count in the order of their names, however they came; the same content elsewhere is another plan."""
    assert slices.plan_digest({"a": "1", "b": "2"}) == slices.plan_digest({"b": "2", "a": "1"})
    assert slices.plan_digest({"a": "1", "b": "2"}) != slices.plan_digest({"a": "2", "b": "1"})
    assert slices.plan_digest({}) != slices.plan_digest({}, retire=True)


def test_an_end_within_a_second_is_rounded_up() -> None:
    """No limit ends early because times on the wire are whole seconds."""
    assert plan.write_entry(examples.entry(expires_at=100.2, created_at=50.7)) == {
        "name": "a",
        "clients": ["203.0.113.7"],
        "rate": 5_000_000,
        "created": 50,
        "expires": 101,
    }


_GOOD = {"name": "a", "clients": ["203.0.113.7"], "rate": 1, "created": 0}


@pytest.mark.parametrize(
    "spec",
    [
        None,
        [],
        {},
        {"schema": 2, "term": 0, "entries": []},
        {"schema": "1", "entries": []},
        {"schema": 1, "entries": "abc"},
        {"schema": 1, "entries": [1]},
        {"schema": 1, "entries": {"a": 1}},
        {"schema": 1, "slices": [1]},
        {"schema": 1, "slices": 7},
        {"schema": 1, "term": "x", "entries": []},
        {"schema": 1, "entries": [{k: v for k, v in _GOOD.items() if k != "rate"}]},
        *(
            {"schema": 1, "entries": [_GOOD | change]}
            for change in (
                {"name": ""},
                {"name": 3},
                {"clients": None},
                {"clients": 7},
                {"clients": ["203.0.113.7/24"]},
                {"clients": ["203.0.113.0/33"]},
                {"clients": ["nobody"]},
                {"clients": [7]},
                {"rate": 0},
                {"rate": -1},
                {"rate": "5M"},
                {"rate": 1.5},
                {"rate": True},
                {"burst": 0},
                {"mode": "Disabled"},
                {"mode": 1},
                {"sharing": "Some"},
                {"priority": "high"},
                {"created": None},
                {"expires": "soon"},
                {"ports": ["TCP:0-1"]},
                {"ports": ["ICMP:1-1"]},
                {"ports": ["TCP:9-1"]},
                {"ports": ["TCP"]},
                {"except": ["203.0.113.7/24"]},
                {"nodeSelector": [{"key": "a", "operator": "Like"}]},
                {"nodeSelector": ["a"]},
            )
        ),
    ],
)
def test_what_cannot_be_read_is_a_value(spec: object) -> None:
    """An object of another schema, or a broken one, is Unreadable with a message, never an exception."""
    found = slices.read({"metadata": {"name": "plan-00000"}, "spec": spec})
    assert isinstance(found, slices.Unreadable)
    assert found.name == "plan-00000"
    assert found.message


def test_ten_thousand_entries_are_small() -> None:
    """10,000 entries: 100 slices of less than 15 KB each, and every entry is read again."""
    everything = [examples.entry(f"client-{n:05d}", 0x0A000000 + n * 7) for n in range(10_000)]
    texts = [
        json.dumps({"metadata": {"name": name}, "spec": slices.write(slices.make(name, part))}, separators=(",", ":"))
        for k in range(100)
        for name, part in [(slices.slice_name(k), everything[100 * k : 100 * k + 100])]
    ]
    assert max(map(len, texts)) < 15_000
    read = [slices.read(json.loads(text)) for text in texts]
    assert sum(len(s.entries) for s in read if isinstance(s, slices.Slice)) == 10_000


def test_names_and_numbers_of_slices() -> None:
    """Names sort as their numbers do, and foreign names have no number."""
    assert [slices.slice_number(slices.slice_name(n)) for n in (0, 7, 99_999)] == [0, 7, 99_999]
    assert [slices.slice_number(n) for n in ("plan", "plan-7", "plan-x", "other-00001")] == [None] * 4


# ── what a reader makes of slices ──────────────────────────────────────────────────────────────────────────────

ONE = slices.make("plan-00000", [examples.entry("a")])
TWO = slices.make("plan-00001", [examples.entry("b", 0xCB007108)])
HEAD = slices.Head(("plan-00000", "plan-00001"))


def test_all_slices_make_a_complete_plan() -> None:
    """The head and all that it names: complete, with the digest over all."""
    made = assembly.assemble([TWO, HEAD, ONE], {})
    assert made.complete
    assert set(made.plan.entries) == {"a", "b"}
    assert made.digest == slices.plan_digest({"plan-00000": ONE.digest, "plan-00001": TWO.digest})
    assert made.warnings == ()


def test_without_a_head_nothing_is_known_to_be_all() -> None:
    """No head: what is there may be used, nothing may be lifted."""
    assert not assembly.assemble([], {}).complete
    assert set(assembly.assemble([ONE], {}).plan.entries) == {"a"}
    assert not assembly.assemble([ONE], {}).complete


def test_a_missing_slice_keeps_what_it_held() -> None:
    """A slice that the head names and that is gone lifts nothing, and the digest says what is enforced."""
    whole = assembly.assemble([ONE, TWO, HEAD], {})
    made = assembly.assemble([ONE, HEAD], whole.used)
    assert set(made.plan.entries) == {"a", "b"}
    assert made.complete
    assert made.digest == whole.digest
    assert made.warnings == ("plan-00001 is missing",)


def test_a_missing_slice_that_was_never_seen_makes_the_plan_incomplete() -> None:
    """Nothing may be lifted then."""
    made = assembly.assemble([ONE, HEAD], {})
    assert not made.complete
    assert set(made.plan.entries) == {"a"}


def test_an_unreadable_slice_keeps_what_it_held_and_is_told() -> None:
    """A slice of a schema to come is treated as a missing one, with its own words."""
    whole = assembly.assemble([ONE, TWO, HEAD], {})
    made = assembly.assemble([ONE, slices.Unreadable("plan-00001", "its schema is 9"), HEAD], whole.used)
    assert set(made.plan.entries) == {"a", "b"}
    assert made.warnings == ("plan-00001: its schema is 9",)


def test_a_lost_head_keeps_the_plan() -> None:
    """Without the head all that was known stays, even slices that are gone as well."""
    whole = assembly.assemble([ONE, TWO, HEAD], {})
    made = assembly.assemble([TWO], whole.used)
    assert set(made.plan.entries) == {"a", "b"}
    assert not made.complete


def test_a_slice_that_the_head_does_not_name_yet_counts() -> None:
    """New slices are written before the head names them, and take effect at once."""
    made = assembly.assemble([ONE, TWO, slices.Head(("plan-00000",))], {})
    assert set(made.plan.entries) == {"a", "b"}


def test_a_slice_that_the_head_names_no_more_goes() -> None:
    """A slice is deleted after the head dropped it: then its limits are lifted."""
    whole = assembly.assemble([ONE, TWO, HEAD], {})
    made = assembly.assemble([ONE, slices.Head(("plan-00000",))], whole.used)
    assert made.complete
    assert set(made.plan.entries) == {"a"}


def test_retire_is_an_empty_plan_that_is_complete() -> None:
    """Everything goes, whatever slices are left."""
    made = assembly.assemble([ONE, slices.Head((), retire=True)], {"plan-00000": ONE})
    assert (made.plan, made.complete, made.retire) == (Plan({}), True, True)


def test_the_plan_carries_the_number_of_nodes() -> None:
    """As the head says it, also when it says retire; the digest is what it would be without."""
    told = dataclasses.replace(HEAD, nodes=1024)
    made = assembly.assemble([ONE, TWO, told], {})
    assert made == dataclasses.replace(assembly.assemble([ONE, TWO, HEAD], {}), nodes=1024)
    assert assembly.assemble([slices.Head((), retire=True, nodes=1024)], {}).nodes == 1024


def test_a_lost_head_keeps_the_number_of_nodes() -> None:
    """Every node reports that the head is missing or unreadable, so none may forget how many they are; a head may."""
    made = assembly.assemble([ONE, TWO, dataclasses.replace(HEAD, nodes=1024)], {})
    assert assembly.assemble([ONE, TWO], made.used, made.nodes).nodes == 1024
    assert assembly.assemble([ONE, TWO, slices.Unreadable(slices.HEAD, "?")], made.used, made.nodes).nodes == 1024
    assert assembly.assemble([ONE, TWO, HEAD], made.used, made.nodes).nodes == 0


# ── what a node says of itself ─────────────────────────────────────────────────────────────────────────────────


@given(
    st.builds(
        node_state.NodeState,
        node=st.just("node-0"),
        plan_digest=st.text("0123456789abcdef", min_size=32, max_size=32),
        plan_complete=st.booleans(),
        reported_at=st.integers(0, 2**32).map(float),
        desired=st.integers(0, 100_000),
        programmed=st.integers(0, 100_000),
        failed=st.integers(0, 100_000),
        failing=st.lists(
            st.builds(
                Problem,
                st.just(Reason.KERNEL_REFUSED),
                st.text(max_size=3000),
                name=st.text(min_size=1, max_size=253),
            ),
            max_size=40,
        ).map(tuple),
        interfaces=st.lists(
            st.builds(
                node_state.InterfaceState, st.text(max_size=15), st.text(max_size=200), st.just("ifb"), st.just("Auto")
            ),
            max_size=40,
        ).map(tuple),
        classifier=st.sampled_from(("mark", "priority")),
        classifier_reason=st.text(max_size=3000),
        missing_features=st.lists(st.text(max_size=100), max_size=40).map(tuple),
        version=st.text(max_size=100),
        report_interval_seconds=st.integers(1, 3600),
        retired=st.booleans(),
        message=st.text(max_size=3000),
    )
)
def test_a_report_has_at_most_two_kilobytes(state: node_state.NodeState) -> None:
    """However much there is to tell, the status fits; counts, digest and times survive."""
    status = node_state.write(state)
    assert len(json.dumps(status, separators=(",", ":"), ensure_ascii=False).encode()) <= 2_000
    read = node_state.read({"metadata": {"name": "node-0"}, "status": json.loads(json.dumps(status))})
    assert isinstance(read, node_state.NodeState)
    for field in ("plan_digest", "plan_complete", "reported_at", "desired", "programmed", "failed", "retired"):
        assert getattr(read, field) == getattr(state, field)
    assert [f.name for f in read.failing] == [f.name for f in state.failing][: len(read.failing)]


def test_a_small_report_is_read_as_it_was_written() -> None:
    """Nothing is lost that fits."""
    state = node_state.NodeState(
        node="node-0",
        plan_digest="d",
        plan_complete=True,
        reported_at=examples.NOW,
        desired=2,
        programmed=1,
        failed=1,
        failing=(Problem(Reason.KERNEL_REFUSED, "no memory", name="a"),),
        interfaces=(node_state.InterfaceState("eth0", "mq", "ifb", "Auto"),),
        classifier="mark",
        classifier_reason="free",
        missing_features=("fq_codel",),
        version="1.0",
    )
    assert node_state.read({"metadata": {"name": "node-0"}, "status": node_state.write(state)}) == state


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"schema": 9},
        {"schema": 1},
        {"schema": 1, "lastReportTime": "soon"},
        {"schema": 1, "lastReportTime": "0001-01-01T00:00:00+14:00"},
        {"schema": 1, "lastReportTime": "9999-12-31T23:59:59-12:00"},
        {"schema": 1, "lastReportTime": "2027-01-01T00:00:00Z", "limits": {"desired": "many"}},
    ],
)
def test_a_report_that_cannot_be_read_is_a_value(status: object) -> None:
    """Of another schema, broken or not there: Unreadable, with a message."""
    found = node_state.read({"metadata": {"name": "node-0"}, "status": status})
    assert isinstance(found, node_state.UnreadableState)
    assert found.message


@pytest.mark.parametrize(
    ("nodes", "seconds"), [(0, 0.0), (512, 1.28), (8192, 20.48), (12_000, 30.0), (1 << 20, 30.0), (10**400, 30.0)]
)
def test_many_nodes_take_longer_to_report(nodes: int, seconds: float) -> None:
    """400 reports per second from all of them, but none later than after half a minute."""
    assert node_state.spread_seconds(nodes) == seconds


def test_prefixes_are_written_canonically() -> None:
    """Single addresses without a length, everything else as CIDR."""
    entry = examples.entry(clients=(Prefix(4, 0x0A000000, 8), Prefix(6, 0x20010DB8 << 96, 32), Prefix(6, 1, 128)))
    assert plan.write_entry(entry)["clients"] == ["10.0.0.0/8", "2001:db8::/32", "::1"]
