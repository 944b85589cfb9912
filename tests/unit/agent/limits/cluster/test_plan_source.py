"""What a node of a cluster enforces: from slices and labels that were read, and from the plan on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib

import pytest

from bandwidth_agent.limits.cluster import plan_source, stored_plan, wakeup
from bandwidth_api import addresses, names
from bandwidth_api.crds import asked, slices
from bandwidth_api.plan import Mode, PlanEntry, SelectorTerm, Sharing
from bandwidth_kube.collection import Reading

NODE = "worker-3"
EAST = (SelectorTerm("zone", "In", ("east",)),)
NOT_EAST = (SelectorTerm("zone", "NotIn", ("east",)),)


def entry(
    name: str, *, rate: int = 5_000_000, selector: tuple[SelectorTerm, ...] = (), expires_at: float | None = None
) -> PlanEntry:
    clients = (addresses.parse("203.0.113.7"),)
    shared = Sharing.SHARED
    return PlanEntry(name, "", 0, clients, (), (), rate, None, Mode.ENFORCE, shared, 0, 1.0, expires_at, selector)


def plan_of(*parts: tuple[PlanEntry, ...], retire: bool = False, term: int = 0) -> Reading[slices.Decoded]:
    """A whole plan of one slice for each group of entries."""
    made = [slices.make(slices.slice_name(n), part) for n, part in enumerate(parts)]
    head = slices.Head(tuple(each.name for each in made), retire, term)
    return Reading({slices.HEAD: head, **{each.name: each for each in made}}, "100")


def told(reading: Reading[slices.Decoded], nodes: int) -> Reading[slices.Decoded]:
    """The same plan, for so many nodes."""
    head = reading.items[slices.HEAD]
    assert isinstance(head, slices.Head)
    return Reading({**reading.items, slices.HEAD: dataclasses.replace(head, nodes=nodes)}, reading.resource_version)


def without(reading: Reading[slices.Decoded], *gone: str) -> Reading[slices.Decoded]:
    return Reading({name: item for name, item in reading.items.items() if name not in gone}, "100")


def node_of(**labels: str) -> Reading[plan_source.NodeFacts]:
    return Reading({NODE: plan_source.NodeFacts("uid", labels)}, "7")


class Node:
    """A node of a cluster and what it wrote to its disk."""

    def __init__(self, stored: stored_plan.Stored | None = None, in_force: frozenset[str] | None = frozenset()) -> None:
        self.saved: list[stored_plan.Stored] = []
        self.save = self.saved.append
        self.warning = ""
        self.wakeup = wakeup.Wakeup()
        self.cluster = plan_source.PlanSource(NODE, stored, self, lambda: in_force, self.wakeup)

    def limits(self, now: float = 10.0) -> set[str]:
        return {e.limit for e in self.cluster.wanted(now).entries}

    def restarted(self, in_force: frozenset[str] | None = frozenset()) -> Node:
        """Another process on the same node."""
        return Node(self.saved[-1], in_force)


def ready(*parts: tuple[PlanEntry, ...]) -> Node:
    """A node that has read a plan and its labels."""
    node = Node()
    node.cluster.node_read(node_of())
    node.cluster.slices_read(plan_of(*parts))
    node.cluster.wanted(10.0)
    return node


def asking(reading: Reading[slices.Decoded], renewal: int) -> Reading[slices.Decoded]:
    """The same plan, whose head asks about traffic."""
    head = reading.items[slices.HEAD]
    assert isinstance(head, slices.Head)
    asks = dataclasses.replace(head, traffic=asked.Asked(renewal, 56))
    return Reading({**reading.items, slices.HEAD: asks}, str(int(reading.resource_version) + renewal))


def test_what_is_asked_about_traffic_is_no_reason_for_a_pass() -> None:
    """A head that asks, renews and asks no more wakes nothing, and nothing is written to the disk for it."""
    plan = plan_of((entry("a"),))
    node = Node()
    node.cluster.node_read(node_of())
    node.cluster.slices_read(plan)
    assert node.cluster.drain()
    assert node.limits() == {"a"}
    saved = len(node.saved)
    for reading in (asking(plan, 1), asking(plan, 2), plan):
        node.cluster.slices_read(reading)
        assert not node.cluster.drain()
        assert node.limits() == {"a"}
    assert len(node.saved) == saved
    node.cluster.slices_read(asking(plan_of((entry("a"), entry("b"))), 3))
    assert node.cluster.drain()
    assert node.limits() == {"a", "b"}


# ── what was read ──────────────────────────────────────────────────────────────────────────────────────────────


def test_before_anything_is_read_nothing_is_lifted() -> None:
    """An agent that starts with an empty disk leaves the kernel as it is."""
    wanted = Node().cluster.wanted(10.0)
    assert (wanted.entries, wanted.complete, wanted.digest) == ((), False, None)


def test_a_whole_plan_and_labels_are_complete() -> None:
    """The limits that select the node, and the digest of all of the plan."""
    node = Node()
    reading = plan_of((entry("a"),), (entry("b", selector=EAST), entry("c", selector=NOT_EAST)))
    node.cluster.node_read(node_of(zone="east"))
    node.cluster.slices_read(reading)
    wanted = node.cluster.wanted(10.0)
    assert {e.limit for e in wanted.entries} == {"a", "b"}
    assert (wanted.complete, wanted.warnings) == (True, ())
    assert wanted.digest == slices.plan_digest(
        {name: item.digest for name, item in reading.items.items() if isinstance(item, slices.Slice)}
    )


def test_the_number_of_nodes_comes_with_the_plan() -> None:
    """As the head says it; it makes no other plan, is no reason to write to the disk, and outlives a lost head."""
    node = ready((entry("a"),))
    before = node.cluster.wanted(10.0)
    assert before.nodes == 0
    node.cluster.slices_read(told(plan_of((entry("a"),)), 1024))
    assert node.cluster.wanted(10.0) == dataclasses.replace(before, nodes=1024)
    assert len(node.saved) == 1
    node.cluster.slices_read(without(plan_of((entry("a"),)), slices.HEAD))
    assert node.cluster.wanted(10.0).nodes == 1024
    node.cluster.slices_read(told(plan_of(retire=True), 2048))
    assert (node.cluster.wanted(10.0).retire, node.cluster.wanted(10.0).nodes) == (True, 2048)


def test_without_labels_only_limits_for_every_node_are_taken_and_none_lifted() -> None:
    """A selector that excludes must not be judged by labels that are not known."""
    node = Node()
    node.cluster.slices_read(plan_of((entry("a"), entry("b", selector=EAST), entry("c", selector=NOT_EAST))))
    wanted = node.cluster.wanted(10.0)
    assert {e.limit for e in wanted.entries} == {"a"}
    assert not wanted.complete
    assert "labels" in wanted.warnings[0]


def test_labels_that_change_change_the_limits() -> None:
    """At the next look; a Node that is gone for the moment has the labels that it had."""
    node = Node()
    node.cluster.slices_read(plan_of((entry("b", selector=EAST), entry("c", selector=NOT_EAST))))
    node.cluster.node_read(node_of(zone="east"))
    assert node.limits() == {"b"}
    node.cluster.node_read(node_of(zone="west"))
    assert node.limits() == {"c"}
    node.cluster.node_read(Reading({}, "8"))
    assert node.limits() == {"c"}
    assert node.cluster.wanted(10.0).complete


def test_a_missing_slice_keeps_its_limits() -> None:
    """What the head names and cannot be read stays as it was last read."""
    node = ready((entry("a"),), (entry("b"),))
    whole = plan_of((entry("a"),), (entry("b"),))
    node.cluster.slices_read(without(whole, slices.slice_name(1)))
    wanted = node.cluster.wanted(10.0)
    assert {e.limit for e in wanted.entries} == {"a", "b"}
    assert wanted.complete
    assert slices.slice_name(1) in wanted.warnings[0]


def test_a_missing_head_lifts_nothing() -> None:
    """As after all objects were deleted, or the kind of them."""
    node = ready((entry("a"),), (entry("b"),))
    node.cluster.slices_read(Reading({}, "100"))
    wanted = node.cluster.wanted(10.0)
    assert {e.limit for e in wanted.entries} == {"a", "b"}
    assert wanted.partial


def test_of_a_plan_that_is_not_all_there_what_is_missing_stays() -> None:
    """Also a limit that a slice no longer holds, for it may have moved; but one whose time is over ends."""
    node = ready((entry("a"), entry("b", expires_at=50.0)), (entry("c"),))
    rest = plan_of((entry("d"),))
    node.cluster.slices_read(without(rest, slices.HEAD))
    assert node.limits(10.0) == {"a", "b", "c", "d"}
    assert node.cluster.wanted(10.0).partial
    assert node.cluster.wanted(10.0).until == 50.0
    assert node.limits(60.0) == {"a", "c", "d"}
    node.cluster.slices_read(rest)
    assert node.limits(60.0) == {"d"}
    assert not node.cluster.wanted(60.0).partial


def test_a_first_plan_that_is_not_all_there_lifts_nothing() -> None:
    """What is there is put in force; the kernel may hold limits that are not known yet."""
    node = Node()
    node.cluster.node_read(node_of())
    node.cluster.slices_read(without(plan_of((entry("a"),), (entry("b"),)), slices.slice_name(1)))
    wanted = node.cluster.wanted(10.0)
    assert {e.limit for e in wanted.entries} == {"a"}
    assert (wanted.complete, wanted.partial) == (False, True)


def test_expiry_needs_no_reading() -> None:
    """A limit ends by the clock, and it is known when."""
    node = ready((entry("a", expires_at=50.0), entry("b", expires_at=90.0), entry("c")))
    assert node.cluster.wanted(49.0).until == 50.0
    assert node.limits(49.9) == {"a", "b", "c"}
    assert node.limits(50.0) == {"b", "c"}
    assert node.cluster.wanted(50.0).until == 90.0
    assert node.cluster.wanted(90.0).until is None


def test_the_loop_is_woken_by_what_is_read() -> None:
    """Once for all that was read since; nothing to do otherwise."""
    node = Node()
    assert not node.cluster.drain()
    node.cluster.slices_read(plan_of((entry("a"),)))
    node.cluster.node_read(node_of())
    assert node.cluster.drain()
    assert not node.cluster.drain()


def test_a_thread_that_ended_ends_the_process() -> None:
    """The loop meets the error at its next turn; none is silent."""
    node = Node()
    node.wakeup.crashed("slices", KeyError("spec"))
    with pytest.raises(wakeup.CrashError, match="slices") as caught:
        node.cluster.drain()
    assert isinstance(caught.value.__cause__, KeyError)


# ── retire ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_retire_takes_everything_away_until_a_new_start() -> None:
    """A plan of an earlier leader is not taken up; one that is there at the next start is."""
    node = ready((entry("a"),))
    node.cluster.slices_read(plan_of(retire=True, term=1))
    wanted = node.cluster.wanted(10.0)
    assert (wanted.entries, wanted.complete, wanted.retire) == ((), True, True)
    node.cluster.slices_read(plan_of((entry("a"),)))
    assert node.cluster.wanted(10.0) == wanted
    assert wanted.digest == slices.plan_digest({}, retire=True)
    again = node.restarted()
    again.cluster.node_read(node_of())
    assert again.cluster.wanted(10.0).retire
    assert again.cluster.wanted(10.0).digest is None  # not reported: it may be what another installation left
    again.cluster.slices_read(plan_of((entry("a"),)))
    assert again.limits() == {"a"}
    assert not again.cluster.wanted(10.0).retire


def test_a_retirement_of_a_term_that_can_be_none_ends_with_the_next_plan() -> None:
    """No leader could ever begin a later one; the operator makes such a head again in a term of its own."""
    node = ready((entry("a"),))
    node.cluster.slices_read(plan_of(retire=True, term=2**62))
    assert node.cluster.wanted(10.0).retire
    node.cluster.slices_read(plan_of((entry("a"),), term=7))
    assert not node.cluster.wanted(10.0).retire


def test_a_restore_to_before_a_retirement_ends_it() -> None:
    """The server counts from an earlier term again, and what it says now is what counts."""
    node = ready((entry("a"),))
    node.cluster.slices_read(dataclasses.replace(plan_of(retire=True, term=50), resource_version="900"))
    assert node.cluster.wanted(10.0).retire
    node.cluster.slices_read(dataclasses.replace(plan_of((entry("a"),), term=30), resource_version="950"))
    assert node.cluster.wanted(10.0).retire
    node.cluster.slices_read(dataclasses.replace(plan_of((entry("a"),), term=30), resource_version="400"))
    assert not node.cluster.wanted(10.0).retire


@pytest.mark.parametrize("term", [0, 4])
def test_a_leader_that_was_deposed_ends_no_retirement(term: int) -> None:
    """Its last write may arrive after the head said retire, and has an earlier term."""
    node = ready((entry("a"),))
    node.cluster.slices_read(plan_of(retire=True, term=5))
    assert node.cluster.wanted(10.0).retire
    node.cluster.slices_read(plan_of((entry("a"),), term=term))
    assert node.cluster.wanted(10.0).retire


@pytest.mark.parametrize("term", [5, 6])
def test_a_plan_of_a_later_term_ends_a_retirement(term: int) -> None:
    """Or of the same, from a leader whose head was edited, once it is whole: no agent need be started again."""
    node = ready((entry("a"),))
    node.cluster.slices_read(plan_of(retire=True, term=5))
    assert node.cluster.wanted(10.0).retire
    later = plan_of((entry("a"),), (entry("b"),), term=term)
    node.cluster.slices_read(without(later, "plan-00001"))
    assert node.cluster.wanted(10.0).retire
    node.cluster.slices_read(later)
    wanted = node.cluster.wanted(10.0)
    assert (wanted.retire, wanted.complete, node.limits()) == (False, True, {"a", "b"})
    assert not node.saved[-1].retire


def test_after_a_retirement_was_carried_out_any_plan_is_a_later_one() -> None:
    """The head was deleted: whoever makes one has nothing to do with who was deposed, whatever its term."""
    node = ready((entry("a"),))
    node.cluster.slices_read(plan_of(retire=True, term=5))
    assert node.cluster.wanted(10.0).retire
    node.cluster.slices_read(Reading({}, "100"))
    assert node.cluster.wanted(10.0).retire
    node.cluster.slices_read(plan_of((entry("a"),), term=1))
    assert node.limits() == {"a"}


def test_a_head_that_cannot_be_read_is_not_gone() -> None:
    """It ends no retirement, and the plan of before stays one of before."""
    node = ready((entry("a"),))
    node.cluster.slices_read(plan_of(retire=True, term=5))
    assert node.cluster.wanted(10.0).retire
    node.cluster.slices_read(Reading({slices.HEAD: slices.Unreadable(slices.HEAD, "its schema is 9")}, "100"))
    assert node.cluster.wanted(10.0).retire
    node.cluster.slices_read(plan_of((entry("a"),), term=4))
    assert node.cluster.wanted(10.0).retire


# ── the plan on disk ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_start_without_the_api_uses_the_plan_on_disk() -> None:
    """Whole, with the labels of then, and expiring by the clock."""
    node = Node()
    node.cluster.node_read(node_of(zone="east"))
    node.cluster.slices_read(plan_of((entry("a", expires_at=50.0), entry("b", selector=EAST))))
    before = node.cluster.wanted(10.0)
    after = node.restarted(frozenset({"a", "b"})).cluster.wanted(10.0)
    assert after == before
    assert node.restarted().limits(60.0) == {"b"}


def test_a_disk_that_is_behind_the_kernel_lifts_nothing() -> None:
    """A limit in the kernel that the plan on disk does not know stays until the API server has said so."""
    node = ready((entry("a"),))
    again = node.restarted(frozenset({"a", "newer"}))
    assert not again.cluster.wanted(10.0).complete
    again.cluster.slices_read(without(plan_of((entry("a"),)), slices.HEAD))
    assert not again.cluster.wanted(10.0).complete
    again.cluster.slices_read(plan_of((entry("a"),)))
    assert again.cluster.wanted(10.0).complete


def test_a_kernel_that_cannot_be_read_at_the_start_loses_nothing() -> None:
    """Whether the disk is behind it is not known."""
    assert not ready((entry("a"),)).restarted(None).cluster.wanted(10.0).complete


def test_names_that_are_cut_in_the_kernel_are_known() -> None:
    """A limit of a very long name is no stranger."""
    long = "x" * 250
    node = ready((entry(long),))
    assert node.restarted(frozenset({names.short_limit(long)})).cluster.wanted(10.0).complete


def test_only_whole_plans_with_labels_are_kept_and_only_when_they_change() -> None:
    """Nothing is written for what is on the disk already."""
    node = Node()
    node.cluster.slices_read(plan_of((entry("a"),)))
    node.cluster.wanted(10.0)
    assert node.saved == []
    node.cluster.node_read(node_of(zone="east"))
    for _ in range(3):
        node.cluster.wanted(10.0)
    assert len(node.saved) == 1
    node.cluster.slices_read(Reading({}, "100"))
    node.cluster.wanted(10.0)
    assert len(node.saved) == 1
    node.cluster.slices_read(plan_of((entry("a", rate=6_000_000),)))
    node.cluster.wanted(10.0)
    node.cluster.node_read(node_of(zone="west"))
    node.cluster.wanted(10.0)
    assert [s.labels["zone"] for s in node.saved] == ["east", "east", "west"]


def test_a_disk_that_keeps_nothing_is_told() -> None:
    """In the log and in the node's state; the limits are in force all the same."""
    node = ready((entry("a"),))
    node.warning = "cannot write plan.json: Read-only file system"
    wanted = node.cluster.wanted(10.0)
    assert "Read-only file system" in wanted.warnings[0]
    assert wanted.complete


