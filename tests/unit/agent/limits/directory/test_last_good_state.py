"""What a directory source remembers across restarts, and that nothing depends on remembering it."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.limits.directory import last_good_state
from bandwidth_api import plan
from unit.agent.limits.directory import manifests
from unit.agent.limits.directory.manifests import NOON, limit


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Iterator[manifests.Place]:
    made = manifests.Place(tmp_path)
    yield made
    made.source.close()


def forget_boot(place: manifests.Place) -> None:
    """Make what is remembered look as if the machine had been started since."""
    [path] = place.state.iterdir()
    head, _, body = path.read_bytes().partition(b"\n")
    path.write_bytes(json.dumps(json.loads(head) | {"boot": "another"}).encode() + b"\n" + body)


def test_a_limit_in_force_is_kept_by_a_restart_on_an_invalid_file(place: manifests.Place) -> None:
    """A restart must not do what a slip of the pen may not."""
    place.write("a.yaml", limit("a"))
    place.read()
    place.source.close()
    place.write("a.yaml", "foo: [")
    place.in_force = frozenset({"a"})
    snapshot = place.restart()
    assert set(snapshot.entries) == {"a"}
    assert [p.reason for p in snapshot.problems] == ["KeptPrevious"]
    assert set(place.restart().entries) == {"a"}


def test_what_is_not_in_the_kernel_any_more_is_not_brought_back(place: manifests.Place) -> None:
    """The kernel was cleaned up: a broken file is no reason to undo that."""
    place.write("a.yaml", limit("a"))
    place.read()
    place.source.close()
    place.write("a.yaml", "foo: [")
    snapshot = place.restart()
    assert snapshot.entries == {}
    assert [p.reason for p in snapshot.problems] == ["Unreadable"]


def test_after_a_reboot_what_was_accepted_counts(place: manifests.Place) -> None:
    """A reboot empties the kernel and changes no limit."""
    place.write("a.yaml", limit("a"))
    place.read()
    place.source.close()
    forget_boot(place)
    place.write("a.yaml", "foo: [")
    assert set(place.restart().entries) == {"a"}


def test_a_file_that_went_away_meanwhile_is_lifted(place: manifests.Place) -> None:
    """What is remembered of a file that is gone is forgotten."""
    path = place.write("a.yaml", limit("a"))
    place.write("b.yaml", limit("b"))
    place.read()
    place.source.close()
    path.unlink()
    place.in_force = frozenset({"a", "b"})
    assert set(place.restart().entries) == {"a", "b"}
    assert set(place.settled().entries) == {"b"}


def test_an_unchanged_file_is_not_read_again(place: manifests.Place) -> None:
    """A restart over ten thousand files takes what it knows of each from one."""
    path = place.write("a.yaml", limit("a"))
    place.read()
    place.source.close()
    before = path.stat()
    snapshot = place.restart()
    assert set(snapshot.entries) == {"a"}
    assert path.stat().st_atime_ns == before.st_atime_ns
    place.program = "2"
    assert place.restart().entries == snapshot.entries


def test_a_file_that_changed_meanwhile_is_read(place: manifests.Place) -> None:
    """Remembered is not believed: the file counts."""
    place.write("a.yaml", limit("a"))
    place.read()
    place.source.close()
    place.write("a.yaml", limit("a", rate="6Mbit"), at=NOON - 10)
    assert place.restart().entries["a"].rate_bits_per_second == 6_000_000


# ── ages ───────────────────────────────────────────────────────────────────────────────────────────────────────


def arrived(path: pathlib.Path) -> float:
    """When a file came to where it is."""
    return path.stat().st_ctime_ns / 1e9


def test_a_limit_is_as_old_as_its_file_was_when_first_seen(place: manifests.Place) -> None:
    """An edit makes a limit no younger, neither now nor after a restart: its time goes on running."""
    born = arrived(place.write("a.yaml", limit("a")))
    assert place.read().entries["a"].created_at == pytest.approx(born, abs=1e-5)
    place.write("a.yaml", limit("a", rate="6Mbit"))
    assert place.read().entries["a"].created_at == pytest.approx(born, abs=1e-5)
    place.source.close()
    place.write("a.yaml", limit("a", rate="7Mbit"))
    assert place.restart().entries["a"].created_at == pytest.approx(born, abs=1e-5)


def test_an_old_file_that_is_moved_here_is_new_here(place: manifests.Place) -> None:
    """A file written last year (`cp -p`, `mv`) holds a limit of today, whose time to live is not over already."""
    path = place.write("a.yaml", limit("a"), at=NOON - 365 * 86400)
    assert place.read().entries["a"].created_at == pytest.approx(arrived(path), abs=1e-5)


def test_a_limit_that_was_gone_begins_anew(place: manifests.Place) -> None:
    """Deleting and writing again is how one gives a limit a new time to live, also across a restart."""
    path = place.write("a.yaml", limit("a"))
    first = place.read().entries["a"].created_at
    path.unlink()
    place.settled()
    second = arrived(place.write("a.yaml", limit("a")))
    assert place.read().entries["a"].created_at == pytest.approx(second, abs=1e-5)
    path.unlink()
    place.source.close()
    place.restart()
    third = arrived(place.write("a.yaml", limit("a")))
    assert place.read().entries["a"].created_at == pytest.approx(third, abs=1e-5)
    assert first < second < third


def test_a_creation_timestamp_counts_before_the_file_time(place: manifests.Place) -> None:
    """What kubectl printed keeps the age it had there."""
    text = limit("a").replace("  name: a\n", "  name: a\n  creationTimestamp: 2026-01-01T00:00:00Z\n")
    place.write("a.yaml", text)
    assert place.read().entries["a"].created_at == 1767225600.0


# ── the state directory ────────────────────────────────────────────────────────────────────────────────────────


def test_a_damaged_memory_costs_a_warning(place: manifests.Place) -> None:
    """Half of a file, or another file: the limits are read from the manifests as on the first day."""
    place.write("a.yaml", limit("a"))
    place.read()
    place.source.close()
    [path] = place.state.iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    snapshot = place.restart()
    assert set(snapshot.entries) == {"a"}
    assert "begun again" in snapshot.warnings[0]
    place.source.close()
    assert place.restart().warnings == ()


@pytest.mark.parametrize("content", [b"", b"{}\n{}", b"[]\n", b"\xff", b'{"version": 1}\n'])
def test_a_memory_of_any_content_is_survived(place: manifests.Place, content: bytes) -> None:
    """The file is ours, but nothing that stands in it may stop an agent."""
    place.write("a.yaml", limit("a"))
    place.read()
    place.source.close()
    [path] = place.state.iterdir()
    path.write_bytes(content)
    assert set(place.restart().entries) == {"a"}


ENTRY = dict.fromkeys(("name", "clients", "rate", "created", "except", "ports", "burst", "mode", "sharing", "priority"))
ENTRY |= dict.fromkeys(("expires", "nodeSelector", "uid", "generation"))


@pytest.mark.parametrize("field", ENTRY)
@pytest.mark.parametrize("odd", ["NaN", "1e999", "1" + "0" * 400, "[]", "{}", "true", '"x"', "[" * 100_000, "-1.5"])
def test_a_memory_whose_entries_are_odd_is_survived(place: manifests.Place, field: str, odd: str) -> None:
    """With a right checksum too: whatever stands in a field of an entry, the manifest is what counts."""
    place.write("a.yaml", limit("a", rate="5Mbit"))
    place.read()
    place.source.close()
    [path] = place.state.iterdir()
    head, _, body = path.read_bytes().partition(b"\n")
    said = json.loads(body)
    [[_, _, _, [[_, _, entry]]]] = said["files"]
    entry[field] = "PUT HERE"
    text = json.dumps(said).replace('"PUT HERE"', odd).encode()
    header = json.loads(head) | {"sha256": hashlib.sha256(text).hexdigest()}
    path.write_bytes(json.dumps(header).encode() + b"\n" + text)
    found = place.restart().entries["a"]
    assert (found.rate_bits_per_second, found.limit) == (5_000_000, "a")


def test_an_unusable_state_directory_costs_a_warning(tmp_path: pathlib.Path) -> None:
    """A read-only disk, or a file in its place: limits are put in force all the same."""
    (tmp_path / "state").write_text("in the way")
    place = manifests.Place(tmp_path)
    place.write("a.yaml", limit("a"))
    assert set(place.read().entries) == {"a"}
    place.source.close()
    snapshot = place.restart()
    assert set(snapshot.entries) == {"a"}
    assert snapshot.problems == ()
    assert any(str(tmp_path / "state") in warning for warning in snapshot.warnings)
    place.source.close()


def test_the_memory_is_private_and_complete_on_disk(place: manifests.Place) -> None:
    """Only its owner reads it, no temporary file is left, and it is not written while nothing changes."""
    place.write("a.yaml", limit("a"))
    place.read()
    place.source.close()
    [path] = place.state.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_two_directories_do_not_share_their_memory(place: manifests.Place, tmp_path: pathlib.Path) -> None:
    """One state directory serves several manifest directories."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.yaml").write_text(limit("z"))
    place.write("a.yaml", limit("a"))
    place.read()
    place.follow(other)
    assert set(place.now().entries) == {"z"}
    place.source.close()
    assert len(list(place.state.iterdir())) == 2


