"""The files of the service below a root directory, as packages have them made."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml

from bandwidth_agent import cli
from bandwidth_agent.systemd import installation, unit_files
from bandwidth_agent.systemd.unit_files import Found
from bandwidth_api.crds import limit

PROGRAM = pathlib.PurePosixPath("/usr/sbin/bandwidth-agent")
UNITS = "usr/lib/systemd/system"
AGENT = f"{UNITS}/bandwidth-agent.service"
ALL = {AGENT, f"{UNITS}/client-bandwidth-sets.service", "etc/client-bandwidth/README"}


def below(root: pathlib.Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def install(root: pathlib.Path) -> list[str]:
    return list(installation.install(installation.survey(PROGRAM, root)))


def test_written_once_and_found_again(tmp_path: pathlib.Path) -> None:
    """A second time nothing is written; nothing stands there under another name."""
    assert [line.split()[0] for line in install(tmp_path)] == ["wrote"] * 3
    first = below(tmp_path)
    assert set(first) == ALL
    assert "ExecStart=/usr/sbin/bandwidth-agent run" in first[AGENT]
    assert [line.split()[0] for line in install(tmp_path)] == ["unchanged:"] * 3
    assert below(tmp_path) == first
    assert (tmp_path / AGENT).stat().st_mode & 0o777 == 0o644


def test_an_older_one_is_renewed_and_an_edited_one_kept(tmp_path: pathlib.Path) -> None:
    """As dpkg does with conffiles: what is new lies beside what was changed, and only where it is new."""
    install(tmp_path)
    agent, sets = (tmp_path / UNITS / name for name in installation.UNITS)
    sets.write_text(unit_files.written("[Unit]\n", program="", files=""))
    agent.write_text(f"{agent.read_text()}# mine\n")
    lines = install(tmp_path)
    assert lines[0] == f"kept {agent}, which you have changed"
    assert lines[1] == f"renewed {sets}"
    assert agent.read_text().endswith("# mine\n")
    assert set(below(tmp_path)) == ALL

    agent.write_text(unit_files.written("[Unit]\n", program="", files="") + "# mine\n")
    assert str(agent) + ".dist" in install(tmp_path)[0]
    assert "ExecStart=/usr/sbin" in (tmp_path / f"{AGENT}.dist").read_text()


def test_uninstalled_without_what_others_wrote(tmp_path: pathlib.Path) -> None:
    """What is ours goes, with a directory that nothing is left in; edits, strangers and limits stay."""
    install(tmp_path)
    list(installation.uninstall(installation.survey(PROGRAM, tmp_path)))
    assert below(tmp_path) == {}
    assert not (tmp_path / "etc/client-bandwidth").exists()

    install(tmp_path)
    (tmp_path / AGENT).write_text("[Service]\n")
    (tmp_path / "etc/client-bandwidth/slow.yaml").write_text("limit")
    lines = list(installation.uninstall(installation.survey(PROGRAM, tmp_path)))
    assert f"kept {tmp_path / AGENT}, which is not ours" in lines
    assert set(below(tmp_path)) == {AGENT, "etc/client-bandwidth/slow.yaml"}


def test_a_masked_unit_is_not_followed(tmp_path: pathlib.Path) -> None:
    """A link in the place of a unit is another's, whatever it leads to."""
    install(tmp_path)
    (tmp_path / AGENT).rename(tmp_path / "elsewhere")
    (tmp_path / AGENT).symlink_to(tmp_path / "elsewhere")
    assert installation.survey(PROGRAM, tmp_path)[0].found is Found.FOREIGN


def test_the_program_refuses_what_it_would_overwrite(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a unit of another hand in one place nothing is written in any."""
    (tmp_path / AGENT).parent.mkdir(parents=True)
    (tmp_path / AGENT).write_text("[Service]\n")
    words = ["install-unit", "--root", str(tmp_path), "--program", str(PROGRAM)]
    assert cli.main(words) == 1
    assert AGENT in capsys.readouterr().err
    assert below(tmp_path) == {AGENT: "[Service]\n"}
    (tmp_path / AGENT).unlink()
    assert cli.main(words) == 0
    assert set(below(tmp_path)) == ALL


def test_what_cannot_be_written_is_named(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line with the path and the reason; a second call goes on from there."""
    (tmp_path / "usr").write_text("a file where a directory should be")
    assert cli.main(["install-unit", "--root", str(tmp_path), "--program", str(PROGRAM)]) == 1
    assert re.fullmatch(rf"bandwidth-agent: error: {tmp_path}/usr\S*: not a directory; .*\n", capsys.readouterr().err)


def test_the_readme_shows_a_limit_and_is_none(tmp_path: pathlib.Path) -> None:
    """Renamed it is a file of one valid limit; under its own name no agent reads it."""
    install(tmp_path)
    readme = tmp_path / "etc/client-bandwidth/README"
    assert isinstance(limit.parse(yaml.safe_load(readme.read_text())), limit.Limit)
    assert readme.suffix not in (".yaml", ".yml", ".json")
