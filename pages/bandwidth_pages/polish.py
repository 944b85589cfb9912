"""What is mended in the HTML that the generator makes, for those who have it read to them. Pure."""

from __future__ import annotations

import re

_EMPTY_HEAD = re.compile(r"<thead>\s*<tr>\s*(?:<th[^>]*>\s*</th>\s*)+</tr>\s*</thead>\s*")
_EMPTY_CELL = re.compile(r"<th( [^>]*)?>\s*</th>")


def polished(page: str) -> str:
    """The page without heads of tables that say nothing, and with one name for each navigation."""
    page = _EMPTY_CELL.sub(r"<td\1></td>", _EMPTY_HEAD.sub("", page))
    return page.replace('<nav class="md-path" aria-label="Navigation"', '<nav class="md-path" aria-label="Breadcrumbs"')
