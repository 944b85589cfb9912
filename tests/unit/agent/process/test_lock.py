"""The lock by a file, for kernels without log groups, and who counts as an agent."""

from __future__ import annotations

import os
import pathlib

import pytest

from bandwidth_agent.process import lock, lock_name


def test_one_process_holds_the_file_of_its_network_namespace(tmp_path: pathlib.Path) -> None:
    """A second one is refused until the first lets go; the file can be read by its owner only."""
    folder = tmp_path / "state"
    first = lock.locked_file(folder)
    [made] = folder.iterdir()
    assert str(os.stat("/proc/self/ns/net").st_ino) in made.name
    assert (folder.stat().st_mode & 0o777, made.stat().st_mode & 0o777) == (0o700, 0o600)
    assert made.read_text() == str(os.getpid())
    assert os.get_inheritable(first)  # so that it is held until the last program of a killed agent has ended
    with pytest.raises(lock.HeldError):
        lock.locked_file(folder)
    os.close(first)
    os.close(lock.locked_file(folder))


def test_a_link_in_the_place_of_the_file_is_refused(tmp_path: pathlib.Path) -> None:
    """What it leads to is neither locked nor written."""
    inode = os.stat("/proc/self/ns/net").st_ino
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / f"agent-{inode}.lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        lock.locked_file(tmp_path)
    assert target.read_text() == "precious"


def test_a_process_that_is_not_an_agent_is_told_by_its_program_and_user() -> None:
    """This one, and one that is gone."""
    ours = lock_name.described(os.getpid())
    assert (ours.pid, ours.uid, ours.agent) == (os.getpid(), os.geteuid(), False)
    assert str(ours).startswith(f"process {os.getpid()} (")
    assert str(lock_name.described(0, 1000)) == "a process in another container of user 1000"


@pytest.mark.parametrize(
    ("holders", "waited_seconds", "held_by"),
    [
        ([], 0, None),
        ([0, 0, 0], 0.75, None),
        ([7], 0, 7),
        ([0, 0, 7], 0.5, 7),
        ([0] * 1000, lock.UNSEEN_SECONDS, 0),
    ],
    ids=["free", "left by a killed agent", "an agent", "an agent that came first", "of an unknown owner"],
)
def test_only_who_is_seen_to_be_an_agent_is_not_waited_for(
    holders: list[int], waited_seconds: float, held_by: int | None
) -> None:
    """A holder that is no living agent may be iptables of one that was killed: it is waited for, but not for ever."""
    ahead, pauses = iter(holders), list[float]()

    def take() -> str:
        for pid in ahead:
            raise lock.HeldError(pid)
        return "taken"

    if held_by is None:
        assert lock.patiently(take, pauses.append) == "taken"
    else:
        with pytest.raises(lock.HeldError) as refused:
            lock.patiently(take, pauses.append)
        assert refused.value.pid == held_by
    assert sum(pauses) == waited_seconds
