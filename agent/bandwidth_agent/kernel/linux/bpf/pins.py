"""Our names in a bpf file system: what has one stays in the kernel whether an agent runs or not.

    <directory>/client-bandwidth/<network namespace>/names, v4, v6, ports      maps
                                                    /program-<interface index>, link-<interface index>

Owns these paths. The number of a network namespace is that of its file in /proc; a later namespace may get it again,
so what is found here is believed only as far as the kernel says where it leads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import re
from collections.abc import Iterable

from bandwidth_agent.kernel.linux.bpf import system_call

_FOLDER = "client-bandwidth"
_ESCAPED = re.compile(r"\\([0-7]{3})")
_OF_INTERFACE = re.compile(r"(?:program|link)-(\d+)(?:-new)?")


class Pins:
    """The names of one network namespace: that of the thread that makes this object."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._namespace = namespace()
        self._folder = pathlib.Path(directory, _FOLDER, str(self._namespace))

    def assert_here(self) -> None:
        """Raise RuntimeError in a thread of another network namespace: the indexes of interfaces differ."""
        if namespace() != self._namespace:
            raise RuntimeError("programs are attached by a thread of another network namespace")

    def path(self, name: str) -> str:
        return str(self._folder / name)

    def there(self) -> frozenset[str]:
        """All names that there are; none to a process that may not see them, which can load no program either."""
        try:
            return frozenset(os.listdir(self._folder))
        except (FileNotFoundError, PermissionError):
            return frozenset()

    def interfaces(self) -> frozenset[int]:
        """The indexes of the interfaces that a program or link has a name for."""
        matches = map(_OF_INTERFACE.fullmatch, self.there())
        return frozenset(int(match[1]) for match in matches if match)

    def elsewhere(self, directories: Iterable[str]) -> tuple[str, ...]:
        """Return the folders of this namespace below other directories than ours, as far as they can be seen."""
        folders = dict.fromkeys(pathlib.Path(each, _FOLDER, str(self._namespace)) for each in directories)
        ours = _identity(self._folder) if self.directory else None
        found = {_identity(folder): str(folder) for folder in folders}
        return tuple(path for identity, path in found.items() if identity not in (None, ours))

    def keep(self, descriptor: int, name: str) -> None:
        """Give a map, a program or a link a name; what has had it loses it in the same moment."""
        if not self.directory:
            raise OSError(errno.ENOENT, "there is no directory for eBPF objects")
        self._make_folder()
        path, new = self.path(name), self.path(f"{name}-new")
        if not os.path.lexists(path):
            system_call.pin(descriptor, path)
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        system_call.pin(descriptor, new)
        os.rename(new, path)

    def _make_folder(self) -> None:
        """Make it, but in no other file system: a bpf file system may have been unmounted."""
        if not self._folder.exists() and not in_bpf_file_system(self.directory):
            raise OSError(errno.ENOENT, elsewhere(self.directory))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def open(self, name: str) -> int | None:
        """Open what has this name; None where nothing has."""
        try:
            return system_call.open_pinned(self.path(name))
        except FileNotFoundError:
            return None

    def forget(self, *given: str) -> None:
        """Take names away, in this order, and what a kill left of them; the folder goes with the last."""
        if not self.directory:
            return
        for name in given:
            for path in (self.path(f"{name}-new"), self.path(name)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        for folder in (self._folder, self._folder.parent):
            with contextlib.suppress(OSError):  # not empty, or never there
                folder.rmdir()


def namespace() -> int:
    """Return the number of the calling thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def elsewhere(directory: str) -> str:
    """What is said of a directory that is in another file system."""
    return f"{directory} is in no bpf file system: mount -t bpf bpf {directory}"


def in_bpf_file_system(directory: str) -> bool:
    with open("/proc/thread-self/mountinfo") as mounts:
        return kind(os.path.realpath(directory), mounts) == "bpf"


def kind(directory: str, mounts: Iterable[str]) -> str:
    """Return the kind of the file system that a directory is in, as the kernel lists mounts."""
    longest, kind = "", ""
    for line in mounts:
        place = _place(line)
        inside = directory == place or directory.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(longest):  # the last of one place hides those before
            longest, kind = place, _kind(line)
    return kind


def mounted() -> tuple[str, ...]:
    """Return where this process sees bpf file systems."""
    with open("/proc/thread-self/mountinfo") as mounts:
        return tuple(_place(line) for line in mounts if _kind(line) == "bpf")


def _identity(path: pathlib.Path) -> tuple[int, int] | None:
    """What a folder is under all its names; None where there is none to be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _place(mount: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), mount.partition(" - ")[0].split(" ")[4])


def _kind(mount: str) -> str:
    return mount.partition(" - ")[2].split(" ")[0]
