"""A bpf file system of a test's own: what has a name there is gone with it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

_PREFIX = "lab-bpf-"
_MOUNTED: list[pathlib.Path] = []


@contextlib.contextmanager
def mounted() -> Iterator[pathlib.Path]:
    """An empty bpf file system while this lasts. Programs that are started in namespaces see it too."""
    remove_stale()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        subprocess.run(["mount", "-t", "bpf", "lab", folder], check=True, capture_output=True)
        _MOUNTED.append(pathlib.Path(folder))
        try:
            yield _MOUNTED[-1]
        finally:
            _MOUNTED.pop()
            subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)


def names(folder: pathlib.Path) -> list[str]:
    """What there is below a folder, relative to it, without the kernel's own two files."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".debug")


def forget(namespace: int) -> None:
    """Take away what has a name for this network namespace, which is about to be removed.

    Its number is soon that of another one, maybe of another test, whose agent sees these file systems and would take
    the names for its own.
    """
    for folder in _MOUNTED:
        shutil.rmtree(folder / "client-bandwidth" / str(namespace), ignore_errors=True)


def remove_stale() -> None:
    """Remove the file systems whose maker is dead: every agent sees them, and a number comes back."""
    for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        maker = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if not pathlib.Path("/proc", maker).exists():
            subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)
            with contextlib.suppress(OSError):  # somebody else was first
                folder.rmdir()