def test_what_a_slice_held_is_known_after_a_start() -> None:
    """A slice that was deleted by hand while the agent was away lifts no limit."""
    node = ready((entry("a"),), (entry("b"),))
    again = node.restarted()
    again.cluster.slices_read(without(plan_of((entry("a"),), (entry("b"),)), slices.slice_name(1)))
    assert again.limits() == {"a", "b"}


# ── the file ───────────────────────────────────────────────────────────────────────────────────────────────────


def stored(**changed: object) -> stored_plan.Stored:
    items = {
        "plan-00000": slices.make("plan-00000", [entry("a", selector=EAST, expires_at=50.0), entry("b")], 3),
        "plan-00001": slices.Slice("plan-00001", (entry("c"),), "digest-of-a-newer-writer", 4),
    }
    fields = {"node": NODE, "labels": {"zone": "east"}, "slices": items, "retire": False, "resource_version": "100"}
    return stored_plan.Stored(**(fields | changed))  # type: ignore[arg-type]


def store(directory: pathlib.Path, node: str = NODE) -> stored_plan.Store:
    return stored_plan.Store(directory, node, lambda thread, error: None)


def written(directory: pathlib.Path, plan: stored_plan.Stored) -> pathlib.Path:
    one = store(directory)
    one.save(plan)
    one.close()
    return directory / stored_plan.NAME


