"""A directory of manifests as a source of limits: what is accepted, what is refused, and what stays in force."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from bandwidth_agent.limits.directory import manifest_source
from bandwidth_agent.limits.directory.filesystem import watch
from bandwidth_api import addresses, units
from unit.agent.limits.directory import manifests
from unit.agent.limits.directory.manifests import limit


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Iterator[manifests.Place]:
    made = manifests.Place(tmp_path)
    yield made
    made.source.close()


def names(snapshot: manifests.Snapshot) -> set[str]:
    return set(snapshot.entries)


def rates(snapshot: manifests.Snapshot) -> dict[str, str]:
    return {name: units.write_rate(entry.rate_bits_per_second) for name, entry in snapshot.entries.items()}


def problems(snapshot: manifests.Snapshot) -> list[tuple[str, str]]:
    return [(problem.name, problem.reason) for problem in snapshot.problems]


# ── what is read ───────────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_directory_is_complete(place: manifests.Place) -> None:
    """No file means no limit, for certain: whatever was in force may go."""
    assert place.read() == manifests.Snapshot({}, (), complete=True)


def test_yaml_yml_and_json_are_read(place: manifests.Place) -> None:
    """The suffix says what a manifest is, in whatever case."""
    place.write("a.yaml", limit("a"))
    place.write("b.YML", limit("b"))
    place.write(
        "c.json",
        '{"apiVersion": "clientbandwidth.io/v1alpha1", "kind": "ClientBandwidthLimit", "metadata": {"name": "c"},'
        ' "spec": {"clients": ["203.0.113.9"], "egress": {"rate": "1Mbit"}}}',
    )
    assert names(place.read()) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "name", [".hidden.yaml", "#a.yaml", "a.yaml~", ".a.yaml.swp", "a.yaml.bak", "4913", "notes.txt"]
)
def test_hidden_files_and_what_editors_leave_are_no_manifests(place: manifests.Place, name: str) -> None:
    """A backup of a limit is not a second limit."""
    place.write("a.yaml", limit("a"))
    place.write(name, limit("a"))
    assert place.read() == manifests.Snapshot(place.read().entries, (), complete=True)


def test_directories_are_passed_over(place: manifests.Place) -> None:
    """A directory is no manifest, whatever its name, and is not descended into."""
    (place.path / "sub.yaml").mkdir()
    (place.path / "sub.yaml" / "a.yaml").write_text(limit("a"))
    assert place.read() == manifests.Snapshot({}, (), complete=True)
    (place.path / "later.yaml").mkdir()
    assert place.read() == manifests.Snapshot({}, (), complete=True)


def test_a_file_may_hold_several_documents_and_lists(place: manifests.Place) -> None:
    """Documents and the items of a List are objects like any other."""
    items = "".join("- " + limit(name).replace("\n", "\n  ").rstrip() + "\n" for name in ("c", "d"))
    place.write(
        "all.yaml", f"# all of them\n---\n{limit('a')}---\n{limit('b')}---\napiVersion: v1\nkind: List\nitems:\n{items}"
    )
    snapshot = place.read()
    assert snapshot.problems == ()
    assert names(snapshot) == {"a", "b", "c", "d"}


def test_a_change_an_addition_and_a_deletion_are_seen(place: manifests.Place) -> None:
    """What is written, moved into place or removed is wanted to be read, and read."""
    assert place.read().entries == {}
    assert not place.source.drain()
    path = place.write("a.yaml", limit("a"))
    assert place.source.drain()
    assert rates(place.now()) == {"a": "5Mbit"}
    place.write("a.yaml", limit("a", rate="6Mbit"))
    assert rates(place.read()) == {"a": "6Mbit"}
    beside = place.path / ".a.tmp"
    beside.write_text(limit("a", rate="7Mbit"))
    beside.rename(path)
    assert rates(place.read()) == {"a": "7Mbit"}
    path.unlink()
    assert place.settled().entries == {}


def test_a_file_is_not_read_before_it_is_closed(place: manifests.Place) -> None:
    """Half of a file, which may well be valid YAML, is not what its author wants."""
    place.read()
    with (place.path / "a.yaml").open("w") as file:
        file.write(limit("a"))
        file.flush()
        assert not place.source.drain()
        file.write("---\n" + limit("b"))
    assert names(place.read()) == {"a", "b"}


def test_a_linked_file_is_read_at_once(place: manifests.Place, tmp_path: pathlib.Path) -> None:
    """A hard link or a symlink appears whole, and is not closed."""
    place.read()
    (tmp_path / "one").write_text(limit("a"))
    (place.path / "a.yaml").hardlink_to(tmp_path / "one")
    (tmp_path / "two").write_text(limit("b"))
    (place.path / "b.yaml").symlink_to(tmp_path / "two")
    assert names(place.read()) == {"a", "b"}


def test_a_second_reading_gives_the_same_objects(place: manifests.Place) -> None:
    """What did not change is not judged again, not even in a file in which something else did."""
    place.write("all.yaml", limit("a") + "---\n" + limit("b"))
    before = place.read().entries
    place.write("all.yaml", limit("a") + "---\n" + limit("b", rate="9Mbit"))
    after = place.read().entries
    assert after["a"] is before["a"]
    assert after["b"].rate_bits_per_second == 9_000_000


def test_new_limits_come_in_the_order_of_their_names(place: manifests.Place) -> None:
    """However the files are named: class numbers follow this order, so a node always gets the same ones."""
    wanted = [f"l-{number:02}" for number in range(40)]
    for name in wanted:
        place.write(f"{name[::-1]}.yaml", limit(name))
    assert list(place.read().entries) == wanted
    place.write("more.yaml", "---\n".join(limit(f"k-{number:02}") for number in reversed(range(40))))
    assert list(place.read().entries) == [*wanted, *(f"k-{number:02}" for number in range(40))]


# ── what is broken ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_broken_file_is_one_problem_and_the_others_are_accepted(place: manifests.Place) -> None:
    """The problem names file and line; whoever wrote the other files does not suffer."""
    path = place.write("bad.yaml", "apiVersion: v1\nfoo: [\n")
    place.write("good.yaml", limit("good"))
    snapshot = place.read()
    assert names(snapshot) == {"good"}
    assert problems(snapshot) == [("bad.yaml", "Unreadable")]
    assert snapshot.problems[0].message.startswith(f"{path}:3: no YAML: ")
    assert snapshot.problems[0].file == str(path)


def test_a_wrong_field_is_one_problem_that_names_object_and_field(place: manifests.Place) -> None:
    """File, object and field, and what to write instead."""
    path = place.write("a.yaml", "---\n" + limit("a", rate="5"))
    snapshot = place.read()
    [problem] = snapshot.problems
    assert (problem.name, problem.reason, problem.file, problem.field) == (
        "a",
        "Invalid",
        str(path),
        "spec.egress.rate",
    )
    assert problem.message.startswith(f"{path}:2: spec.egress.rate: ")
    assert snapshot.entries == {}


def test_a_broken_document_does_not_hide_the_others_of_its_file(place: manifests.Place) -> None:
    """A file is judged document by document."""
    place.write("all.yaml", limit("a") + "---\nspec: [\n---\n" + limit("c"))
    snapshot = place.read()
    assert names(snapshot) == {"a", "c"}
    assert problems(snapshot) == [("all.yaml", "Unreadable")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"just words", "a mapping is expected"),
        (b"replicas: 3", "no apiVersion and kind"),
        (b"a: 1\na: 2", "written twice"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[" * 100_000, "nested deeper"),
        (b"a: &a [x, *a]", "aliases"),
    ],
)
def test_text_that_is_no_object_is_a_problem(place: manifests.Place, text: bytes, words: str) -> None:
    """Whatever stands in a file, reading it ends with a sentence and not with an exception."""
    (place.path / "a.yaml").write_bytes(text)
    snapshot = place.read()
    assert problems(snapshot) == [("a.yaml", "Unreadable")]
    assert words in snapshot.problems[0].message


def test_objects_of_others_are_passed_over_with_a_warning(place: manifests.Place) -> None:
    """A directory may hold other manifests too; that is no mistake, but worth a word."""
    path = place.write("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\n" + limit("a"))
    snapshot = place.read()
    assert snapshot.problems == ()
    assert snapshot.warnings == (f"{path}:1: ConfigMap x is no ClientBandwidthLimit; ignored",)


def test_an_unknown_kind_of_our_group_is_a_problem(place: manifests.Place) -> None:
    """A misspelled kind must not pass for an object of another kind."""
    place.write("a.yaml", limit("a").replace("kind: ClientBandwidthLimit", "kind: ClientBandwithLimit"))
    place.write("b.yaml", limit("b").replace("clientbandwidth.io/v1alpha1", "clientbandwith.io/v1alpha1"))
    snapshot = place.read()
    assert [(p.name, p.field) for p in snapshot.problems] == [("a", "kind"), ("b", "apiVersion")]


def test_a_pipe_does_not_stop_the_reading(place: manifests.Place) -> None:
    """A named pipe is a problem, not something to wait for."""
    os.mkfifo(place.path / "a.yaml")
    place.write("b.yaml", limit("b"))
    snapshot = place.read()
    assert names(snapshot) == {"b"}
    assert "not a regular file" in snapshot.problems[0].message


# ── what stays in force ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["foo: [", "", limit("a", rate="0"), "kind: x", limit("A_1")])
def test_a_limit_whose_file_becomes_invalid_stays_as_it_was(place: manifests.Place, text: str) -> None:
    """A slip of the pen must not set a client free; the report says that it was kept, and why."""
    place.write("a.yaml", limit("a"))
    place.read()
    path = place.write("a.yaml", text)
    snapshot = place.read()
    assert rates(snapshot) == {"a": "5Mbit"}
    assert problems(snapshot) == [("a", "KeptPrevious")]
    assert str(path) in snapshot.problems[0].message
    assert "stays in force as it was" in snapshot.problems[0].message
    place.write("a.yaml", limit("a", rate="6Mbit"))
    snapshot = place.read()
    assert (rates(snapshot), snapshot.problems) == ({"a": "6Mbit"}, ())


def test_deleting_an_invalid_file_lifts_its_limits(place: manifests.Place) -> None:
    """Kept is what is written badly, not what is gone."""
    path = place.write("a.yaml", limit("a"))
    place.read()
    place.write("a.yaml", "foo: [")
    place.read()
    path.unlink()
    assert place.settled() == manifests.Snapshot({}, (), complete=True)


def test_a_broken_document_without_a_name_keeps_whatever_is_missing(place: manifests.Place) -> None:
    """A document without a readable name may be any limit, so none of those missing is lifted."""
    place.write("all.yaml", limit("a") + "---\n" + limit("b") + "---\n" + limit("c"))
    place.read()
    place.write("all.yaml", limit("a", rate="1Mbit") + "---\nkind: [\n")
    snapshot = place.read()
    assert rates(snapshot) == {"a": "1Mbit", "b": "5Mbit", "c": "5Mbit"}
    assert problems(snapshot) == [("b", "KeptPrevious"), ("c", "KeptPrevious")]


def test_a_broken_object_with_a_name_keeps_only_itself(place: manifests.Place) -> None:
    """Where it is clear which object is broken, the others of the file follow what is written."""
    place.write("all.yaml", limit("a") + "---\n" + limit("b") + "---\n" + limit("c"))
    place.read()
    place.write("all.yaml", limit("a", rate="1Mbit") + "---\n" + limit("b", rate="x"))
    snapshot = place.read()
    assert rates(snapshot) == {"a": "1Mbit", "b": "5Mbit"}
    assert problems(snapshot) == [("b", "KeptPrevious")]


def test_a_file_that_was_always_invalid_keeps_nothing(place: manifests.Place) -> None:
    """There is nothing to keep of a limit that never was."""
    place.write("a.yaml", limit("a", rate="x"))
    assert problems(place.read()) == [("a", "Invalid")]
    place.write("a.yaml", "foo: [")
    snapshot = place.read()
    assert (snapshot.entries, problems(snapshot)) == ({}, [("a.yaml", "Unreadable")])


# ── one name twice ─────────────────────────────────────────────────────────────────────────────────────────────


def test_of_two_files_with_one_name_the_one_accepted_first_counts(place: manifests.Place) -> None:
    """The second is a problem that names both files; when the first goes, the second takes its place."""
    first = place.write("b.yaml", limit("x", rate="1Mbit"))
    place.read()
    second = place.write("a.yaml", limit("x", rate="2Mbit"))
    snapshot = place.read()
    assert rates(snapshot) == {"x": "1Mbit"}
    assert problems(snapshot) == [("x", "DuplicateName")]
    assert str(first) in snapshot.problems[0].message
    assert str(second) in snapshot.problems[0].message
    first.unlink()
    snapshot = place.settled()
    assert (rates(snapshot), snapshot.problems) == ({"x": "2Mbit"}, ())


def test_of_two_new_files_with_one_name_the_first_by_path_counts(place: manifests.Place) -> None:
    """Whatever order the directory lists them in; and a restart changes nothing about it."""
    place.write("b.yaml", limit("x", rate="1Mbit"))
    place.write("a.yaml", limit("x", rate="2Mbit"))
    assert rates(place.read()) == {"x": "2Mbit"}


def test_after_a_restart_the_same_file_counts(place: manifests.Place) -> None:
    """Which of two was accepted first is remembered."""
    place.write("b.yaml", limit("x", rate="1Mbit"))
    place.read()
    place.write("a.yaml", limit("x", rate="2Mbit"))
    place.read()
    assert rates(place.restart()) == {"x": "1Mbit"}


def test_a_name_twice_in_one_file_is_a_problem(place: manifests.Place) -> None:
    """The first counts, as between files."""
    place.write("a.yaml", limit("x", rate="1Mbit") + "---\n" + limit("x", rate="2Mbit"))
    snapshot = place.read()
    assert rates(snapshot) == {"x": "1Mbit"}
    assert problems(snapshot) == [("x", "DuplicateName")]


def test_a_renamed_file_keeps_its_limits_and_their_age(place: manifests.Place) -> None:
    """A new path for the same limits is no change of any limit."""
    path = place.write("a.yaml", limit("x"))
    before = place.read()
    path.rename(place.path / "b.yaml")
    os.utime(place.path / "b.yaml", (manifests.NOON, manifests.NOON))
    after = place.read()
    assert after.entries["x"].created_at == before.entries["x"].created_at
    assert after.problems == ()


# ── the directory itself ───────────────────────────────────────────────────────────────────────────────────────


def test_a_mounted_config_map_is_followed(place: manifests.Place) -> None:
    """Kubernetes swaps the symlink `..data` to publish all files of a new version at once."""

    def publish(version: str, rate: str) -> None:
        (place.path / f"..{version}").mkdir()
        (place.path / f"..{version}" / "a.yaml").write_text(limit("a", rate=rate))
        (place.path / "..data_tmp").symlink_to(f"..{version}")
        (place.path / "..data_tmp").rename(place.path / "..data")

    publish("1", "1Mbit")
    (place.path / "a.yaml").symlink_to("..data/a.yaml")
    assert rates(place.read()) == {"a": "1Mbit"}
    publish("2", "2Mbit")
    shutil.rmtree(place.path / "..1")
    assert place.source.drain()
    assert rates(place.now()) == {"a": "2Mbit"}


def test_the_target_of_a_symlinked_file_is_followed(place: manifests.Place, tmp_path: pathlib.Path) -> None:
    """A change behind a symlink counts as one of the file."""
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real"
    target.write_text(limit("a"))
    (place.path / "a.yaml").symlink_to(target)
    place.read()
    target.write_text(limit("a", rate="6Mbit"))
    assert place.source.drain()
    assert rates(place.now()) == {"a": "6Mbit"}


def test_a_symlink_on_the_way_of_a_symlinked_file_is_followed(place: manifests.Place, tmp_path: pathlib.Path) -> None:
    """Whoever publishes a release by swapping `current`, through which a file is linked, is understood."""
    releases = tmp_path / "releases"
    for version in ("1", "2"):
        (releases / version).mkdir(parents=True)
        (releases / version / "a.yaml").write_text(limit("a", rate=f"{version}Mbit"))
    (releases / "current").symlink_to("1")
    (place.path / "a.yaml").symlink_to(releases / "current" / "a.yaml")
    assert rates(place.read()) == {"a": "1Mbit"}
    (releases / "next").symlink_to("2")
    (releases / "next").rename(releases / "current")
    assert place.source.drain()
    assert rates(place.now()) == {"a": "2Mbit"}


def test_symlinks_in_a_circle_are_one_problem(place: manifests.Place) -> None:
    """They are followed for a while and then told like any file that cannot be read."""
    (place.path / "a.yaml").symlink_to("b.yaml")
    (place.path / "b.yaml").symlink_to("a.yaml")
    place.write("good.yaml", limit("good"))
    snapshot = place.read()
    assert names(snapshot) == {"good"}
    assert [reason for _, reason in problems(snapshot)] == ["Unreadable", "Unreadable"]


def test_a_symlink_that_leads_nowhere_keeps_what_was_there(place: manifests.Place, tmp_path: pathlib.Path) -> None:
    """The file was not deleted, it cannot be read."""
    target = tmp_path / "real"
    target.write_text(limit("a"))
    (place.path / "a.yaml").symlink_to(target)
    place.read()
    target.unlink()
    assert place.read().problems == ()
    snapshot = place.settled()
    assert names(snapshot) == {"a"}
    assert problems(snapshot) == [("a", "KeptPrevious")]


def test_a_directory_that_is_a_symlink_is_followed_to_its_new_target(
    place: manifests.Place, tmp_path: pathlib.Path
) -> None:
    """Whoever publishes a new directory by swapping a symlink is understood."""
    place.write("a.yaml", limit("a"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.yaml").write_text(limit("b"))
    link = tmp_path / "link"
    link.symlink_to(place.path)
    place.follow(link)
    assert names(place.now()) == {"a"}
    (tmp_path / "beside").symlink_to(other)
    (tmp_path / "beside").rename(link)
    assert place.source.drain()
    assert names(place.now()) == {"a", "b"}
    assert names(place.settled()) == {"b"}
    (other / "b.yaml").write_text(limit("c"))
    assert names(place.read()) == {"c"}


def test_a_directory_that_is_gone_lifts_nothing(place: manifests.Place, tmp_path: pathlib.Path) -> None:
    """That is no wish; it is a problem, polled for until the directory is back."""
    place.write("a.yaml", limit("a"))
    place.read()
    place.path.rename(tmp_path / "away")
    snapshot = place.read()
    assert names(snapshot) == {"a"}
    assert problems(snapshot) == [(str(place.path), "Unreadable")]
    assert place.source.fileno() is None
    assert place.poll() is None
    place.path.mkdir()
    place.write("b.yaml", limit("b"))
    snapshot = place.read()
    assert (names(snapshot), snapshot.problems) == ({"a", "b"}, ())
    assert names(place.settled()) == {"b"}
    assert place.source.fileno() is not None
    place.write("c.yaml", limit("c"))
    assert names(place.read()) == {"b", "c"}


def test_an_unmounted_disk_lifts_nothing(
    place: manifests.Place, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves an empty directory of another file system; one that is emptied is a wish, and so is a full one."""
    stat, elsewhere = os.stat, {str(place.path)}

    def changed(path: str | pathlib.Path, *arguments: Any, **options: Any) -> os.stat_result:
        found = stat(path, *arguments, **options)
        device = found.st_dev + 1 if str(path) in elsewhere else found.st_dev
        return os.stat_result((*found[:2], device, *found[3:]))

    monkeypatch.setattr(os, "stat", changed)
    place.write("a.yaml", limit("a"))
    assert names(place.read()) == {"a"}
    (tmp_path / "disk").mkdir()
    (place.path / "a.yaml").rename(tmp_path / "disk" / "a.yaml")
    elsewhere.clear()
    for _ in range(2):
        snapshot = place.read()
        assert names(snapshot) == {"a"}
        assert problems(snapshot) == [(str(place.path), "Unreadable")]
    elsewhere.add(str(place.path))
    (tmp_path / "disk" / "a.yaml").rename(place.path / "a.yaml")
    snapshot = place.read()
    assert (names(snapshot), snapshot.problems) == ({"a"}, ())
    elsewhere.clear()
    place.write("b.yaml", limit("b"))
    assert names(place.read()) == {"a", "b"}
    for file in ("a.yaml", "b.yaml"):
        (place.path / file).unlink()
    assert names(place.settled()) == set()


