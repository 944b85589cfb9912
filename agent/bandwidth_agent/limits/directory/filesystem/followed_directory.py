"""The manifest directory itself: whether it is there and still the same, what it lists, and how it is followed.

Owns the watch and the symlinks that lead out of the directory; reads no file. A directory that is gone, or replaced by
the empty one that an unmounted disk leaves, is reported in `gone`; that lifts no limit.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping

from bandwidth_agent.limits.directory.filesystem import files, watch

POLL_SECONDS = 0.4  # no more often, however often it is asked
RELIST_SECONDS = 60.0  # a look at everything, should an event have been missed
MAX_LINK_DIRECTORIES = 32

Root = tuple[str, int, int]  # real path, device, inode


class FollowedDirectory:
    """A path, and the directory that was last found there."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.gone = ""  # why the directory cannot be listed now
        self.root: Root | None = None  # of the directory that is followed
        self.links: dict[str, set[str]] = {}  # file → the real directories that its symlink leads to and through
        self._watch = watch.Watch()
        self._device: int | None = None  # of the directory whose files were listed last

    def fileno(self) -> int | None:
        """The watch's descriptor, or None while the directory has to be polled."""
        return None if self.polled else self._watch.fileno()

    @property
    def polled(self) -> bool:
        """Whether events alone do not show what changes."""
        return bool(not self.watched or self.unwatched_reason or self.gone or len(self.links) > MAX_LINK_DIRECTORIES)

    @property
    def watched(self) -> bool:
        """Whether there is a watch at all."""
        return self._watch.fileno() is not None

    @property
    def unwatched_reason(self) -> str:
        """Why there are no events, or not of all that matters; "" where there are."""
        return self._watch.error

    def noticed(self) -> watch.Noticed:
        """What happened since the last call, without waiting."""
        return self._watch.noticed()

    def poll_seconds(self) -> float:
        """After what time the directory is to be listed again, whatever was noticed."""
        return POLL_SECONDS if self.polled else RELIST_SECONDS

    def identity(self) -> Root | None:
        """Return the identity (device, inode) of the directory that is at the path now."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        if self.root is not None and (found.st_dev, found.st_ino) == self.root[1:]:
            return self.root
        return os.path.realpath(self.path), found.st_dev, found.st_ino

    def follow(self, root: Root | None) -> None:
        """Follow this directory from now on, instead of any other."""
        self.root = root
        if root is not None:
            self._watch.start(root[0])
            self.follow_links()

    def follow_links(self) -> None:
        """Watch what the symlinks that are known now lead through, unless they are too many."""
        if len(self.links) <= MAX_LINK_DIRECTORIES:
            self._watch.follow(watch.links_on_the_way(self.path).union(*self.links.values()))

    def note_link(self, name: str, path: str, *, link: bool) -> None:
        """Remember where a file leads to, if it is a symlink."""
        self.links.pop(name, None)
        if link:
            self.links[name] = {os.path.dirname(os.path.realpath(path)), *watch.links_on_the_way(pathlib.Path(path))}

    def listing(self) -> dict[str, files.Listed] | None:
        """Return all manifest files with their signatures; None if the directory cannot be listed."""
        try:
            found = files.listing(self.path)
        except OSError as error:
            self.gone = f"{self.path}: {files.why(error)}; what was accepted from it stays until it is back"
            return None
        self.gone = ""
        return found

    def unmounted(self, found: Mapping[str, files.Listed], *, expected: bool) -> bool:
        """Return whether the directory is empty because its disk was unmounted. `expected`: there should be files."""
        device = self.root[1] if self.root is not None else None
        if expected and not found and device != self._device:
            stays = "what was accepted stays until that is mounted again, or a manifest is here"
            self.gone = f"{self.path} is empty and not on the file system that was here; {stays}"
            return True
        self._device = device
        return False

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()
