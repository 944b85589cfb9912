"""The order of the pages, and what the generator is told of it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from bandwidth_pages import gather, navigation, settings

ROOT = Path(__file__).parents[3]


def listed(groups: list[navigation.Group]) -> Iterator[str]:
    for _, below in groups:
        for each in below:
            if isinstance(each, str):
                yield each
            else:
                yield from listed([each])


def test_every_page_has_one_place() -> None:
    """All pages of docs/ and those beside the README are in the navigation, each once; sources are in none."""
    texts = gather.gather(ROOT).texts
    found = list(listed(navigation.navigation(texts)))
    assert len(found) == len(set(found))
    assert set(found) == {name for name in texts if name.startswith("docs/") or "/" not in name} - {"README.md"}


def test_no_group_names_a_page_that_is_gone() -> None:
    """What the groups name is there."""
    named = [page for _, pages in navigation.GROUPS for page in pages]
    assert [page for page in named if not (ROOT / page).is_file()] == []


def test_a_page_that_no_group_names_has_a_place_all_the_same() -> None:
    """A new page is found below the others of its folder, a new design note among the notes."""
    pages = [
        "README.md",
        "docs/install.md",
        "docs/new.md",
        "docs/reference/new.md",
        "docs/design/0001-x.md",
        "src/a.c.md",
    ]
    assert navigation.navigation(pages) == [
        ("Start", ["docs/install.md"]),
        ("Use", ["docs/new.md"]),
        ("Reference", ["docs/reference/new.md"]),
        ("Design", [("Design notes", ["docs/design/0001-x.md"])]),
    ]


def test_the_configuration_says_so() -> None:
    """The generator's file holds the groups in order, no font of another host, and versions where there are some."""
    nav: list[navigation.Group] = [("Design", ["a.md", ("Notes", ["b.md"])])]
    read = tomllib.loads(settings.text(nav, url="https://example.org/", versioned=True))["project"]
    assert read["nav"] == [{"Home": "README.md"}, {"Design": ["a.md", {"Notes": ["b.md"]}]}]
    assert read["site_url"] == "https://example.org/"
    assert read["theme"]["font"] is False
    assert read["extra"]["version"] == {"provider": "mike"}
    plain = tomllib.loads(settings.text(nav, url="", versioned=False))["project"]
    assert "site_url" not in plain
    assert "version" not in plain["extra"]
