"""What is mended in the generator's HTML."""

from __future__ import annotations

from bandwidth_pages import polish

ROW = "<tbody>\n<tr>\n<td>a</td>\n<td>b</td>\n</tr>\n</tbody>"


def test_a_head_that_says_nothing_goes() -> None:
    """Markdown asks for a head of each table; one without a word is none."""
    empty = "<thead>\n<tr>\n<th></th>\n<th></th>\n</tr>\n</thead>\n"
    assert polish.polished(f"<table>\n{empty}{ROW}</table>") == f"<table>\n{ROW}</table>"


def test_a_head_that_says_something_stays() -> None:
    """Only its empty cells are no headings."""
    head = '<thead>\n<tr>\n<th></th>\n<th align="right">version</th>\n<th style="x"></th>\n</tr>\n</thead>\n'
    assert polish.polished(head) == head.replace("<th></th>", "<td></td>").replace(
        '<th style="x"></th>', '<td style="x"></td>'
    )
