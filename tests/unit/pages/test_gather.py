"""Which files become pages of the site, and where their links lead."""

from __future__ import annotations

from pathlib import Path

import pytest

from bandwidth_pages import gather

ROOT = Path(__file__).parents[3]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with pages, a source, a schema and a folder without a page of its own."""
    for name, text in {
        "README.md": "# Top\n\n[docs](docs/README.md), [all examples](examples), [see `x`](docs/a.md#part)\n",
        "docs/README.md": "# Pages\n\n[a](a.md) ![picture](images/p.svg)\n",
        "docs/a.md": "# A\n\n## Part\n\n[source](../src/x.c), [schema](s.json#/part/x), [other](https://x.y/z)\n",
        "docs/images/p.svg": "<svg/>",
        "docs/s.json": "{}",
        "src/x.c": "int main(void) { return 0; }\n",
        "examples/one.yaml": "a: 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in set(gather.FIRST) - {"README.md"}:
        (tmp_path / name).write_text(f"# {name}\n")
    return tmp_path


def test_what_is_linked_to_is_a_page_or_a_copy(repository: Path) -> None:
    """Sources and examples become pages with their text, a folder a list; pictures and schemas stay as they are."""
    found = gather.gather(repository)
    assert found.copies == {"docs/images/p.svg", "docs/s.json"}
    assert set(found.texts) - set(gather.FIRST) == {
        *("docs/README.md", "docs/a.md", "src/x.c.md", "examples/README.md", "examples/one.yaml.md")
    }
    assert "````c\nint main(void) { return 0; }\n````" in found.texts["src/x.c.md"]


def test_links_lead_to_the_pages(repository: Path) -> None:
    """Links between pages stay as they are, with their anchors; those to other files lead to what shows them."""
    texts = gather.gather(repository).texts
    assert texts["README.md"].splitlines()[2] == (
        "[docs](docs/README.md), [all examples](examples/README.md), [see `x`](docs/a.md#part)"
    )
    assert "[source](../src/x.c.md), [schema](s.json#/part/x), [other](https://x.y/z)" in texts["docs/a.md"]
    assert "- [one.yaml](one.yaml.md)" in texts["examples/README.md"]


def test_a_link_to_nothing_is_named(repository: Path) -> None:
    """Nothing is built where a link leads to a file that is not there, or out of the repository."""
    for target in ("gone.md", "../../elsewhere.md"):
        (repository / "docs" / "a.md").write_text(f"[x]({target})")
        with pytest.raises(LookupError, match=f"docs/a.md links to {target}"):
            gather.gather(repository)


def test_code_has_no_links() -> None:
    """What looks like a link in a block of code or in backquotes is text."""
    text = (
        "[a](b.md)\n\n```\n[c](d.md)\n```\n\n    [e](f.md)\n\n    [g](h.md)\n\n`[i](j.md)`, ``[k](l.md)``, [`m`](n.md)"
    )
    assert list(gather.links(text)) == ["b.md", "n.md"]
    assert "".join(part for part, _ in gather.parts(text)) == text


def test_every_page_for_users_is_there() -> None:
    """All of docs/ is in the site, and all that its pages link to."""
    found = gather.gather(ROOT)
    wanted = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert wanted <= set(found.texts)
    assert all((ROOT / name).is_file() for name in found.copies)
