"""A release is made of one commit: its export has the version in all places, and what is not committed stops it."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from bandwidth_release import __main__ as program
from bandwidth_release import command, packages, source, stamps, version

ROOT = pathlib.Path(__file__).resolve().parents[3]
OF = version.parsed("7.8.9-rc.1")


def git(folder: pathlib.Path, *words: str) -> str:
    author = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *author, *words], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    """A repository with the files that a release changes and one that it does not."""
    folder = tmp_path / "tree"
    for name in (stamps.PACKAGE, stamps.PLUGIN, stamps.CHART, "CHANGELOG.md", "LICENSE"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text((ROOT / name).read_text())
    git(folder.parent, "init", "--quiet", str(folder))
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "All")
    return folder


def test_the_export_is_the_commit_with_the_version(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Whatever was in its folder before is gone, and the work tree is as it was."""
    (tmp_path / "export").mkdir()
    (tmp_path / "export/left").touch()
    made = source.exported(tree, tmp_path / "export", OF)
    assert made.commit == git(tree, "rev-parse", "HEAD")
    assert made.created.startswith("20")
    assert made.notes
    assert not (made.folder / "left").exists()
    assert (made.folder / "LICENSE").read_text() == (tree / "LICENSE").read_text()
    assert OF.text in (made.folder / stamps.CHART).read_text()
    assert git(tree, "status", "--porcelain") == ""


@pytest.mark.parametrize("name", ["LICENSE", "new"])
def test_what_is_not_committed_stops_it(tree: pathlib.Path, tmp_path: pathlib.Path, name: str) -> None:
    """A changed file and a new one are named, and nothing is exported."""
    with (tree / name).open("a") as file:
        file.write("more")
    with pytest.raises(command.ReleaseError, match=name):
        source.exported(tree, tmp_path / "export", OF)
    assert not (tmp_path / "export").exists()


def test_a_version_of_which_nothing_is_said_stops_it(tree: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """It is refused before anything is built."""
    with pytest.raises(command.ReleaseError, match=r"CHANGELOG\.md has no section 99\.0\.0"):
        source.exported(tree, tmp_path / "export", version.parsed("99.0.0"))


def test_packages_are_the_same_again(tmp_path: pathlib.Path) -> None:
    """Wheel, source distribution and plugin of the sources here have the same bytes whenever they are built."""
    files = []
    for build in ("one", "two"):
        of = source.Source(tmp_path / build / "source", OF, "0" * 40, 1_700_000_000, "")
        for name in tracked():
            target = of.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
            target.chmod((ROOT / name).stat().st_mode)
        for name, text in stamps.versioned({n: (of.folder / n).read_text() for n in STAMPED}, OF).items():
            (of.folder / name).write_text(text)
        dist = tmp_path / build / "dist"
        dist.mkdir()
        packages.python(of, pathlib.Path(sys.executable), dist)
        packages.plugin(of, "https://example.com", dist)
        files.append({path.name: path.read_bytes() for path in dist.iterdir()})
    assert files[0] == files[1]
    assert {name for name in files[0] if "7.8.9rc1" in name or "7.8.9-rc.1" in name} == set(files[0]) - {"cbl.yaml"}
    assert len(files[0]) == 4


STAMPED = (stamps.PACKAGE, stamps.PLUGIN, stamps.CHART)


def tracked() -> list[str]:
    """The files of this work tree, as they are."""
    return [name for name in git(ROOT, "ls-files").splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--version", "1.2.3"], "REGISTRY"),
        (["--registry", "localhost:5000", "--version", "1.2"], "VERSION"),
    ],
)
def test_a_wrong_call_says_how_a_right_one_looks(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the variable that is wrong."""
    assert program.main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "make release REGISTRY=localhost:5000 VERSION=1.2.3" in error


def test_what_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs, a registry that does not answer, or the key for one that others reach."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert program.main(["--registry", "localhost:1", "--version", "1.2.3"]) == 1
    error = capsys.readouterr().err
    for said in ("docker is not in PATH", "skopeo is not in PATH", "no registry answers at localhost:1"):
        assert said in error
    assert program.main(["--registry", "ghcr.io/example", "--version", "1.2.3", "--architectures", "mips"]) == 1
    error = capsys.readouterr().err
    assert "KEY is needed" in error
    assert "mips" in error
