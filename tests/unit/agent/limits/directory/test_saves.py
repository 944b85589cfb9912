"""Manifests as programs save them: in whatever steps, each limit is as before or as saved, and never neither."""

from __future__ import annotations

import errno
import mmap
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import pytest

from bandwidth_agent.limits.directory.filesystem import settling, watch
from bandwidth_api import units
from unit.agent.limits.directory import manifests
from unit.agent.limits.directory.manifests import NOON, limit

OLD = limit("a") + "---\n" + limit("b")
NEW = limit("a", rate="6Mbit") + "---\n" + limit("b", rate="6Mbit")
HALF = len(limit("a"))


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Iterator[manifests.Place]:
    made = manifests.Place(tmp_path)
    yield made
    made.source.close()


def rates(snapshot: manifests.Snapshot) -> dict[str, str]:
    return {name: units.write_rate(entry.rate_bits_per_second) for name, entry in snapshot.entries.items()}


# ── ways to save a file ────────────────────────────────────────────────────────────────────────────────────────

Save = Callable[[pathlib.Path], Iterator[None]]  # each `yield` is a moment in which the agent may look


def in_pieces(path: pathlib.Path, mode: str = "w") -> Iterator[None]:
    """What a program does between open and close: half of it, its permissions, the other half."""
    with path.open(mode) as file:
        yield
        file.write(NEW[:HALF])
        file.flush()
        yield
        path.chmod(0o640)
        yield
        file.write(NEW[HALF:])
        file.flush()
        yield
        os.utime(path)


def unlink_and_create(path: pathlib.Path) -> Iterator[None]:
    """git checkout, perl -i, cp --remove-destination, install."""
    path.unlink()
    yield
    yield from in_pieces(path, "x")


def rename_and_create(path: pathlib.Path) -> Iterator[None]:
    """emacs, vim with backupcopy=no."""
    backup = path.with_name("a.yaml~")
    path.rename(backup)
    yield
    yield from in_pieces(path, "x")
    backup.unlink()


def backup_and_overwrite(path: pathlib.Path) -> Iterator[None]:
    """vim with backupcopy=yes, cp, scp, a shell's redirection."""
    shutil.copy2(path, path.with_name("a.yaml~"))
    yield
    yield from in_pieces(path)


def overwrite_in_place(path: pathlib.Path) -> Iterator[None]:
    """rsync --inplace: nothing is cut off before the end."""
    with path.open("r+") as file:
        file.write(NEW[:HALF])
        file.flush()
        yield
        file.write(NEW[HALF:])
        file.truncate()
        yield


def create_and_rename(path: pathlib.Path) -> Iterator[None]:
    """sed -i, most editors: always whole."""
    beside = path.with_name(".a.yaml.new")
    beside.write_text(NEW)
    yield
    beside.rename(path)


def rename_before_close(path: pathlib.Path) -> Iterator[None]:
    """A program that moves its file into place first and writes the rest of it afterwards."""
    beside = path.with_name(".a.yaml.new")
    with beside.open("w") as file:
        file.write(NEW[:HALF])
        file.flush()
        beside.rename(path)
        yield
        file.write(NEW[HALF:])


def link_into_place(path: pathlib.Path) -> Iterator[None]:
    """link(2) of a file that is written elsewhere, whose other name goes at once."""
    beside = path.with_name(".a.yaml.new")
    beside.write_text(NEW)
    path.unlink()
    yield
    path.hardlink_to(beside)
    beside.unlink()


def swap_symlink(path: pathlib.Path) -> Iterator[None]:
    """ln -sfn of old coreutils: the name is away for a moment, then leads elsewhere, where the file comes later."""
    target = path.with_name("release")
    path.unlink()
    yield
    path.symlink_to(target)
    yield
    yield from in_pieces(target)


def empty_then_append(path: pathlib.Path) -> Iterator[None]:
    """A script: `> file`, then `>> file` for all at once; between the two it is not open."""
    path.write_text("")
    os.utime(path, (NOON, NOON))
    yield
    with path.open("a") as file:
        file.write(NEW)


def mapped(path: pathlib.Path) -> Iterator[None]:
    """A program that writes through a mapping, whose file is closed already."""
    path.unlink()
    with path.open("x+b") as file:
        file.truncate(len(NEW))
        mapping = mmap.mmap(file.fileno(), len(NEW))
    yield
    mapping[:HALF] = NEW[:HALF].encode()
    yield
    mapping[HALF:] = NEW[HALF:].encode()
    mapping.close()
    os.utime(path)


