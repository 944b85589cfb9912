"""Whether programs can be loaded is found out by loading them; nothing of that stays."""

from __future__ import annotations

import pathlib

import pytest

from bandwidth_agent.kernel.linux.bpf import driver, pins, probe, system_call
from bandwidth_lab import bpffs
from bandwidth_lab.namespaces import Namespace

pytestmark = pytest.mark.root


def test_where_they_can(directory: pathlib.Path) -> None:
    """In a bpf file system, and below one."""
    (directory / "below").mkdir()
    assert probe.lack(str(directory)) is None
    assert probe.lack(str(directory / "below")) is None
    assert bpffs.names(directory) == ["below"]


def test_where_they_cannot(tmp_path: pathlib.Path) -> None:
    """No directory, and one of another file system: what is missing is said."""
    for where in ("", str(tmp_path), str(tmp_path / "nowhere")):
        found = probe.lack(where)
        assert found is not None
        assert not found.permitted
        assert ("mount -t bpf" if where else "--bpf-directory") in found.why


def test_a_mount_with_a_blank_in_its_name(tmp_path: pathlib.Path) -> None:
    """The kernel lists such names in a form of their own."""
    line = f"1 2 0:3 / {tmp_path}/a\\040b rw - bpf none rw"
    assert pins.kind(f"{tmp_path}/a b/c", ["1 1 0:1 / / rw - ext4 x rw", line]) == "bpf"
    assert pins.kind(f"{tmp_path}/a bc", ["1 1 0:1 / / rw - ext4 x rw", line]) == "ext4"


def test_what_is_missing_is_asked_again(
    server: Namespace, directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute; what is there is not asked again."""
    now = [0.0]
    made = server.call(lambda: driver.Driver(str(directory), monotonic=lambda: now[0]))

    def refuse(*_: object) -> int:
        raise OSError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(system_call, "load", refuse)
        assert made.probe().lack is not None
    now[0] = 59.0
    assert made.probe().lack is not None
    now[0] = 60.0
    assert made.probe().lack is None
    with monkeypatch.context() as patched:
        patched.setattr(system_call, "load", refuse)
        now[0] = 1e6
        assert made.probe().lack is None
    made.close()
