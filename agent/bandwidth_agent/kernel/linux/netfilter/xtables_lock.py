"""The lock file that all programs of iptables-legacy share.

A user who may read it may lock it, and then no program can write rules. iptables makes it readable for root only, but
kubelet, which makes it for a pod that mounts it, for all users. Owns its permissions and the messages about it. Must
never create, remove or replace it, and never hold the lock longer than to test it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import stat

PATH = "/run/xtables.lock"
_OTHERS = 0o077
_LOCKS = "/proc/locks"


def keep_private() -> bool:
    """Make the file readable for root only, if root owns it; return whether that was needed. Ignores errors."""
    try:
        opened = os.open(PATH, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = os.fstat(opened)
        if os.geteuid() or found.st_uid or not stat.S_ISREG(found.st_mode) or not found.st_mode & _OTHERS:
            return False
        os.fchmod(opened, 0o600)
        return True
    except OSError:
        return False
    finally:
        os.close(opened)


def trouble() -> str:
    """Return why programs cannot take the lock, and what to do about it; "" if they can."""
    try:
        opened = os.open(PATH, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if os.path.islink(PATH):
            return f"{PATH} is a link to nothing: remove it"
        return f"{PATH} is not there, and cannot be made on a read-only file system: make it on the host (touch {PATH})"
    except OSError as error:
        return f"{PATH} cannot be opened: {error.strerror}"
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return f"{PATH} is no file: remove it (rm -r {PATH}), and iptables makes it anew"
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            return f"{PATH} cannot be locked: {error.strerror}"
        return f"{PATH} is held by {_holder(os.fstat(opened))}"
    finally:
        os.close(opened)
    return ""


def _holder(found: os.stat_result) -> str:
    """Return the process that has locked the file, if it is visible: not from inside a container."""
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with contextlib.suppress(OSError):
        for line in pathlib.Path(_LOCKS).read_text().splitlines():
            words = line.split()
            if "FLOCK" in words and place in words:
                pid = words[words.index(place) - 1]
                name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
                return f"process {pid} ({name}): end it, if it should not"
    return f"another process: fuser {PATH} on the host says which"
