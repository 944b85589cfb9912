"""Packs the Python files that the tests and the agent import, so that a virtual machine reads them in one go.

    host:   carry.py ARCHIVE                 guest:  carried ARCHIVE COMMAND...

A guest that shares this host's files opens each of them through an emulated device: a minute per start of the agent.
From one archive in the guest's memory it is seconds. What is not in the archive is still found where it always was.
"""

from __future__ import annotations

import importlib
import io
import pathlib
import pkgutil
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARIES = ("pytest", "hypothesis", "structlog.dev", "prometheus_client", "pyroute2", "yaml", "_pytest")
OURS = ("bandwidth_agent", "bandwidth_api", "bandwidth_lab", "bandwidth_runtime")


def imported() -> list[pathlib.Path]:
    """The files of every module that the libraries and all of our modules import, and their compiled forms."""
    for name in LIBRARIES:
        importlib.import_module(name)
    for name in OURS:
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            if not module.name.endswith((".demo", "__main__")):
                importlib.import_module(module.name)
    names = {
        name
        for module in list(sys.modules.values())
        for name in (getattr(module, "__file__", None), getattr(module, "__cached__", None))
        if name
    }
    return sorted(path for path in map(pathlib.Path, names) if path.is_file())


def main() -> None:
    """Write the archive: a folder 0, 1, … for each root, and the list of roots."""
    sys.path.insert(0, str(ROOT / "tests/lab"))
    roots = [ROOT, pathlib.Path(sys.base_prefix)]
    files = [*imported(), *(ROOT / "tests").rglob("*.py")]
    with tarfile.open(sys.argv[1], "w") as archive:
        for path in files:
            number = next((n for n, root in enumerate(roots) if path.is_relative_to(root)), None)
            if number is not None:
                archive.add(path, f"{number}/{path.relative_to(roots[number])}", recursive=False)
        text = "".join(f"{root}\n" for root in roots).encode()
        entry = tarfile.TarInfo("roots")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))


if __name__ == "__main__":
    main()
