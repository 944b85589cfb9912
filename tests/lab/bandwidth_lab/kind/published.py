"""Releases made as their maintainers make them, from a clone of this repository, for a registry of this machine."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bandwidth_lab.kind import shell
from bandwidth_lab.kind.release import ROOT

MAKE_SECONDS = 900.0
COSIGN = (str(ROOT / "tools/go-program"), "cosign")
_CLONE = "clone"
_NICE = "15"  # of what is made beside tests that measure
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


def _dist(clone: pathlib.Path, version: str) -> pathlib.Path:
    """Where a clone has a release."""
    return clone / f"build/dist-{version}"


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
        dist = _dist(self.folder, version)
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


class Making:
    """Releases of this tree that are being made, one after the other, by a process of their own."""

    def __init__(self, registry: str, folder: pathlib.Path, versions: Sequence[str]) -> None:
        self._registry, self._folder, self._versions = registry, folder, versions
        self._log = folder / "log"
        command = ["nice", "-n", _NICE, sys.executable, "-m", __name__, registry, str(folder), *versions]
        paths = os.pathsep.join(path for path in sys.path if path)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": paths},
                start_new_session=True,
            )

    def made(self) -> Sequence[Published]:
        """Wait until they are there. Raises FailedCommandError with all that was printed where that failed."""
        if code := self._process.wait(MAKE_SECONDS * (1 + len(self._versions))):
            raise shell.FailedCommandError(self._process.args, code, self._log.read_text())  # type: ignore[arg-type]
        return [Published(version, self._registry, _dist(self._folder / _CLONE, version)) for version in self._versions]

    def end(self) -> None:
        """End it, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextlib.contextmanager
def making(registry: str, *versions: str) -> Iterator[Making]:
    """Make releases of this tree while something else is done; their files are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        begun = Making(registry, pathlib.Path(folder), versions)
        try:
            yield begun
        finally:
            begun.end()


def main() -> None:
    """Make releases: the registry, a folder for the clone, and the versions are the words of the call."""
    registry, folder, *versions = sys.argv[1:]
    shell.run(COSIGN, timeout=MAKE_SECONDS)  # it may have to be compiled, or is being compiled right now
    clone = Clone(pathlib.Path(folder) / _CLONE, *versions)
    for version in versions:
        clone.release(registry, version)


if __name__ == "__main__":
    main()
