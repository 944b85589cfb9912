"""Draws a view into lines of a width and a height. Pure: knows no terminal, only styles by name."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_sight import amounts, cells, columns, draft, entry, output, view
from bandwidth_sight.rows import Row, Snapshot
from bandwidth_sight.view import FilterDialog, Form, Grouping, Page, PathDialog, Purpose, View

# The styles of a line: what each looks like is decided where there is a terminal.
PLAIN, TITLE, HEAD, SELECTED, LIMITED, DIM, ERROR = "plain", "title", "head", "selected", "limited", "dim", "error"

KEYS = ("s sort", "p prefix", "/ filter", "f freeze", "l slow", "o observe", "y YAML", "n name", "? help", "q quit")
_FORM_KEYS = ("Enter next", "Tab other field", "Esc cancel")
_LABELS = {"rate": "rate", "ttl": "for", "reason": "reason"}
_LABEL_CELLS = max(map(len, _LABELS.values()))
_SHORT = frozenset({"rate", "ttl"})  # fields with a hint beside them
_SHORT_CELLS = 12
_HINTS = {
    "rate": "such as 5Mbit; a third of what it has now",
    "ttl": "such as 30m or 1d; then it lifts itself",
    "reason": "for those who find the limit later; required",
}
_TITLES = {
    Purpose.SLOW: "Slow down {}",
    Purpose.OBSERVE: "Observe {}: count what a limit would slow down",
    Purpose.YAML: "A limit for {}, as a file",
}


class Line(NamedTuple):
    text: str
    style: str = PLAIN


@dataclasses.dataclass(frozen=True, slots=True)
class Drawn:
    """Exactly as many lines as there is height, none wider than the width."""

    lines: tuple[Line, ...]
    cursor: tuple[int, int] | None = None  # line and cell, where text is typed


def row_lines(looked: View, height: int) -> int:
    """Return how many rows there is room for, between the lines above and below them."""
    notes = 1 if looked.shown is not None and looked.shown.notes and height >= _NOTES_FROM else 0
    return max(1, height - 4 - notes) if height >= _HEAD_FROM else max(1, height - 2)


_HEAD_FROM = 5  # lines of height, from which on there are a head and a line for what is folded
_NOTES_FROM = 8


def draw(looked: View, width: int, height: int) -> Drawn:
    """Return the whole screen. `looked` was settled for `row_lines` of this height."""
    top = Line(_top(looked, width), TITLE)
    bottom, cursor = _bottom(looked, width)
    bottom = bottom[: max(1, height - 1)]
    match looked.dialog:
        case Form() as form:
            body, place = _form(form, width)
            cursor = None if place is None else (place[0] + 1, place[1])
        case Page() as page:
            body = _page(page, looked, height)
        case PathDialog(page=page):
            body = _page(page, looked, height)
        case _:
            body = _table(looked, width, height)
    return _framed(top, body, bottom, cursor, width, height)


def _framed(
    top: Line, body: list[Line], bottom: list[Line], cursor: tuple[int, int] | None, width: int, height: int
) -> Drawn:
    room = max(0, height - 1 - len(bottom))
    body = body[:room]
    lines = [top, *body, *[Line("")] * (room - len(body)), *bottom][-height:] if height > 1 else bottom[:height]
    if cursor is not None and cursor[0] < 0:
        cursor = (height - 1, cursor[1])
    if cursor is not None and not (cursor[0] < height - len(bottom) + 1 and cursor[1] < width):
        cursor = None
    return Drawn(tuple(Line(cells.clip(cells.clean(line.text), width), line.style) for line in lines), cursor)


# ── the lines above and below ──────────────────────────────────────────────────────────────────────────────────


def _top(looked: View, width: int) -> str:
    if looked.base is None:
        return "the first samples are being taken …"
    words = output.headline(_header(looked, looked.base))
    state = ["frozen"] if looked.frozen else []
    state += [f"filter {looked.filter!r}"] if looked.filter and not isinstance(looked.dialog, FilterDialog) else []
    state += [looked.grouping.value] if looked.grouping is not Grouping.CLIENTS else []
    state = state or ["every 2 s"]
    behind = ", ".join(state)
    room = width - cells.width(words) - cells.width(behind)
    return words + " " * room + behind if room >= 2 else words


def _header(looked: View, base: Snapshot) -> Snapshot:
    """Return the snapshot that the first line tells of: with all rows, so that a filter does not change the sum."""
    shown = looked.shown
    if shown is None or not shown.grouped:
        return base
    filtered = bool(looked.filter)
    return base if filtered else shown


def _bottom(looked: View, width: int) -> tuple[list[Line], tuple[int, int] | None]:
    """Return the last lines, several for a long message, and where the cursor stands in the last one."""
    if looked.message:
        style = ERROR if looked.failed else TITLE
        return [Line(part, style) for part in cells.wrapped(looked.message, width)], None
    match looked.dialog:
        case None:
            return [Line(_some_of(KEYS, width), DIM)], None
        case FilterDialog(typed=typed):
            return _typed("filter: ", typed, width)
        case PathDialog(typed=typed):
            return _typed("write to file: ", typed, width)
        case Form():
            return [Line(_some_of(_FORM_KEYS, width), DIM)], None
        case Page() as page:
            return _question(page, width), None


def _question(page: Page, width: int) -> list[Line]:
    """Return what is asked, whole however long it is, and below it the keys that answer."""
    preview = page.preview
    if preview is None:
        return [Line(_some_of(("↑ ↓ scroll", "Esc back"), width), DIM)]
    keys = ("w write to a file", "Esc back")
    if page.purpose is Purpose.YAML:
        return [Line(_some_of(("y write it to the usual place", *keys), width), TITLE)]
    if not preview.question:
        return [Line(_some_of(keys, width), TITLE)]
    question = [Line(part, TITLE) for part in cells.wrapped(preview.question, width)]
    return [*question, Line(_some_of(("y yes", "n no", *keys), width), TITLE)]


def _some_of(words: tuple[str, ...], width: int) -> str:
    """Return as many of the words as there is room for; the last, which leads out, first of all."""
    last, kept = words[-1], list[str]()
    for word in words[:-1]:
        if cells.width("  ".join([*kept, word, last])) > width:
            break
        kept.append(word)
    return "  ".join([*kept, last])


def _typed(label: str, typed: entry.Entry, width: int) -> tuple[list[Line], tuple[int, int]]:
    """Return a line that is being typed, with the part of it around the cursor."""
    text, place = _window(typed, width - len(label) - 1)
    return [Line(label + text)], (-1, len(label) + place)


def _window(typed: entry.Entry, room: int) -> tuple[str, int]:
    """Return the part of a text that fits with the cursor in it, and the cell of the cursor in that part."""
    room = max(1, room)
    begin = 0
    while cells.width(typed.text[begin : typed.place]) > room - 1:
        begin += 1
    end = begin
    while end < len(typed.text) and cells.width(typed.text[begin : end + 1]) <= room:
        end += 1
    return typed.text[begin:end], cells.width(typed.text[begin : typed.place])


# ── what is between them ───────────────────────────────────────────────────────────────────────────────────────


def _table(looked: View, width: int, height: int) -> list[Line]:
    shown = looked.shown
    if shown is None or looked.base is None:
        return []
    # Columns fit all rows down to the last one that is visible: going down changes them at most a few times.
    above = shown.rows[: looked.offset + row_lines(looked, height)]
    visible = above[looked.offset :]
    totals = looked.base.totals
    texts = [columns.texts(row, totals, looked.names) for row in above]
    fitted = columns.fit(texts, columns.head(nodes=bool(shown.nodes)), width, looked.sort)
    lines = [Line(cells.left(columns.line(fitted, None), width), HEAD)] if height >= _HEAD_FROM else []
    for place, (row, text) in enumerate(zip(visible, texts[looked.offset :], strict=True), looked.offset):
        written = columns.line(fitted, text)
        if place == looked.index:
            lines.append(Line(cells.left(written, width), SELECTED))
        else:
            lines.append(Line(written, _style(row)))
    if height >= _HEAD_FROM:
        lines += _behind(looked, shown, height)
    return lines


def _behind(looked: View, shown: Snapshot, height: int) -> list[Line]:
    below = len(shown.rows) - looked.offset - row_lines(looked, height)
    words = output.more(shown)
    if looked.filter and looked.base is not None:
        words = f"{len(shown.rows)} rows have {looked.filter!r}" if shown.rows else f"no row has {looked.filter!r}"
    elif not shown.rows and not words:
        words = "nothing leaves"
    if below > 0:
        words = f"{below} rows below  {words}"
    lines = [Line(words, DIM)] if words else []
    if shown.notes and height >= _NOTES_FROM:
        lines.append(Line(f"note: {'; '.join(shown.notes)}", DIM))
    return lines


def _style(row: Row) -> str:
    if row.label:
        return DIM
    return LIMITED if any(hold.at_limit for hold in row.holds or ()) else PLAIN


def _form(form: Form, width: int) -> tuple[list[Line], tuple[int, int] | None]:
    """Return the lines of the form, and where the text cursor is in them."""
    title = _TITLES[form.purpose].format(addresses.write(form.client))
    now = amounts.rate_in_words(form.now_bits_per_second)
    lines = [*(Line(part, TITLE) for part in cells.wrapped(f"{title}; it has {now} now", width)), Line("")]
    cursor = None
    for name in draft.FIELDS:
        label = f"{'>' if name == form.active else ' '} {_LABELS[name]:<{_LABEL_CELLS}}  "
        hint = f"  {_HINTS[name]}" if name in _SHORT or not form.fields[name].text else ""
        room = max(1, width - cells.width(label) - 1)
        text, place = _window(form.fields[name], min(_SHORT_CELLS, room) if name in _SHORT else room)
        if name == form.active:
            cursor = (len(lines), cells.width(label) + place)
        style = TITLE if name == form.active else PLAIN
        lines.append(Line(label + cells.left(text, _SHORT_CELLS) + hint if hint else label + text, style))
    words = form.error or "Enter in the last field shows what would change; nothing is made before that."
    lines += [Line(""), *(Line(part, ERROR if form.error else DIM) for part in cells.wrapped(words, width))]
    return lines, cursor


def _page(page: Page, looked: View, height: int) -> list[Line]:
    lines_of = view.page_lines(page, looked.width)
    shown = lines_of[page.offset : page.offset + max(1, height - 3)]
    lines = [Line(page.title, HEAD)] if height >= _HEAD_FROM else []
    return [*lines, *map(Line, shown)]
