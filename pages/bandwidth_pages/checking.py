"""Whether every link of the finished site leads somewhere in it, and nothing is loaded from another host.

Reads the HTML that was built, as a browser would: what a page says about anchors, pictures, scripts and styles.
"""

from __future__ import annotations

import dataclasses
import html.parser
import posixpath
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path

# What a browser loads by itself when it shows a page; a link that a reader may follow is none of these.
_LOADED = {("img", "src"), ("script", "src"), ("source", "src"), ("iframe", "src"), ("video", "src"), ("audio", "src")}
_LOADED_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "manifest", "preconnect", "dns-prefetch", "prefetch"}


@dataclasses.dataclass(slots=True)
class Page:
    """What one page has: anchors, links to follow, and addresses that are loaded with it."""

    anchors: set[str] = dataclasses.field(default_factory=set)
    links: list[str] = dataclasses.field(default_factory=list)
    loaded: list[str] = dataclasses.field(default_factory=list)


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        for name in ("id", "name") if tag == "a" else ("id",):
            if given.get(name):
                self.page.anchors.add(given[name])
        if tag == "a" and "href" in given:
            self.page.links.append(given["href"])
        if tag == "link" and _LOADED_LINKS & set(given.get("rel", "").split()):
            self.page.loaded.append(given.get("href", ""))
        self.page.loaded.extend(given[name] for known, name in _LOADED if known == tag and name in given)


def read(text: str) -> Page:
    """What a page of HTML has. Pure."""
    reader = _Reader()
    reader.feed(text)
    return reader.page


def problems(site: Path) -> Iterator[str]:
    """One line for each link that leads nowhere, and for each address of another host that a page loads."""
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    pages = {name: read((site / name).read_text()) for name in sorted(files) if name.endswith(".html")}
    for name, page in pages.items():
        for target in page.loaded:
            if _other_host(target):
                yield f"{name}: loads {target} from another host"
            elif found := _missing(name, target, files, pages):
                yield f"{name}: {found}"
        for target in page.links:
            if not _other_host(target) and (found := _missing(name, target, files, pages)):
                yield f"{name}: {found}"
    for name in sorted(files):
        if name.endswith(".css"):
            for target in re.findall(r"url\(\s*['\"]?((?:https?:)?//[^)'\"]+)", (site / name).read_text()):
                yield f"{name}: loads {target} from another host"


def _other_host(target: str) -> bool:
    parsed = urllib.parse.urlsplit(target)
    return bool(parsed.netloc) or parsed.scheme in ("http", "https", "mailto")


def _missing(name: str, target: str, files: Iterable[str], pages: dict[str, Page]) -> str:
    """Why a link from a page leads nowhere, or ""."""
    parsed = urllib.parse.urlsplit(target)
    if parsed.scheme in ("data", "javascript"):
        return ""
    path = urllib.parse.unquote(parsed.path)
    found = name
    if name == "404.html":
        return ""  # its addresses begin at the root of the host, since it is shown for any address
    if path:
        found = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        if path.endswith(("/", ".")) or found == ".":
            found = posixpath.normpath(posixpath.join(found, "index.html"))
    if found not in files:
        return f"{target} leads to {found}, which is not there"
    anchor = urllib.parse.unquote(parsed.fragment)
    if anchor and found in pages and anchor not in pages[found].anchors:
        return f"{target}: {found} has no heading #{anchor}"
    return ""
