"""The programs of the version before, taken from the history of this repository, to run beside those of the work tree.

The sources of the packages are unpacked into a folder, and a script named as the program puts them first in Python's
path; libraries are those of the running interpreter. Changes nothing in the repository.
"""

from __future__ import annotations

import compileall
import io
import pathlib
import subprocess
import sys
import tarfile
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).resolve().parents[3]
COMMIT = "da602927b817938376061be3de66e6b94d09fd7c"
"""The version that an upgrade comes from. Move it on with each release."""
BEFORE_SIGHT = "12aa77a8f91decd678bfdf2de4c0c1e91f4986a6"
"""A version that knows neither questions about traffic nor whether limits were seen to hold."""

BEFORE_OWN_ACCOUNTS = "da602927b817938376061be3de66e6b94d09fd7c"
"""A version whose chart calls its service accounts `operator` and `agent`."""

CHART = "deploy/helm/client-bandwidth-operator"
PACKAGES = ("api", "agent", "kube", "operator", "runtime")
_SCRIPT = """\
#!{python}
import sys

sys.path[:0] = {paths}
from bandwidth_{name}.cli import main

sys.exit(main())
"""


def programs(folder: pathlib.Path, commit: str = COMMIT) -> pathlib.Path:
    """Unpack a version into `folder`; the folder with its programs `bandwidth-agent` and `bandwidth-operator`.

    Raises LookupError where the clone does not have that commit.
    """
    _unpack(folder, commit, *PACKAGES)
    compileall.compile_dir(folder, quiet=1)
    paths = [str(folder / name) for name in PACKAGES if (folder / name).is_dir()]
    made = folder / "bin"
    made.mkdir()
    for name in ("agent", "operator"):
        script = made / f"bandwidth-{name}"
        script.write_text(_SCRIPT.format(python=sys.executable, paths=paths, name=name))
        script.chmod(0o755)
    return made


def chart(folder: pathlib.Path, commit: str = COMMIT) -> pathlib.Path:
    """Unpack the chart of a version into `folder`; the chart's own folder. Raises LookupError as `programs` does."""
    _unpack(folder, commit, CHART)
    return folder / CHART


def _unpack(folder: pathlib.Path, commit: str, *below: str) -> None:
    """Write what a version has below these folders; folders that it does not have are left out."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=False)
    if archive.returncode:
        raise LookupError(f"this clone has no commit {commit}: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        members = [member for member in files if any(f"{member.name}/".startswith(f"{each}/") for each in below)]
        files.extractall(folder, members, filter="data")


def without_rules(texts: Mapping[str, str]) -> dict[str, str]:
    """What the tools print about a kernel, without rules: a line for ports is two of them since the version before."""
    return {command: text for command, text in texts.items() if "tables" not in command and "nft" not in command}