def test_a_store_that_may_not_write_leaves_nothing(tmp_path: pathlib.Path) -> None:
    """`plan` looks, and leaves no trace."""
    store = last_good_state.Store(tmp_path / "state", tmp_path, "1", writes=False)
    store.save_soon({}, {}, {})
    store.close()
    assert not (tmp_path / "state").exists()


def test_everything_remembered_can_be_forgotten(place: manifests.Place) -> None:
    """A cleanup ends what was accepted too; other files of the directory stay."""
    place.write("a.yaml", limit("a"))
    place.read()
    place.source.close()
    (place.state / "other").write_text("x")
    last_good_state.forget(place.state)
    assert os.listdir(place.state) == ["other"]
    last_good_state.forget(place.state / "absent")


def test_what_nobody_changed_is_not_written_again(place: manifests.Place) -> None:
    """A restart that found everything as it was costs no disk anything."""
    place.write("a.yaml", limit("a"))
    place.read()
    place.source.close()
    [path] = place.state.iterdir()
    before = path.stat()
    place.restart()
    place.source.close()
    assert path.stat() == before
    (place.path / "a.yaml").unlink()
    place.restart()
    place.source.close()
    assert path.stat().st_ino != before.st_ino


def test_another_program_judges_anew(place: manifests.Place) -> None:
    """What an older version accepted is read again; what is broken now is kept if it is still acceptable."""
    place.write("a.yaml", limit("a"))
    born = arrived(place.write("b.yaml", limit("b")))
    place.read()
    place.source.close()
    place.write("a.yaml", "foo: [")
    place.in_force = frozenset({"a", "b"})
    place.program = "2"
    snapshot = place.restart()
    assert set(snapshot.entries) == {"a", "b"}
    assert snapshot.entries["b"].created_at == pytest.approx(born, abs=1e-5)


