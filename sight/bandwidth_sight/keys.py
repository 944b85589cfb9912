"""What each key does to a view, and what it asks to be done. Pure.

Keys are letters, or the names UP DOWN LEFT RIGHT PAGE-UP PAGE-DOWN HOME END ENTER ESC TAB BACK-TAB BACKSPACE DELETE and
CTRL-A … CTRL-Z.
"""

from __future__ import annotations

import dataclasses

from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from bandwidth_sight import draft, effects, entry, help_page, rows, view
from bandwidth_sight.effects import Answer, Effect
from bandwidth_sight.view import FilterDialog, Form, Grouping, Page, PathDialog, Purpose, View

Result = tuple[View, Effect | None]
_PURPOSES = {"l": Purpose.SLOW, "o": Purpose.OBSERVE, "y": Purpose.YAML}
_UP, _DOWN = frozenset({"UP", "k", "CTRL-P"}), frozenset({"DOWN", "j", "CTRL-N"})


def press(looked: View, key: str) -> Result:
    """Return the view after one key, and what is to be done, if anything."""
    if key == "CTRL-Z":
        return looked, effects.Suspend()
    if key == "CTRL-C":
        return looked, effects.Quit()
    looked = dataclasses.replace(looked, message="", failed=False)
    match looked.dialog:
        case None:
            return _browse(looked, key)
        case FilterDialog() as dialog:
            return _filter(looked, dialog, key), None
        case Form() as form:
            return _form(looked, form, key)
        case Page() as page:
            return _page(looked, page, key)
        case PathDialog() as dialog:
            return _path(looked, dialog, key)


def _browse(looked: View, key: str) -> Result:
    moved = _moved(looked, key)
    if moved is not None:
        return moved, None
    match key:
        case "q" | "Q":
            return looked, effects.Quit()
        case "s" | "S":
            step = 1 if key == "s" else -1
            sort = view.SORTS[(view.SORTS.index(looked.sort) + step) % len(view.SORTS)]
            return view.arranged(dataclasses.replace(looked, sort=sort)), None
        case "p":
            return _grouped(looked), None
        case "f" | " ":
            return _frozen(looked), None
        case "/":
            return _opened(looked, FilterDialog(entry.of(looked.filter), looked.filter)), None
        case "?" | "h":
            return _opened(looked, Page("help", help_page.LINES)), None
        case "ESC":
            return view.arranged(dataclasses.replace(looked, filter="")), None
        case "l" | "o" | "y":
            return _begin(looked, _PURPOSES[key])
        case "n":
            return _resolve(looked)
    return looked, None


def _moved(looked: View, key: str) -> View | None:
    """Return the view with the cursor elsewhere; None for a key that does not move it."""
    if key in _UP:
        return view.moved(looked, looked.index - 1)
    if key in _DOWN:
        return view.moved(looked, looked.index + 1)
    match key:
        case "PAGE-UP" | "CTRL-B":
            return view.moved(looked, looked.index - looked.row_lines)
        case "PAGE-DOWN" | "CTRL-F":
            return view.moved(looked, looked.index + looked.row_lines)
        case "HOME" | "g":
            return view.moved(looked, 0)
        case "END" | "G":
            return view.moved(looked, 1 << 30)
    return None


def _grouped(looked: View) -> View:
    """Go on to the next way of grouping; the one by limits is left out where they name no network."""
    ways = [way for way in Grouping if way is not Grouping.LIMITS or looked.networks]
    place = ways.index(looked.grouping) if looked.grouping in ways else 0
    way = ways[(place + 1) % len(ways)]
    # A client is another row now, so the cursor stays with the network around it, or goes to the top.
    looked = dataclasses.replace(looked, grouping=way)
    row, before = looked.selected, looked.cursor
    looked = view.arranged(looked)
    if before is not None and row is not None and looked.shown is not None:
        for index, each in enumerate(looked.shown.rows):
            if addresses.covers(each.client, row.client) or addresses.covers(row.client, each.client):
                return view.moved(looked, index)
    return view.moved(looked, 0)


def _frozen(looked: View) -> View:
    if not looked.frozen:
        return dataclasses.replace(looked, frozen=True)
    return view.arranged(dataclasses.replace(looked, frozen=False, base=looked.newest))


def _opened(looked: View, dialog: view.Dialog | None) -> View:
    return dataclasses.replace(looked, dialog=dialog)


def said(looked: View, message: str, *, failed: bool = False) -> View:
    """Return the view with a message in its last line, until the next key."""
    return dataclasses.replace(looked, message=message, failed=failed)


def _begin(looked: View, purpose: Purpose) -> Result:
    row = looked.selected
    if row is None:
        return said(looked, "no client to limit: no row is there", failed=True), None
    looked = view.pinned(looked)
    refused = f"{addresses.write(row.client)} is {row.label}, no client" if row.label else draft.refusal(row.client)
    if refused:
        return said(looked, refused, failed=True), None
    return looked, effects.Begin(row.client, purpose)


def _resolve(looked: View) -> Result:
    row = looked.selected
    if row is None:
        return said(looked, "no row is there", failed=True), None
    if not rows.is_address(row.client):
        words = f"{addresses.write(row.client)} is a network; names are of single addresses"
        return said(looked, words, failed=True), None
    return view.pinned(looked), effects.Resolve(row.client)


