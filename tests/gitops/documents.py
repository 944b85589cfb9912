"""All limits that users are shown: those of docs, README, examples and deploy; and what differs when one is stored."""

from __future__ import annotations

import pathlib
import re
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from bandwidth_api import names

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^( *)```yaml\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


class Shown(NamedTuple):
    where: str  # file and line
    document: Any


def blocks(page: pathlib.Path) -> Iterator[Shown]:
    """The documents of the YAML blocks of a page."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        for document in yaml.safe_load_all(textwrap.dedent(found[2])):
            yield Shown(f"{page.relative_to(ROOT)}:{line}", document)


def limits() -> list[Shown]:
    """Every limit that stands whole in a page or a file."""
    shown = [each for page in PAGES for each in blocks(page)]
    for path in sorted([*(ROOT / "examples").glob("*.yaml"), *(ROOT / "deploy" / "gitops" / "flux").glob("*.yaml")]):
        shown += [Shown(str(path.relative_to(ROOT)), document) for document in yaml.safe_load_all(path.read_text())]
    return [each for each in shown if isinstance(each.document, dict) and each.document.get("kind") == names.LIMIT_KIND]


def differences(written: Any, stored: Any, path: str = "") -> Iterator[str]:
    """Where what is stored is not what was written, lists compared as wholes; what was not written does not count."""
    if isinstance(written, dict) and isinstance(stored, dict):
        for key, value in written.items():
            yield from differences(value, stored.get(key), f"{path}.{key}")
    elif written != stored:
        yield path
