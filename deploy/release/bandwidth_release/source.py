"""The commit that a release is made from: refused where the work tree differs from it, exported, and stamped."""

from __future__ import annotations

import datetime
import io
import pathlib
import shutil
import subprocess
import tarfile
from typing import NamedTuple

from bandwidth_release import changelog, command, stamps, version
from bandwidth_release.version import Version

_MANY = 10


class Source(NamedTuple):
    """An exported commit in a folder, with the version in every file that names it."""

    folder: pathlib.Path
    version: Version
    commit: str
    time: int  # of the commit, in seconds since 1970
    notes: str

    @property
    def created(self) -> str:
        """The time of the commit as RFC 3339."""
        return datetime.datetime.fromtimestamp(self.time, datetime.UTC).isoformat()


def exported(root: pathlib.Path, folder: pathlib.Path, of: Version) -> Source:
    """Export HEAD of a clean work tree into `folder`, made anew, and stamp it."""
    changed = command.run(["git", "status", "--porcelain"], folder=root).splitlines()
    if changed:
        listed = "\n".join(changed[:_MANY] + (["…"] if len(changed) > _MANY else []))
        raise command.ReleaseError(
            f"the work tree is not as its last commit; a release is made of a commit alone: commit or stash\n{listed}"
        )
    commit, time = command.run(["git", "log", "-1", "--format=%H %ct"], folder=root).split()
    try:
        notes = changelog.section((root / "CHANGELOG.md").read_text(), of)
        _export(root, folder)
        _stamp(folder, of)
    except version.InvalidError as wrong:
        raise command.ReleaseError(str(wrong)) from None
    return Source(folder, of, commit, int(time), notes)


def clear(folder: pathlib.Path) -> pathlib.Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _export(root: pathlib.Path, folder: pathlib.Path) -> None:
    clear(folder)
    archive = subprocess.run(["git", "-C", str(root), "archive", "HEAD"], check=True, capture_output=True, timeout=60)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="tar")


def _stamp(folder: pathlib.Path, of: Version) -> None:
    files = {name: (folder / name).read_text() for name in (stamps.PACKAGE, stamps.PLUGIN, stamps.CHART)}
    for name, text in stamps.versioned(files, of).items():
        (folder / name).write_text(text)
