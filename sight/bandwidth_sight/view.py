"""What a person sees of the snapshots, and what he is doing: the order, the filter, the cursor, a dialog. Pure.

A value: each key and each snapshot make a new one (`keys`), and `drawing` makes lines of it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from bandwidth_api.plan import Prefix
from bandwidth_sight import cells, columns, entry, merging, rows
from bandwidth_sight.rows import Row, Snapshot
from bandwidth_sight.source import Preview

SORTS = ("10s", "60s", columns.SINCE, "2s")  # in the order in which the key goes through them


class Grouping(enum.Enum):
    CLIENTS = "clients"
    NETWORKS = "/24 and /64"
    LIMITS = "networks of limits"


class Purpose(enum.Enum):
    SLOW = "slow"
    OBSERVE = "observe"
    YAML = "YAML"


@dataclasses.dataclass(frozen=True, slots=True)
class FilterDialog:
    """The filter is being typed; it counts at once."""

    typed: entry.Entry
    before: str  # what Esc brings back


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """The fields of a limit are being typed."""

    client: Prefix
    purpose: Purpose
    now_bits_per_second: float
    fields: Mapping[str, entry.Entry]  # by name, in the order of `draft.FIELDS`
    active: str
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Text to read, with the preview of a limit if it is about one."""

    title: str
    lines: tuple[str, ...]
    offset: int = 0
    preview: Preview | None = None
    purpose: Purpose | None = None
    form: Form | None = None  # to go back to


@dataclasses.dataclass(frozen=True, slots=True)
class PathDialog:
    """The path of a file is being typed."""

    typed: entry.Entry
    page: Page


Dialog = FilterDialog | Form | Page | PathDialog


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    newest: Snapshot | None = None
    base: Snapshot | None = None  # what is shown: the newest, or the one that was frozen
    shown: Snapshot | None = None  # the base with its rows grouped, folded, filtered and in order
    frozen: bool = False
    grouping: Grouping = Grouping.CLIENTS
    sort: str = SORTS[0]
    filter: str = ""
    networks: tuple[Prefix, ...] = ()
    names: Mapping[Prefix, str] = dataclasses.field(default_factory=dict)
    cursor: Prefix | None = None  # stays with its client wherever that goes; None: the first row
    index: int = 0  # of the row under the cursor
    offset: int = 0  # of the first row on the screen
    row_lines: int = 20  # rows that the screen has room for
    width: int = 80  # cells of the screen
    dialog: Dialog | None = None
    message: str = ""
    failed: bool = False  # the message is about something that did not work

    @property
    def selected(self) -> Row | None:
        """The row under the cursor."""
        found = self.shown.rows if self.shown is not None else ()
        return found[self.index] if self.index < len(found) else None


def took(view: View, snapshot: Snapshot, networks: tuple[Prefix, ...] = ()) -> View:
    """Return the view with a new snapshot, which is not shown while it is frozen."""
    if view.frozen:
        return dataclasses.replace(view, newest=snapshot, networks=networks)
    return arranged(dataclasses.replace(view, newest=snapshot, base=snapshot, networks=networks))


def arranged(view: View) -> View:
    """Return the view with its rows grouped, folded, filtered and in order, and the cursor on its client."""
    if view.base is None:
        return view
    grouped = view.base
    if view.grouping is not Grouping.CLIENTS:
        grouped = merging.group(grouped, view.networks if view.grouping is Grouping.LIMITS else ())
    folded = merging.fold(grouped)
    wanted = view.filter.casefold()
    found = [row for row in folded.rows if wanted in _words(row, view.names)] if wanted else list(folded.rows)
    window = None if view.sort == columns.SINCE else rows.WINDOW_NAMES.index(view.sort)
    found.sort(key=merging.order(window))
    # The filtered ones are neither shown nor folded, so totals come from `base`.
    return settled(dataclasses.replace(view, shown=dataclasses.replace(folded, rows=tuple(found))))


def settled(view: View, row_lines: int | None = None, width: int | None = None) -> View:
    """Return the view with the cursor on a row that is there, and that row on the screen."""
    found = view.shown.rows if view.shown is not None else ()
    row_lines = max(1, view.row_lines if row_lines is None else row_lines)
    index = 0 if view.cursor is None else view.index
    if view.cursor is not None:
        index = next((i for i, row in enumerate(found) if row.client == view.cursor), index)
    index = max(0, min(index, len(found) - 1))
    offset = max(index - row_lines + 1, min(view.offset, index, max(0, len(found) - row_lines)))
    width = view.width if width is None else width
    return dataclasses.replace(view, index=index, offset=offset, row_lines=row_lines, width=width)


def moved(view: View, index: int) -> View:
    """Return the view with the cursor on this row, or on the nearest that is there; at the top it stays at the top."""
    found = view.shown.rows if view.shown is not None else ()
    index = max(0, min(index, len(found) - 1))
    cursor = found[index].client if found and index else None
    return settled(dataclasses.replace(view, cursor=cursor, index=index))


def page_lines(page: Page, width: int) -> list[str]:
    """Return the lines of a page as they are drawn: none is cut off."""
    return [part for line in page.lines for part in cells.wrapped(line, width)]


def pinned(view: View) -> View:
    """Return the view with the cursor bound to the client that it is on: a dialog about it was opened."""
    row = view.selected
    return view if row is None else dataclasses.replace(view, cursor=row.client)


def _words(row: Row, names: Mapping[Prefix, str]) -> str:
    """Return all that a filter finds a row by."""
    ports = " ".join(str(port.number) for port in row.ports)
    return f"{columns.client(row, names)} {ports} {columns.limit(row.holds)} {' '.join(row.nodes)}".casefold()
