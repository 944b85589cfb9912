"""A bpf file system of a test's own: what has a name there is gone with it."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def mounted() -> Iterator[pathlib.Path]:
    """An empty bpf file system while this lasts. Programs that are started in namespaces see it too."""
    with tempfile.TemporaryDirectory(prefix="lab-bpf-") as folder:
        subprocess.run(["mount", "-t", "bpf", "lab", folder], check=True, capture_output=True)
        try:
            yield pathlib.Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)


def names(folder: pathlib.Path) -> list[str]:
    """What there is below a folder, relative to it, without the kernel's own two files."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".debug")