def directory_made_anew(path: pathlib.Path) -> Iterator[None]:
    """rm -r and a new checkout."""
    path.unlink()
    yield
    path.parent.rmdir()
    yield
    path.parent.mkdir()
    yield
    (path.parent / "other.txt").write_text("first")
    yield
    yield from in_pieces(path, "x")


def directory_moved_into_place(path: pathlib.Path) -> Iterator[None]:
    """mv of the old one away and of the new one here."""
    away, beside = path.parent.with_name("away"), path.parent.with_name("beside")
    beside.mkdir()
    (beside / path.name).write_text(NEW)
    path.parent.rename(away)
    yield
    beside.rename(path.parent)


def to_another_file(path: pathlib.Path) -> Iterator[None]:
    """A branch in which the limits stand in a file of another name."""
    path.unlink()
    yield
    yield from in_pieces(path.with_name("moved.yaml"), "x")


SAVES: list[Save] = [
    unlink_and_create,
    rename_and_create,
    backup_and_overwrite,
    overwrite_in_place,
    create_and_rename,
    rename_before_close,
    link_into_place,
    swap_symlink,
    empty_then_append,
    mapped,
    directory_made_anew,
    directory_moved_into_place,
    to_another_file,
]


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
def test_at_every_moment_of_a_save_the_limits_stand(place: manifests.Place, save: Save) -> None:
    """As they were until it is done, then as saved; no younger, and without a word of trouble on the way."""
    place.write("a.yaml", OLD)
    before = place.read()
    for _ in save(place.path / "a.yaml"):
        during = place.read()
        assert rates(during) == {"a": "5Mbit", "b": "5Mbit"}
        assert [p for p in during.problems if p.file != str(place.path)] == []
        place.monotonic.now += 0.1
    place.read()
    after = place.settled()
    assert rates(after) == {"a": "6Mbit", "b": "6Mbit"}
    assert after.problems == ()
    assert {e.created_at for e in after.entries.values()} == {e.created_at for e in before.entries.values()}
    assert place.source.due() is None


@pytest.mark.parametrize("save", [s for s in SAVES if not s.__name__.startswith("directory")], ids=lambda s: s.__name__)
def test_a_restart_amid_a_save_lifts_nothing(place: manifests.Place, save: Save) -> None:
    """At whichever moment the agent is started again, the limits stand and go on with the age that they had."""
    place.write("a.yaml", OLD)
    before = place.read()
    place.in_force = frozenset({"a", "b"})
    for _ in save(place.path / "a.yaml"):
        assert rates(place.restart()) == {"a": "5Mbit", "b": "5Mbit"}
    place.restart()
    after = place.settled()
    assert rates(after) == {"a": "6Mbit", "b": "6Mbit"}
    assert {e.created_at for e in after.entries.values()} == {e.created_at for e in before.entries.values()}


def test_a_first_start_amid_a_save_deletes_nothing(place: manifests.Place) -> None:
    """Without a memory a file that is being written may say anything: until it is closed the reading is not whole."""
    with (place.path / "a.yaml").open("w") as file:
        file.write(NEW[:HALF])
        file.flush()
        snapshot = place.read()
        assert (rates(snapshot), snapshot.complete) == ({}, False)
        file.write(NEW[HALF:])
    snapshot = place.read()
    assert (rates(snapshot), snapshot.complete) == ({"a": "6Mbit", "b": "6Mbit"}, True)


def test_a_deletion_takes_effect_within_a_second(place: manifests.Place) -> None:
    """No event is needed for it: the source says when it wants to be asked again."""
    path = place.write("a.yaml", OLD)
    place.read()
    path.unlink()
    asked = place.monotonic.now
    assert not place.source.drain()
    due = place.source.due()
    assert due is not None
    assert due - asked <= 0.6
    place.monotonic.now = due
    assert place.source.drain()
    assert place.now() == manifests.Snapshot({}, (), complete=True)


def test_a_limit_leaves_its_file_at_once(place: manifests.Place) -> None:
    """What waits is the file that goes, not the document: a saved file says itself what is in it."""
    place.write("a.yaml", OLD)
    place.read()
    place.write("a.yaml", limit("a"))
    assert rates(place.read()) == {"a": "5Mbit"}


