"""A limit as a new file, and what is said where none may be written."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import pytest

from bandwidth_agent.commands.looking import directory_actions
from bandwidth_agent.commands.looking.directory_actions import ShownOnly, write_new
from bandwidth_api import addresses
from bandwidth_api.plan import Mode
from bandwidth_sight import draft as drafts
from bandwidth_sight.source import Preview, SourceError
from unit.agent.reporting.test_who_page import MADE

CLIENT = addresses.parse("203.0.113.7")


def made(reason: str = "loop", *, observe: bool = False) -> drafts.Draft:
    return drafts.read(CLIENT, "5Mbit", "1h", reason, observe=observe)


def test_a_new_file_is_written_whole(tmp_path: pathlib.Path) -> None:
    """With nothing left beside it, and readable by others."""
    path = tmp_path / "slow.yaml"
    assert write_new(path, "text\n") == str(path)
    assert path.read_text() == "text\n"
    assert os.listdir(tmp_path) == ["slow.yaml"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("kind", ["file", "symlink", "directory"])
def test_what_is_there_is_left_as_it_is(tmp_path: pathlib.Path, kind: str) -> None:
    """A file, a symlink that leads nowhere, a directory of this name."""
    path = tmp_path / "slow.yaml"
    if kind == "file":
        path.write_text("mine")
    elif kind == "symlink":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    with pytest.raises(SourceError, match="exists already"):
        write_new(path, "text")
    assert os.listdir(tmp_path) == ["slow.yaml"]
    assert kind != "file" or path.read_text() == "mine"


def test_a_path_that_cannot_be_written_is_named(tmp_path: pathlib.Path) -> None:
    """With the reason of the system."""
    with pytest.raises(SourceError, match=r"absent/slow.yaml cannot be written: no such file"):
        write_new(tmp_path / "absent" / "slow.yaml", "text")


def test_a_limit_gets_the_first_free_name(tmp_path: pathlib.Path) -> None:
    """Neither one that a limit has, nor one that a file has."""
    taken = {"slow-203-0-113-7"}
    (tmp_path / "slow-203-0-113-7-no2.yaml").write_text("")
    assert directory_actions._named(made(), taken, tmp_path).name == "slow-203-0-113-7-no3"
    assert directory_actions._named(made(observe=True), taken, tmp_path).name == "observe-203-0-113-7"


def test_on_a_node_of_a_cluster_the_command_is_shown() -> None:
    """With all that was typed, quoted for a shell; nothing can be applied."""
    shown = ShownOnly(None, in_cluster=True)  # type: ignore[arg-type]
    preview = shown.preview(made("it's a loop; $HOME", observe=True))
    assert preview.question == ""
    command = "kubectl cbl slow 203.0.113.7 --rate 5Mbit --for 1h --reason 'it'\\''s a loop; $HOME' --observe"
    assert command in "\n".join(preview.instead)
    with pytest.raises(SourceError):
        shown.apply(preview)
    with pytest.raises(SourceError, match="name a file"):
        shown.write_yaml(preview, "")


def test_without_a_directory_the_option_is_named(tmp_path: pathlib.Path) -> None:
    """And a file can be written where somebody says so."""
    shown = ShownOnly(None, in_cluster=False)  # type: ignore[arg-type]
    preview = shown.preview(made())
    assert "--manifests DIR" in "\n".join(preview.instead)
    assert shown.write_yaml(preview, str(tmp_path / "x.yaml")) == str(tmp_path / "x.yaml")
    assert (tmp_path / "x.yaml").read_text() == preview.yaml


def test_the_entry_is_that_of_the_file() -> None:
    """As the agent compiles it."""
    entry = directory_actions.entry(made(observe=True))
    assert (entry.clients, entry.rate_bits_per_second, entry.mode) == ((CLIENT,), 5_000_000, Mode.OBSERVE)
    assert entry.expires_at == pytest.approx(entry.created_at + 3600)


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        (True, "an agent that follows the directory puts it in force within a second"),
        (None, "an agent that follows the directory puts it in force within a second"),
        (False, "no agent runs here: bandwidth-agent run --manifests {} puts it in force"),
    ],
)
def test_it_is_said_where_nobody_puts_the_file_in_force(tmp_path: pathlib.Path, runs: bool | None, says: str) -> None:
    """Whoever wrote a limit on a host without an agent would wait for it in vain."""
    actions = directory_actions.DirectoryActions(
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        tmp_path,
        agent_runs=lambda: runs,
    )
    draft = made()
    preview = Preview(draft, drafts.as_yaml(draft), (), "Write?")
    assert actions.apply(preview) == f"written: {tmp_path}/slow-203-0-113-7.yaml; {says.format(tmp_path)}"


def test_a_path_may_begin_with_the_home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every shell reads it; a home that nobody knows is a name like any other."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert directory_actions.named("~/slow.yaml") == tmp_path / "slow.yaml"
    assert directory_actions.named("~nobody-of-this-name/x.yaml") == pathlib.Path("~nobody-of-this-name/x.yaml")


@pytest.mark.parametrize(("observe", "more"), [(False, ""), (True, "; in Observe nothing slows it then")])
def test_a_policy_lets_go_of_a_client_that_a_person_limits(*, observe: bool, more: str) -> None:
    """Said before the file is written, of the policy that slows this client and of no other."""
    of_it, other = (dataclasses.replace(MADE, client=addresses.parse(text)) for text in ("203.0.113.7", "203.0.113.8"))
    found = directory_actions._let_go(made(observe=observe), {"fair-b": other, "fair-a": of_it})
    assert [*found] == [f"The policy fair slows it now, by fair-a, and lets go once this limit is there{more}."]
