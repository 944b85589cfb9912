"""Puts the files of an installation onto a host, or below a root directory, and takes them away again.

Owns where they go. Never overwrites and never removes a file that a person or another program has written.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator

from bandwidth_agent.systemd import unit_files
from bandwidth_agent.systemd.unit_files import Found

UNITS = (unit_files.AGENT, unit_files.SETS)
LIMITS = pathlib.Path("/etc/client-bandwidth")
FILES = pathlib.Path(__file__).resolve().parent / "files"
# Where packages put units. One there would have no effect any more beside ours, which come first.
_OF_PACKAGES = (pathlib.Path("/usr/lib/systemd/system"), pathlib.Path("/lib/systemd/system"))
_OF_ADMINISTRATORS = pathlib.Path("/etc/systemd/system")
_BESIDE = ".dist"  # systemd reads no file of this name
_MODE = 0o644


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One file of an installation: where it goes, what it should be, and what stands there."""

    path: pathlib.Path
    text: str
    found: Found

    @property
    def is_unit(self) -> bool:
        return self.path.name in UNITS

    @property
    def beside(self) -> pathlib.Path:
        """Where it is written while a changed one stands in its place."""
        return self.path.with_name(self.path.name + _BESIDE)


def survey(program: pathlib.PurePath, root: pathlib.Path | None) -> list[File]:
    """Return all files of an installation, with what stands in their places. Raises OSError.

    `program`: what the unit calls. `root`: of a package or an image that is being made; None for this host.
    """
    units = _OF_ADMINISTRATORS if root is None else _below(root, _OF_PACKAGES[0])
    limits = LIMITS if root is None else _below(root, LIMITS)
    files = str(inside(FILES, root))
    found = []
    for path in (*(units / name for name in UNITS), limits / unit_files.README):
        text = unit_files.written((FILES / path.name).read_text(), program=str(program), files=files)
        found.append(File(path, text, unit_files.compare(_read(path), text)))
    return found


def packaged() -> pathlib.Path | None:
    """Return the unit of a package that is installed on this host."""
    return next((path for path in (folder / unit_files.AGENT for folder in _OF_PACKAGES) if path.exists()), None)


def install(files: Iterable[File]) -> Iterator[str]:
    """Write what is missing or older than it should be; yields what was done, a line for each file. Raises OSError."""
    for file in files:
        match file.found:
            case Found.NOTHING | Found.OUTDATED:
                _write(file.path, file.text)
                yield f"{'wrote' if file.found is Found.NOTHING else 'renewed'} {file.path}"
            case Found.CURRENT:
                yield f"unchanged: {file.path}"
            case Found.EDITED:
                yield f"kept {file.path}, which you have changed"
            case Found.EDITED_BEFORE:
                _write(file.beside, file.text)
                yield f"kept {file.path}, which you have changed; what is new is in {file.beside}"
            case Found.FOREIGN:
                yield f"kept {file.path}, which is not ours"


def uninstall(files: Iterable[File]) -> Iterator[str]:
    """Remove what is as it was written; yields what was done, a line for each file that was there. Raises OSError."""
    for file in files:
        file.beside.unlink(missing_ok=True)
        if file.found in (Found.CURRENT, Found.OUTDATED):
            file.path.unlink()
            yield f"removed {file.path}"
        elif file.found in (Found.EDITED, Found.EDITED_BEFORE):
            yield f"kept {file.path}, which you have changed"
        elif file.found is Found.FOREIGN:
            yield f"kept {file.path}, which is not ours"
        folder = file.path.parent
        if not file.is_unit and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            yield f"removed {folder}"


def inside(path: pathlib.Path, root: pathlib.Path | None) -> pathlib.Path:
    """Return what a path is called once `root` is the root directory; the path itself where it is not below it."""
    if root is not None and path.is_relative_to(root.resolve()):
        return pathlib.Path("/") / path.relative_to(root.resolve())
    return path


def _below(root: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    return root.resolve() / path.relative_to("/")


def _read(path: pathlib.Path) -> str | None:
    """What a file holds; what is no file of its own, such as the link of a masked unit, is nothing that we wrote."""
    if path.is_symlink():
        return ""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None


def _write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text)
        beside.chmod(_MODE)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
