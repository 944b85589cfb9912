"""What CHANGELOG.md says of a version: the text of its section. Pure."""

from __future__ import annotations

import re

from bandwidth_release.version import InvalidError, Version

UNRELEASED = "Unreleased"


def section(text: str, version: Version) -> str:
    """What changed with a version; of one to try, what is not released yet.

    A heading may have a date behind the version: `## 1.2.3 - 2026-11-29`. Raises InvalidError where there is no such
    section, or nothing in it.
    """
    wanted = UNRELEASED if version.is_candidate else version.text
    parts = re.split(r"(?m)^## +", text)[1:]
    for part in parts:
        heading, _, body = part.partition("\n")
        if heading.split()[0].strip("[]") == wanted:
            if not body.strip():
                raise InvalidError(f"the section {wanted} of CHANGELOG.md is empty")
            return body.strip() + "\n"
    if version.is_candidate:
        raise InvalidError(f"CHANGELOG.md has no section {UNRELEASED}, whose text a version to try has")
    raise InvalidError(
        f"CHANGELOG.md has no section {wanted}: write its heading, `## {wanted}`, above what is released and commit "
        f"it; or make one to try, VERSION={wanted}-rc.1, which has the text of {UNRELEASED}"
    )
