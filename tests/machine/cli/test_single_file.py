"""The plugin's single file: its bytes, what it stands on, and what it keeps of itself."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from bandwidth_cli import release

ROOT = pathlib.Path(__file__).resolve().parents[3]


def build(folder: pathlib.Path, **environment: str) -> pathlib.Path:
    subprocess.run(
        [sys.executable, str(ROOT / "tools" / "plugin"), str(folder)],
        check=True,
        capture_output=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], **environment},
    )
    return folder / "kubectl-cbl"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return build(tmp_path_factory.mktemp("built"))


def run(file: pathlib.Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """With the standard library alone."""
    return subprocess.run(
        [sys.executable, "-S", "-I", str(file), *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/nowhere", **environment},
    )


def test_its_bytes_follow_from_the_sources(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Whenever and wherever it is built: the same, executable, with a line that names the interpreter."""
    again = build(tmp_path, PYTHONHASHSEED="7", TZ="Asia/Tokyo", LC_ALL="C")
    assert again.read_bytes() == file.read_bytes()
    assert file.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert os.access(file, os.X_OK)


def test_it_stands_on_the_standard_library_alone(file: pathlib.Path) -> None:
    """Every module in it can be imported without site-packages, and none of them is pydantic."""
    code = """
import importlib, sys, zipfile
sys.path.insert(0, sys.argv[1])
names = [name for name in zipfile.ZipFile(sys.argv[1]).namelist() if name != "__main__.py"]
for name in names:
    importlib.import_module(name.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
print("pydantic" in sys.modules, len(names) > 50)
"""
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code, str(file)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False True\n"


def test_it_runs_without_a_home(file: pathlib.Path) -> None:
    """Nothing depends on what it keeps."""
    done = run(file, "version", "--client")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"kubectl-cbl {release.VERSION}\n", "")


def test_what_was_compiled_is_kept_and_used(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """In the user's cache, in a folder of its own for this file and this Python."""
    home = {"HOME": str(tmp_path)}
    assert run(file, "version", "--client", **home).returncode == 0
    (kept,) = (tmp_path / ".cache" / "kubectl-cbl").iterdir()
    assert (kept / "bandwidth_cli" / "cli.pyc").exists()
    assert kept.stat().st_mode & 0o077 == 0
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    done = run(file, "version", "--client", **home)
    assert done.stdout == f"kubectl-cbl {release.VERSION}\n"
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == before


def test_a_cache_that_others_may_write_is_not_used(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """What is in it may be anybody's."""
    home = {"HOME": str(tmp_path)}
    run(file, "version", "--client", **home)
    (kept,) = (tmp_path / ".cache" / "kubectl-cbl").iterdir()
    (kept / "bandwidth_cli" / "cli.pyc").write_bytes(b"nonsense")
    assert run(file, "version", "--client", **home).returncode == 1
    kept.chmod(0o777)
    assert run(file, "version", "--client", **home).returncode == 0


def test_another_file_has_a_cache_of_its_own(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """An upgrade never runs with what was compiled of the version before."""
    copy = tmp_path / "kubectl-cbl"
    shutil.copy(file, copy)
    for each in (file, copy):
        run(each, "version", "--client", HOME=str(tmp_path))
    assert len(list((tmp_path / ".cache" / "kubectl-cbl").iterdir())) == 2


@pytest.mark.parametrize("cache", ["relative", "/dev/null/x", "/proc/x"])
def test_where_nothing_can_be_kept_it_does_without(file: pathlib.Path, tmp_path: pathlib.Path, cache: str) -> None:
    """In silence."""
    done = run(file, "version", "--client", HOME=str(tmp_path), XDG_CACHE_HOME=cache)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_while_it_is_loaded_ends_it_without_a_word(file: pathlib.Path) -> None:
    """Whoever changes their mind at once sees no traceback, and the shell sees a program that Ctrl-C has ended."""
    code = """
import importlib.abc, os, runpy, signal, sys
class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "bandwidth_cli.cli":
            os.kill(os.getpid(), signal.SIGINT)
        return None
sys.meta_path.insert(0, Interrupting())
sys.argv = [sys.argv[1], "list"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code, str(file)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