# ── dialogs ────────────────────────────────────────────────────────────────────────────────────────────────────


def _filter(looked: View, dialog: FilterDialog, key: str) -> View:
    if key == "ENTER":
        return _opened(looked, None)
    if key == "ESC":
        return view.arranged(dataclasses.replace(looked, dialog=None, filter=dialog.before))
    typed = entry.press(dialog.typed, key)
    return view.arranged(
        dataclasses.replace(looked, dialog=dataclasses.replace(dialog, typed=typed), filter=typed.text.strip())
    )


def _form(looked: View, form: Form, key: str) -> Result:
    place = draft.FIELDS.index(form.active)
    if key == "ESC":
        return _opened(looked, None), None
    if key in ("TAB", "DOWN", "BACK-TAB", "UP"):
        step = 1 if key in ("TAB", "DOWN") else -1
        return _opened(looked, _at(form, (place + step) % len(draft.FIELDS))), None
    if key != "ENTER":
        fields = {**form.fields, form.active: entry.press(form.fields[form.active], key)}
        return _opened(looked, dataclasses.replace(form, fields=fields, error="")), None
    if place + 1 < len(draft.FIELDS) and not form.error:
        return _opened(looked, _at(form, place + 1)), None
    texts = {name: each.text for name, each in form.fields.items()}
    try:
        made = draft.read(form.client, **texts, observe=form.purpose is Purpose.OBSERVE)
    except draft.FieldError as error:
        active = error.field if error.field in draft.FIELDS else form.active
        return _opened(looked, dataclasses.replace(form, active=active, error=str(error))), None
    return looked, effects.Prepare(made, form)


def _at(form: Form, place: int) -> Form:
    return dataclasses.replace(form, active=draft.FIELDS[place])


def _page(looked: View, page: Page, key: str) -> Result:
    last = max(0, len(view.page_lines(page, looked.width)) - looked.row_lines)
    step = {
        "PAGE-UP": -looked.row_lines,
        "PAGE-DOWN": looked.row_lines,
        " ": looked.row_lines,
        "HOME": -last,
        "END": last,
    }
    by = -1 if key in _UP else 1 if key in _DOWN else step.get(key, 0)
    if by:
        return _opened(looked, dataclasses.replace(page, offset=max(0, min(page.offset + by, last)))), None
    if key in ("ESC", "q", "n") or (page.preview is None and key in ("?", "h", "ENTER")):
        return _opened(looked, page.form if key == "ESC" else None), None
    if page.preview is None:
        return looked, None
    if key == "w":
        return _opened(looked, PathDialog(entry.of(""), page)), None
    if key == "y" and page.purpose is Purpose.YAML:
        return looked, effects.Write(page.preview, "")
    if key == "y" and page.preview.question:
        return looked, effects.Apply(page.preview)
    return looked, None


def _path(looked: View, dialog: PathDialog, key: str) -> Result:
    if key == "ESC":
        return _opened(looked, dialog.page), None
    if key == "ENTER":
        preview = dialog.page.preview
        if not dialog.typed.text.strip() or preview is None:
            return said(looked, "write the path of a file that does not exist yet", failed=True), None
        return looked, effects.Write(preview, dialog.typed.text.strip())
    return _opened(looked, dataclasses.replace(dialog, typed=entry.press(dialog.typed, key))), None


# ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────


def answered(looked: View, effect: effects.Asked, answer: Answer) -> View:
    """Return the view after something was done, or was not."""
    looked = said(looked, answer.text, failed=answer.failed)
    if answer.failed:
        return looked
    match effect:
        case effects.Begin(client=client, purpose=purpose):
            return said(_opened(looked, _new_form(looked, client, purpose)), "")
        case effects.Prepare(form=form):
            return _opened(looked, _preview_page(answer, form))
        case effects.Apply() | effects.Write():
            return _opened(looked, None)
        case effects.Resolve(client=client):
            names = {**looked.names, client: answer.text}
            looked = said(looked, f"{addresses.write(client)} is {answer.text}")
            return view.arranged(dataclasses.replace(looked, names=names))


def _new_form(looked: View, client: Prefix, purpose: Purpose) -> Form:
    row = looked.selected
    now = row.rates[rows.SHARE_WINDOW].bits_per_second if row is not None and row.client == client else 0.0
    begun = {"rate": draft.suggested_rate(now), "ttl": draft.TTL_DEFAULT, "reason": ""}
    return Form(client, purpose, now, {name: entry.of(begun[name]) for name in draft.FIELDS}, draft.FIELDS[0])


def _preview_page(answer: Answer, form: Form) -> Page:
    preview = answer.preview
    if preview is None:
        raise ValueError("a preview was asked for and none was answered")
    # Above the manifest, where no small screen hides them.
    lines = [*preview.overlaps, ""] if preview.overlaps else []
    lines += preview.yaml.rstrip("\n").split("\n")
    if preview.changes:
        lines += ["", "What would change:", *(f"  {change}" for change in preview.changes)]
    if preview.instead:
        lines += ["", *preview.instead]
    return Page(f"limit {preview.draft.name}", tuple(lines), preview=preview, purpose=form.purpose, form=form)