def test_what_is_written_is_read_again(tmp_path: pathlib.Path) -> None:
    """All of it, the digests of the writer included; private to its owner."""
    path = written(tmp_path / "state", stored())
    one = store(tmp_path / "state")
    assert one.load() == stored()
    assert one.warning == ""
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == [stored_plan.NAME]


def test_a_plan_without_limits_is_a_plan(tmp_path: pathlib.Path) -> None:
    """Nothing is to be enforced, and that is known; so is a plan that said retire."""
    written(tmp_path, stored(slices={}, retire=True))
    assert store(tmp_path).load() == stored(slices={}, retire=True)


def test_the_newest_plan_is_on_the_disk_at_the_end(tmp_path: pathlib.Path) -> None:
    """However fast they came."""
    one = store(tmp_path)
    for number in range(50):
        one.save(stored(resource_version=str(number)))
    one.close()
    found = store(tmp_path).load()
    assert found is not None
    assert found.resource_version == "49"


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text", "layout", "schema", "node"])
def test_a_file_that_cannot_be_used_is_set_aside(tmp_path: pathlib.Path, damage: str) -> None:
    """Damaged, of another version or of another node: nothing is taken from it, and it is kept to be looked at."""
    path = written(tmp_path, stored(node="other") if damage == "node" else stored())
    data = path.read_bytes()
    match damage:
        case "cut":
            data = data[: len(data) // 2]
        case "bit":
            data = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
        case "empty":
            data = b""
        case "text":
            data = b"\xff\xfenot ours\n"
        case "layout":
            data = _signed(data.replace(b'"layout":1', b'"layout":99'))
        case "schema":
            data = _signed(data.replace(b'"schema":1', b'"schema":99'))
    path.write_bytes(data)
    assert store(tmp_path).load() is None
    assert (tmp_path / f"{stored_plan.NAME}.unusable").read_bytes() == data
    assert not path.exists()


def _signed(data: bytes) -> bytes:
    text = data.partition(b"\n")[2]
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def test_what_a_killed_process_left_beside_is_swept(tmp_path: pathlib.Path) -> None:
    """Half a file is never read, and goes at the next start."""
    path = written(tmp_path, stored())
    (tmp_path / f".{path.name}.77").write_text("half")
    assert store(tmp_path).load() == stored()
    assert [each.name for each in tmp_path.iterdir()] == [stored_plan.NAME]


def test_a_directory_that_cannot_be_used_is_told(tmp_path: pathlib.Path) -> None:
    """The agent works on, and says what it lacks."""
    (tmp_path / "file").write_text("")
    one = store(tmp_path / "file" / "state")
    assert one.load() is None
    assert "cannot" in one.warning
    one.save(stored())
    one.close()
    assert "cannot write" in one.warning


def test_an_error_of_the_writing_thread_is_told(tmp_path: pathlib.Path) -> None:
    """What is no trouble with the disk is a bug, and ends the process."""
    ended: list[str] = []
    one = stored_plan.Store(tmp_path, NODE, lambda thread, error: ended.append(thread))
    one.save(stored(slices={"plan-00000": None}))
    one._file.join(20)
    assert ended == ["store"]


def test_cleanup_forgets_the_plan(tmp_path: pathlib.Path) -> None:
    """So that the next start without an API server puts nothing back."""
    written(tmp_path, stored())
    stored_plan.forget(tmp_path)
    assert store(tmp_path).load() is None
