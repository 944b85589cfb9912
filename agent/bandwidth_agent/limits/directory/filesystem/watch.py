"""Watches a directory by inotify: which files may have changed, and which of them were closed by their writers.

Owns the inotify descriptor and the meaning of its events; reads no file.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from inotify_simple import INotify, flags

_NAMES = flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO
_SELF = flags.DELETE_SELF | flags.MOVE_SELF
_CONTENT = flags.CLOSE_WRITE | flags.ATTRIB
_WHOLE = flags.CLOSE_WRITE | flags.MOVED_TO
_LOST = flags.Q_OVERFLOW | flags.UNMOUNT | flags.IGNORED

# File systems on which other machines, or the other side of the virtual machine, write without an event here.
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "afs", "lustre", "glusterfs", "vboxsf", "drvfs")

_STEPS_MAX = 1000  # of a path; symlinks may lead in a circle


class Noticed(NamedTuple):
    """What happened since the last call. `relist`: more changed than single names can describe."""

    names: Mapping[str, bool | None]  # True: closed by its writer or moved here; False: made or gone; None: neither
    relist: bool


class Watch:
    """Watches one directory, and the directories that its symlinks lead through."""

    def __init__(self) -> None:
        self._inotify: INotify | None = None
        self._root: int | None = None
        self._root_path = ""
        self._around: dict[str, int] = {}  # directories in which a name on the way to ours may be replaced
        self.error = ""  # why there is no watch, if there is none

    def fileno(self) -> int | None:
        return self._inotify.fileno() if self._inotify is not None and self._root is not None else None

    def start(self, root: str) -> None:
        """Watch this directory (a real path) instead of any other. Never raises: a failure is in `error`."""
        self.close()
        try:
            if _remote(root):
                self.error = "its file system reports no changes"
                return
            self._inotify = INotify(nonblocking=True)
            self._root = self._inotify.add_watch(root, _NAMES | _CONTENT | _SELF | flags.ONLYDIR)
            self._root_path, self.error = root, ""
        except OSError as error:
            self.close()
            self.error = error.strerror or str(error)

    def follow(self, directories: Iterable[str]) -> None:
        """Watch exactly these directories too (real paths): any event in them causes a new listing."""
        wanted = set(directories) - {self._root_path}
        if self._inotify is None or wanted == set(self._around):
            return
        for gone in set(self._around) - wanted:
            descriptor = self._around.pop(gone)
            try:
                self._inotify.rm_watch(descriptor)
            except OSError:
                continue  # the directory is gone, and the watch with it
        for new in wanted - set(self._around):
            try:
                mask = _NAMES | flags.CLOSE_WRITE | flags.ONLYDIR
                self._around[new] = self._inotify.add_watch(new, mask)
            except OSError as error:
                self.error = error.strerror or str(error)

    def noticed(self) -> Noticed:
        """Return what happened since the last call, without waiting."""
        names: dict[str, bool | None] = {}
        relist = False
        if self._inotify is None:
            return Noticed(names, False)
        ended = set()
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.IGNORED and event.wd != self._root:
                ended.add(event.wd)
            if event.mask & (_LOST | _SELF):
                relist = True
            elif event.wd != self._root or event.name.startswith(".."):
                relist = True  # a symlink on the way, or the switch of a mounted ConfigMap
            elif event.mask & flags.ATTRIB:
                names.setdefault(event.name, None)
            else:
                names[event.name] = bool(event.mask & _WHOLE)
        for path, descriptor in list(self._around.items()):
            if descriptor in ended:
                del self._around[path]
        return Noticed(names, relist)

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
        self._inotify, self._root, self._root_path, self._around = None, None, "", {}


def links_on_the_way(path: pathlib.Path) -> set[str]:
    """Return the real directories that hold the symlinks by which `path` is reached, one behind another."""
    found: set[str] = set()
    at, rest = "/", os.path.abspath(path).split("/")[::-1]
    for _ in range(_STEPS_MAX):
        if not rest:
            break
        step = os.path.normpath(os.path.join(at, rest.pop()))  # `at` is real, so that `..` is its parent
        try:
            target = os.readlink(step)
        except OSError:
            at = step
            continue
        found.add(at)
        at, rest = "/" if target.startswith("/") else at, [*rest, *target.split("/")[::-1]]
    return found


def _remote(root: str) -> bool:
    """Return whether the directory is on a file system that sends no events for some changes."""
    kind, longest = "", -1
    try:
        table = pathlib.Path("/proc/self/mountinfo").read_text()
    except OSError:
        return False
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].encode().decode("unicode_escape")
        inside = root == point or root.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:
            kind, longest = after.split(" ")[0], len(point)
    return kind in _REMOTE or kind.startswith("fuse")
