"""What is found wrong with the links of a finished site."""

from __future__ import annotations

from pathlib import Path

import pytest

from bandwidth_pages import checking


def site(folder: Path, **pages: str) -> Path:
    """A site with these pages, `a` at a/index.html, and one at its root."""
    for name, text in {"": '<p id="top">', **pages}.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "index.html").write_text(text)
    (folder / "x.css").write_text("p {color: red}")
    return folder


def test_good_links_are_no_problem(tmp_path: Path) -> None:
    """Relative links to pages, anchors and files, and links that a reader may follow to other hosts."""
    text = (
        '<h2 id="here"></h2><a href="#here"></a><a href=".."></a><a href="../#top"></a><a href="../b/#%C3%BC"></a>'
        '<link rel="stylesheet" href="../x.css"><a href="https://example.org/"></a><a href="mailto:a@b"></a>'
        '<img src="data:image/svg+xml;base64,AA==">'
    )
    assert list(checking.problems(site(tmp_path, a=text, b='<h2 id="ü"></h2>'))) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<a href="../gone/"></a>', "../gone/ leads to gone/index.html, which is not there"),
        ('<a href="../#nothing"></a>', "index.html has no heading #nothing"),
        ('<a href="#nothing"></a>', "a/index.html has no heading #nothing"),
        ('<img src="gone.svg">', "gone.svg leads to a/gone.svg"),
        ('<link rel="stylesheet" href="../y.css">', "y.css, which is not there"),
        ('<img src="https://example.org/x.png">', "loads https://example.org/x.png from another host"),
        ('<script src="//example.org/x.js"></script>', "loads //example.org/x.js from another host"),
        ('<link rel="preconnect" href="https://fonts.example.org">', "from another host"),
    ],
)
def test_each_bad_link_is_named(text: str, said: str, tmp_path: Path) -> None:
    """One line, with the page, for what leads nowhere and for what a browser would load from elsewhere."""
    (found,) = checking.problems(site(tmp_path, a=text))
    assert found.startswith("a/index.html: ")
    assert said in found


def test_styles_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    """Fonts and pictures of a style sheet count, too."""
    folder = site(tmp_path)
    (folder / "x.css").write_text(
        "@font-face {src: url('https://fonts.example.org/a.woff2')} p {background: url(b.png)}"
    )
    assert list(checking.problems(folder)) == ["x.css: loads https://fonts.example.org/a.woff2 from another host"]