TEXT = st.text(max_size=8)
PREFIXES = st.sampled_from(((4, 32), (6, 128))).flatmap(
    lambda of: st.integers(0, of[1]).flatmap(
        lambda length: st.builds(
            lambda bits: plan.Prefix(of[0], bits << (of[1] - length), length), st.integers(0, (1 << length) - 1)
        )
    )
)
NUMBERS = st.integers(1, 65535)
PORTS = st.builds(
    lambda proto, a, b: plan.PortRange(proto, min(a, b), max(a, b)), st.sampled_from(("TCP", "UDP")), NUMBERS, NUMBERS
)
KEYS = st.text(min_size=1, max_size=8)
TERMS = st.builds(plan.SelectorTerm, KEYS, st.sampled_from(("In", "Exists")), st.lists(TEXT, max_size=2).map(tuple))
TIMES = st.floats(0, 4e9)


@given(
    st.builds(
        plan.PlanEntry,
        limit=st.from_regex(r"[!-~]{1,253}", fullmatch=True),
        uid=TEXT,
        generation=st.integers(0, 10),
        clients=st.lists(PREFIXES, max_size=3).map(tuple),
        excepted=st.lists(PREFIXES, max_size=3).map(tuple),
        ports=st.lists(PORTS, max_size=3).map(tuple),
        rate_bits_per_second=st.integers(1, 400 * 10**9),
        burst_bytes=st.none() | st.integers(3000, 2**26),
        mode=st.sampled_from(plan.Mode),
        sharing=st.sampled_from(plan.Sharing),
        priority=st.integers(0, 1000),
        created_at=TIMES,
        expires_at=st.none() | TIMES,
        node_selector=st.lists(TERMS, max_size=2).map(tuple),
    )
)
def test_an_entry_comes_back_from_json_as_it_was(entry: plan.PlanEntry) -> None:
    """Types included: what is read back compares and hashes as what was compiled."""
    found = plan.read_entry(json.loads(json.dumps(plan.write_entry(entry, exact=True))), exact=True)
    assert found == entry
    assert hash(found) == hash(entry)
    for name in ("mode", "sharing", "clients", "excepted", "ports", "node_selector"):
        assert repr(getattr(found, name)) == repr(getattr(entry, name))


def test_a_name_that_a_second_file_takes_up_meanwhile_stays_with_the_first(place: manifests.Place) -> None:
    """Whatever the files are called: what was in force is not replaced by a copy of its name, over any restarts."""
    place.write("m.yaml", limit("a"))
    place.read()
    place.source.close()
    place.write("b.yaml", limit("a", rate="9Mbit"))
    place.write("z.yaml", limit("a", rate="8Mbit"))
    for _ in range(2):
        snapshot = place.restart()
        assert {p.file for p in snapshot.problems} == {str(place.path / "b.yaml"), str(place.path / "z.yaml")}
        assert snapshot.entries["a"].rate_bits_per_second == 5_000_000
        place.source.close()