def test_a_directory_that_was_never_there_is_not_complete(tmp_path: pathlib.Path) -> None:
    """As long as nothing has been listed, nothing may be deleted."""
    place = manifests.Place(tmp_path)
    place.path.rmdir()
    snapshot = place.read()
    assert not snapshot.complete
    assert len(snapshot.problems) == 1
    place.source.close()


@pytest.fixture
def without_inotify(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[manifests.Place]:
    """A host on which every inotify instance is taken."""

    def refuse(**_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(watch, "INotify", refuse)
    made = manifests.Place(tmp_path)
    yield made
    made.source.close()


def test_without_inotify_the_directory_is_polled(without_inotify: manifests.Place) -> None:
    """Slower by half a second, and with a warning that says so, but otherwise the same."""
    place = without_inotify
    place.write("a.yaml", limit("a"))
    snapshot = place.read()
    assert names(snapshot) == {"a"}
    assert "is polled" in snapshot.warnings[0]
    assert place.source.fileno() is None
    assert place.poll() is None
    path = place.write("a.yaml", limit("a", rate="6Mbit"))
    polled = place.poll()
    assert polled is not None
    assert rates(polled) == {"a": "6Mbit"}
    path.unlink()
    assert place.poll() is None
    polled = place.poll()
    assert polled is not None
    assert polled.entries == {}


def test_a_file_being_written_is_left_until_it_rests_when_polled(without_inotify: manifests.Place) -> None:
    """Without events only rest shows that a writer is done."""
    place = without_inotify
    place.read()
    place.write("a.yaml", limit("a"), at=manifests.NOON)
    assert place.poll() is None
    place.write("a.yaml", limit("a") + "---\n" + limit("b"), at=manifests.NOON)
    assert place.poll() is None
    polled = place.poll()
    assert polled is not None
    assert names(polled) == {"a", "b"}


def test_what_events_missed_is_found_by_and_by(place: manifests.Place) -> None:
    """Now and then everything is looked at, in case an event was lost."""
    path = place.write("a.yaml", limit("a"))
    place.read()
    before = path.stat()
    path.write_text(limit("a", rate="6Mbit"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    place.source._directory.noticed()  # the event is lost
    assert not place.source.drain()
    place.monotonic.now += manifest_source.RELIST_SECONDS
    place.wall.now += manifest_source.RELIST_SECONDS
    assert rates(place.read()) == {"a": "6Mbit"}


# ── what only the node knows ───────────────────────────────────────────────────────────────────────────────────


def test_what_the_node_refuses_is_a_problem_and_kept_as_it_was(place: manifests.Place) -> None:
    """A limit that touches a protected address is as wrong as one that cannot be read."""
    place.write("a.yaml", limit("a"))
    place.read()
    place.refused = {"203.0.113.8"}
    path = place.write("a.yaml", limit("a", client="203.0.113.8"))
    place.write("b.yaml", limit("b", client="203.0.113.8"))
    snapshot = place.read()
    assert snapshot.entries["a"].clients == (addresses.parse("203.0.113.7"),)
    assert problems(snapshot) == [("a", "KeptPrevious"), ("b", "ProtectedAddress")]
    assert snapshot.problems[0].message.startswith(f"{path}:1: spec.clients[0]: ")


def test_what_the_node_does_not_refuse_any_more_is_accepted_by_and_by(place: manifests.Place) -> None:
    """Addresses come and go without an edit of any file."""
    place.refused = {"203.0.113.7"}
    place.write("a.yaml", limit("a"))
    assert problems(place.read()) == [("a", "ProtectedAddress")]
    place.refused = set()
    assert not place.source.drain()
    place.monotonic.now += manifest_source.RELIST_SECONDS
    assert place.source.drain()
    snapshot = place.now()
    assert (names(snapshot), snapshot.problems) == ({"a"}, ())
