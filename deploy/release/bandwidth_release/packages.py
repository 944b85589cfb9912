"""What is installed without an image: the Python package, and the kubectl plugin with its manifest for krew."""

from __future__ import annotations

import pathlib
import shutil
import tempfile

from bandwidth_release import archives, command
from bandwidth_release.source import Source

_KREW = """\
# For `kubectl krew`. Where the address of the archive is not reachable:
#   kubectl krew install --manifest=cbl.yaml --archive={archive}
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: cbl
spec:
  version: v{version}
  homepage: {homepage}
  shortDescription: Find and slow down a client that takes too much
  description: |
    Shows which clients of a cluster get how much, slows one down by a limit, and
    says on which nodes the limit is in force and whether it holds. It needs the
    client-bandwidth-operator in the cluster.
  caveats: |
    Needs Python 3.11 or newer as python3.
  platforms:
  - selector:
      matchExpressions:
      - {{key: os, operator: In, values: [linux, darwin]}}
    uri: {downloads}/{archive}
    sha256: {sha256}
    bin: kubectl-cbl
"""


def python(source: Source, interpreter: pathlib.Path, dist: pathlib.Path) -> None:
    """The wheel and the source distribution."""
    command.told("building the Python package")
    with tempfile.TemporaryDirectory() as folder:
        words = [str(interpreter), "-m", "hatchling", "build", "--directory", folder]
        command.run(words, folder=source.folder, environment={"SOURCE_DATE_EPOCH": str(source.time)})
        made = sorted(pathlib.Path(folder).iterdir())
        if len(made) != 2 or not all(f"-{source.version.python}" in path.name for path in made):
            raise command.ReleaseError(f"hatchling made {[path.name for path in made]}, not one wheel and one sdist")
        for path in made:
            shutil.copyfile(path, dist / path.name)


def debian(source: Source, interpreter: pathlib.Path, wheels: pathlib.Path, dist: pathlib.Path) -> None:
    """The Debian package of the agent for each architecture of Debian that it has libraries for; `wheels`: a cache."""
    if shutil.which("dh") is None:
        command.told("no debhelper here (tools/system-packages deb): the Debian package is left out")
        return
    command.told("building the Debian packages")
    environment = {"DEB_PYTHON": str(interpreter), "DEB_WHEELS": str(wheels), "SOURCE_DATE_EPOCH": str(source.time)}
    for architecture in ("amd64", "arm64"):
        command.run(["tools/deb"], folder=source.folder, environment=environment | {"ARCHITECTURE": architecture})
    for path in sorted((source.folder / "dist").glob("*.deb")):
        shutil.copyfile(path, dist / path.name)


def plugin(source: Source, downloads: str, dist: pathlib.Path) -> None:
    """The plugin as an archive, and the manifest by which krew finds it below `downloads`."""
    command.told("building the kubectl plugin")
    archive = dist / f"kubectl-cbl-{source.version.text}.tar.gz"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command.run(["tools/plugin", folder], folder=source.folder)
        found = {path.name: path for path in folder.iterdir()}
        archives.packed({**found, "LICENSE": source.folder / "LICENSE"}, archive, source.time)
    (dist / "cbl.yaml").write_text(krew(source.version.text, downloads, archive.name, archives.sha256(archive)))


def krew(version: str, downloads: str, archive: str, sha256: str) -> str:
    """The manifest for krew."""
    base = downloads.rstrip("/")
    homepage = base.partition("/releases/")[0]
    return _KREW.format(version=version, downloads=base, homepage=homepage, archive=archive, sha256=sha256)
