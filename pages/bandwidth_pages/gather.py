"""Which files of the repository become pages of the site, and what stands in each. Writes nothing.

Pages keep their places, so that their links to each other hold as they are: README.md, docs/*.md and what they link to.
A link to a file that is no page, such as an example or a source, gets a page with its text; one to a folder, a list.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

FIRST = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
AS_THEY_ARE = (".json", ".svg", ".png")  # a browser shows them
LANGUAGES = {
    ".c": "c",
    ".lua": "lua",
    ".py": "python",
    ".service": "ini",
    ".sh": "bash",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
}

LISTINGS = {"docs/design": "Design notes", "examples": "Examples"}

# [text](target#anchor "title"), the text with one level of brackets, as a picture that is a link has.
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^)\s#]*)#?[^)]*\)")
_CODE = re.compile(r"(`+)(?:(?!\1).)+?\1(?!`)", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class Gathered:
    """The site's sources: texts by the path that each is written to, and files to copy as they are."""

    texts: Mapping[str, str]
    copies: frozenset[str]


def links(text: str) -> Iterator[str]:
    """The targets of the links of a page, without those in code and those to other hosts; anchors are left out."""
    for part, is_code in parts(text):
        yield from (found[0] for found in _targets(part) if not is_code)


def _targets(prose: str) -> Iterator[tuple[str, int, int]]:
    """Each target of a link to a place in the repository, and where in the text it stands."""
    # What stands in backquotes is no link, but may be the text of one.
    masked = _CODE.sub(lambda code: "x" * len(code[0]), prose)
    for found in _LINK.finditer(masked):
        target = found["target"]
        if target and "://" not in target and not target.startswith("mailto:"):
            yield target, found.start("target"), found.end("target")


def parts(text: str) -> Iterator[tuple[str, bool]]:
    """A page in pieces that together are its text: whether each is a block of code, fenced or indented."""
    fence, blank, prose = "", True, ""
    for line in text.splitlines(keepends=True):
        opened = re.match(r" {0,3}(```+|~~~+)", line)
        indented = bool(re.match(r" {4}|\t", line)) and blank
        if fence or opened or indented:
            yield prose, False
            prose = ""
            yield line, True
            if fence and line.strip() == fence:
                fence = ""
            elif opened and not fence:
                fence = opened[1]
            blank = not fence  # the line behind indented code may be indented code
        else:
            prose += line
            blank = not line.strip()
    yield prose, False


def gather(root: Path) -> Gathered:
    """All pages that a reader of the first ones can reach, and the files that they show.

    Raises LookupError where a link leads to nothing.
    """
    texts: dict[str, str] = {}
    copies: set[str] = set()
    wanted = [*FIRST, *sorted(str(path.relative_to(root)) for path in (root / "docs").rglob("*.md"))]
    while wanted:
        source = wanted.pop(0)
        made = page_of(root, source)
        if made in texts or made in copies:
            continue
        if made == source and Path(source).suffix in AS_THEY_ARE:
            copies.add(source)
            continue
        texts[made] = text = _text(root, source)
        wanted.extend(_target(root, source, target) for target in links(text))
        texts[made] = _with_pages_as_targets(root, source, text)
    return Gathered(texts, frozenset(copies))


def page_of(root: Path, source: str) -> str:
    """The path of the page that shows a file or a folder of the repository; a picture or a schema is its own."""
    if (root / source).is_dir():
        return posixpath.join(source, "README.md")
    return source if Path(source).suffix in (".md", *AS_THEY_ARE) else f"{source}.md"


def _text(root: Path, source: str) -> str:
    path = root / source
    if path.is_dir():
        readme = path / "README.md"
        return readme.read_text() if readme.is_file() else _listing(root, source)
    if path.suffix == ".md":
        return path.read_text()
    language = LANGUAGES.get(path.suffix, "text")
    return f"# {path.name}\n\n`{source}` of the repository.\n\n````{language}\n{path.read_text().rstrip()}\n````\n"


def _listing(root: Path, folder: str) -> str:
    rows = [f"# {LISTINGS.get(folder, folder)}", ""]
    for path in sorted((root / folder).rglob("*")):
        if path.is_file() and path.name != "README.md":
            name = path.relative_to(root / folder)
            title = _title(path.read_text()) if path.suffix == ".md" else ""
            rows.append(f"- [{title or name}]({name})")
    return "\n".join(rows) + "\n"


def _title(text: str) -> str:
    found = re.match(r"# (.+)", text)
    return found[1] if found else ""


def _target(root: Path, source: str, target: str) -> str:
    folder = source if (root / source).is_dir() else posixpath.dirname(source)
    found = posixpath.normpath(posixpath.join(folder, target))
    if found.startswith("..") or not (root / found).exists():
        raise LookupError(f"{source} links to {target}, which is not there")
    return found


def _with_pages_as_targets(root: Path, source: str, text: str) -> str:
    """The page with links to what is no page itself changed to the pages that show it."""

    folder = posixpath.dirname(page_of(root, source)) or "."
    made = ""
    for part, is_code in parts(text):
        at = 0
        for target, start, end in () if is_code else _targets(part):
            made += part[at:start] + posixpath.relpath(page_of(root, _target(root, source, target)), folder)
            at = end
        made += part[at:]
    return made