def test_a_file_that_stays_open_lifts_nothing_that_it_does_not_name(place: manifests.Place) -> None:
    """After ten seconds what it says counts, what it leaves out stays, and the report says why until it is closed."""
    path = place.write("a.yaml", OLD)
    place.read()
    path.unlink()
    with path.open("w") as file:
        file.write(limit("c") + "---\n" + limit("a", rate="6Mbit"))
        file.flush()
        assert rates(place.read()) == {"a": "5Mbit", "b": "5Mbit"}
        place.monotonic.now += settling.OPEN_REST_SECONDS
        snapshot = place.read()
        assert rates(snapshot) == {"a": "6Mbit", "b": "5Mbit", "c": "5Mbit"}
        assert [(p.name, p.reason) for p in snapshot.problems] == [("b", "KeptPrevious")]
        assert "open for writing" in snapshot.problems[0].message
        place.monotonic.now += 1.0
        assert not place.source.drain()
    assert rates(place.read()) == {"a": "6Mbit", "c": "5Mbit"}
    assert place.source.due() is None


def test_a_close_that_no_event_tells_is_found(place: manifests.Place) -> None:
    """A file that is waited for is looked at again by and by."""
    place.read()
    with (place.path / "a.yaml").open("w") as file:
        file.write(NEW)
        file.flush()
        assert not place.source.drain()
    place.source._directory.noticed()  # the event is lost
    place.monotonic.now += settling.LOOK_SECONDS
    assert rates(place.read()) == {"a": "6Mbit", "b": "6Mbit"}


def test_a_half_file_is_left_alone_whatever_asks_for_a_listing(place: manifests.Place) -> None:
    """Another name's event, a symlink's, or a mount's switch make everything be looked at, but nothing half be read."""
    path = place.write("a.yaml", OLD)
    place.read()
    with path.open("w") as file:
        file.write(NEW[:HALF])
        file.flush()
        (place.path / "..data").symlink_to("nowhere")
        assert place.source.drain()
        assert rates(place.now()) == {"a": "5Mbit", "b": "5Mbit"}
        file.write(NEW[HALF:])
    assert rates(place.read()) == {"a": "6Mbit", "b": "6Mbit"}


def test_two_files_with_one_name_are_told_apart_as_before(place: manifests.Place) -> None:
    """Saving the one that counts does not let the other take over."""
    path = place.write("a.yaml", limit("a"))
    place.read()
    place.write("b.yaml", limit("a", rate="9Mbit"))
    place.read()
    path.unlink()
    during = place.read()
    assert (rates(during), [p.reason for p in during.problems]) == ({"a": "5Mbit"}, ["DuplicateName"])
    place.write("a.yaml", limit("a", rate="6Mbit"))
    assert rates(place.read()) == {"a": "6Mbit"}


def test_who_reads_once_waits_for_a_save(place: manifests.Place) -> None:
    """It sleeps until the deletion is one, and until the writer is done, and then has the whole directory."""
    place.write("a.yaml", OLD)
    gone = place.write("gone.yaml", limit("gone"))
    place.read()
    gone.unlink()
    writer = (place.path / "b.yaml").open("w")
    writer.write(limit("c"))
    writer.flush()

    def sleep(seconds: float) -> None:
        place.monotonic.now += seconds
        if place.monotonic.now > 1001.0:
            writer.close()

    place.source.settle(sleep)
    assert rates(place.now()) == {"a": "5Mbit", "b": "5Mbit", "c": "5Mbit"}
    assert 1001.0 < place.monotonic.now < 1002.0


def test_a_polled_directory_is_given_the_same_time(place: manifests.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others write unseen, a name that is away at one look and back at the next was never gone."""
    monkeypatch.setattr(watch, "_remote", lambda _: True)
    path = place.write("a.yaml", OLD)
    assert rates(place.restart()) == {"a": "5Mbit", "b": "5Mbit"}
    path.unlink()
    assert place.poll() is None
    place.write("a.yaml", NEW, at=NOON)
    assert place.poll() is None
    polled = place.poll()
    assert polled is not None
    assert rates(polled) == {"a": "6Mbit", "b": "6Mbit"}


def test_a_file_for_which_there_is_no_descriptor_is_read_later(
    place: manifests.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this process lacks says nothing about the file: its limits stand, and it is looked at again."""
    path = place.write("a.yaml", OLD)
    place.read()
    with monkeypatch.context() as lack:

        def refuse(*_: object, **__: object) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        path.write_text(NEW)
        lack.setattr(os, "open", refuse)
        snapshot = place.read()
        assert (rates(snapshot), snapshot.problems) == ({"a": "5Mbit", "b": "5Mbit"}, ())
    place.monotonic.now += settling.LOOK_SECONDS
    assert rates(place.read()) == {"a": "6Mbit", "b": "6Mbit"}
