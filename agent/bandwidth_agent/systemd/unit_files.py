"""What stands in the files of an installation, and what a file that is there already is to us.

Pure. Owns the line that each file of ours begins with: the digest of all lines behind it. By that alone, without any
memory, a change by hand is known, as dpkg knows that of a conffile; what has no such line is another's.
"""

from __future__ import annotations

import enum
import hashlib
import string

AGENT = "bandwidth-agent.service"
SETS = "client-bandwidth-sets.service"
README = "README"
_MARK = "# Written by `bandwidth-agent install-unit`, which replaces it while it is as it was: "
_DIGITS = 32
_PLAIN = frozenset(string.ascii_letters + string.digits + "/._+-")


class Found(enum.Enum):
    """What stands in the place of a file of ours."""

    NOTHING = "nothing"
    CURRENT = "what would be written"
    OUTDATED = "ours, of another version or for another program, as it was written"
    EDITED = "ours, changed by hand; what we would write has not changed since"
    EDITED_BEFORE = "ours, changed by hand, and what we would write is another than then"
    FOREIGN = "another's"


def written(template: str, *, program: str, files: str) -> str:
    """Return a whole file; `program`: what a unit calls, `files`: the folder of what stands beside the program."""
    body = template.replace("@PROGRAM@", program).replace("@FILES@", files)
    return f"{_MARK}{_digest(body)}\n{body}"


def compare(there: str | None, wanted: str) -> Found:
    """Return what a file is; `wanted`: what would be written, `there`: what is, None for no file."""
    if there is None:
        return Found.NOTHING
    if there == wanted:
        return Found.CURRENT
    first, _, body = there.partition("\n")
    if not first.startswith(_MARK):
        return Found.FOREIGN
    digest = first.removeprefix(_MARK)
    if digest == _digest(body):
        return Found.OUTDATED
    return Found.EDITED if wanted.startswith(f"{_MARK}{digest}\n") else Found.EDITED_BEFORE


def sayable(path: str) -> bool:
    """Return whether a unit can call a program at this path as it is: systemd reads some letters otherwise."""
    return not set(path) - _PLAIN


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:_DIGITS]
