"""Releases made as their maintainers make them, from a clone of this repository, for a registry of this machine."""

from __future__ import annotations

import os
import pathlib
import re
from typing import NamedTuple

from bandwidth_lab.kind import shell
from bandwidth_lab.kind.release import ROOT

MAKE_SECONDS = 900.0
_AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
# What is made once and takes long: each clone has that of the work tree.
_SHARED = (".venv", "build/images/wheels", "build/release/layers", "build/tools")


class Published(NamedTuple):
    """One release: its version, and the folder that `make release` left."""

    version: str
    registry: str
    dist: pathlib.Path

    @property
    def install(self) -> str:
        """Its install.yaml."""
        return (self.dist / "install.yaml").read_text()

    @property
    def images(self) -> set[str]:
        """The images that its install.yaml names."""
        return set(re.findall(r"image: (\S+)", self.install))

    @property
    def references(self) -> list[str]:
        """All that it has in the registry, by digest, as its notes list it."""
        return re.findall(r"`(\S+@sha256:[0-9a-f]{64})`", (self.dist / "RELEASE_NOTES.md").read_text())


class Clone:
    """A clone of the repository as its work tree is, with sections in its changelog for some versions."""

    def __init__(self, folder: pathlib.Path, *versions: str) -> None:
        self.folder = folder
        tree = shell.run(["git", "-C", str(ROOT), "stash", "create"]).strip() or "HEAD"
        commit = shell.run(["git", "-C", str(ROOT), "rev-parse", tree]).strip()
        shell.run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(folder)])
        self.git("checkout", "--quiet", commit)
        with (folder / ".git/info/exclude").open("a") as excluded:
            for name in _SHARED:
                excluded.write(f"/{name}\n")
                (ROOT / name).mkdir(parents=True, exist_ok=True)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).symlink_to(ROOT / name)
        changelog = folder / "CHANGELOG.md"
        sections = "".join(f"## {version}\n\n- A version of the tests.\n\n" for version in versions)
        changelog.write_text(changelog.read_text().replace("## Unreleased\n", f"## Unreleased\n\n{sections}", 1))
        self.git(*_AUTHOR, "commit", "--quiet", "--all", "--message", "Versions of the tests")

    def git(self, *words: str) -> str:
        return shell.run(["git", "-C", str(self.folder), *words])

    def release(self, registry: str, version: str, *words: str) -> Published:
        """Make a release of it, as `make release` does, without Debian packages, which have tests of their own."""
        dist = self.folder / f"build/dist-{version}"
        command = [
            str(self.folder / "tools/release"),
            "--registry",
            registry,
            "--version",
            version,
            "--dist",
            str(dist),
            "--no-deb",
        ]
        shell.run([*command, *words], timeout=MAKE_SECONDS, env=dict(os.environ))
        return Published(version, registry, dist)
