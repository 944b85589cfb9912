"""Several versions of the site side by side, each in a folder: the list that its pages show, and the way to the newest.

Pure, but for `add`, which writes versions.json and index.html beside the folders.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

LIST = "versions.json"
FORM = re.compile(r"\d+(\.\d+)*(-[0-9A-Za-z.]+)?")

_REDIRECT = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>client-bandwidth-operator</title>
<meta http-equiv="refresh" content="0; url={version}/">
<p><a href="{version}/">Version {version}</a></p>
</html>
"""


def order(version: str) -> tuple[list[int], bool, str]:
    """What versions are sorted by: their numbers, and a release behind its candidates."""
    numbers, _, candidate = version.partition("-")
    return [int(each) for each in numbers.split(".")], not candidate, candidate


def listing(versions: set[str]) -> str:
    """The list of versions, newest first, as the pages read it."""
    newest_first = sorted(versions, key=order, reverse=True)
    return json.dumps([{"version": each, "title": each, "aliases": []} for each in newest_first], indent=2) + "\n"


def add(site: Path, version: str) -> None:
    """Put a version whose folder is there into the list, and lead to the newest release of all."""
    path = site / LIST
    known = {each["version"] for each in json.loads(path.read_text())} if path.exists() else set()
    there = {each for each in known | {version} if (site / each).is_dir()}
    path.write_text(listing(there))
    releases = [each for each in there if "-" not in each] or list(there)
    (site / "index.html").write_text(_REDIRECT.format(version=max(releases, key=order)))
