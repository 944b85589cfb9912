"""What the site generator is told, as the text of its zensical.toml. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bandwidth_pages import navigation

_HEAD = """\
[project]
site_name = "client-bandwidth-operator"
site_description = "Slows one client down instead of blocking it, on one host or on every node of a Kubernetes cluster."
{url}docs_dir = "docs"
site_dir = "site"
use_directory_urls = true
extra_css = ["site.css"]
extra_javascript = ["site.js"]
nav = [
{nav}]

[project.theme]
language = "en"
# No fonts of another host: those of the reader's machine.
font = false
logo = "docs/images/icon.svg"
favicon = "docs/images/icon.svg"
features = [
  "content.code.copy",
  "content.tooltips",
  "navigation.footer",
  "navigation.path",
  "navigation.sections",
  "navigation.top",
  "search.highlight",
  "toc.follow",
]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Switch to dark mode"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "Switch to light mode"

[project.extra]
generator = false

{version}
[project.markdown_extensions]
attr_list = {{}}
md_in_html = {{}}
tables = {{}}
sane_lists = {{}}
toc.permalink = true
# As on GitHub, so that a link to a heading means the same here and there.
toc.slugify = {{ object = "pymdownx.slugs.slugify", kwds = {{ case = "lower" }} }}
pymdownx.highlight.pygments_lang_class = true
pymdownx.superfences = {{}}
"""


def text(nav: Iterable[navigation.Group], *, url: str, versioned: bool) -> str:
    """The configuration of a site with these groups of pages; `url` is where it is published, or "" for anywhere."""
    rows = "".join(f"  {each},\n" for each in [_group("Home", [navigation.HOME]), *(_group(*each) for each in nav)])
    version = '[project.extra.version]\nprovider = "mike"\n' if versioned else ""
    return _HEAD.format(url=f"site_url = {json.dumps(url)}\n" if url else "", nav=rows, version=version)


def _group(title: str, below: list[str | navigation.Group]) -> str:
    inner = ", ".join(json.dumps(each) if isinstance(each, str) else _group(*each) for each in below)
    return f"{{ {json.dumps(title)} = {inner if below == [navigation.HOME] else f'[{inner}]'} }}"
