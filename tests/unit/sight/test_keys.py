"""Keys: each does what the help says, and nothing is made that was not shown and answered."""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import pytest
from hypothesis import given

from bandwidth_api import addresses
from bandwidth_api.plan import Mode
from bandwidth_sight import columns, effects, entry, help_page, keys, view
from bandwidth_sight.effects import Answer
from bandwidth_sight.view import Form, Grouping, Page, PathDialog, Purpose, View
from unit.sight import screens
from unit.sight.screens import HOUSE, looked, pressed, row, snapshot
from unit.sight.test_drawing import preview

KEYS = [
    *"qQsSpfhl?oynjkgGw/ x1é",
    *("UP", "DOWN", "LEFT", "RIGHT", "PAGE-UP", "PAGE-DOWN", "HOME", "END", "ENTER", "ESC", "TAB", "BACK-TAB"),
    *("BACKSPACE", "DELETE", "CTRL-A", "CTRL-U", "CTRL-W", "CTRL-L"),
]


def clients(seen: View) -> list[str]:
    assert seen.shown is not None
    return [addresses.write(each.client) for each in seen.shown.rows]


def selected(seen: View) -> str:
    assert seen.selected is not None
    return addresses.write(seen.selected.client)


def form(seen: View) -> Form:
    assert isinstance(seen.dialog, Form)
    return seen.dialog


def opened(key: str = "l", seen: View | None = None) -> View:
    """The form that a key opens."""
    seen, effect = pressed(looked() if seen is None else seen, key)
    assert isinstance(effect, effects.Begin)
    return keys.answered(seen, effect, Answer())


@given(st.lists(st.sampled_from(KEYS), max_size=25))
def test_no_order_of_keys_makes_anything_unasked(names: list[str]) -> None:
    """Whatever is typed, a limit is applied or written only from a page that shows it, by y; and nothing breaks."""
    seen = looked()
    for name in names:
        before = seen
        seen, effect = pressed(seen, name)
        if isinstance(effect, effects.Apply | effects.Write):
            assert isinstance(before.dialog, Page | PathDialog)
            assert name == "y" if isinstance(before.dialog, Page) else name == "ENTER"
        if isinstance(effect, effects.Begin | effects.Prepare | effects.Apply | effects.Write | effects.Resolve):
            seen = keys.answered(seen, effect, Answer("said", preview()[0].dialog.preview))  # type: ignore[union-attr]
        assert seen.shown is not None
        assert 0 <= seen.index <= max(0, len(seen.shown.rows) - 1)


def test_s_goes_through_the_orders_and_back() -> None:
    """10s, 60s, SINCE, 2s; S the other way."""
    seen, orders = looked(), []
    for _ in range(4):
        orders.append(seen.sort)
        seen, _ = pressed(seen, "s")
    assert orders == ["10s", "60s", columns.SINCE, "2s"]
    assert seen.sort == "10s"
    assert pressed(seen, "S")[0].sort == "2s"


def test_the_order_is_that_of_the_column() -> None:
    """By `since` the one with the most bytes is first, whatever its rate is."""
    small = dataclasses.replace(row("192.0.2.9", 1e3), since_bytes=1e12)
    seen, _ = pressed(looked(snapshot(row("192.0.2.1", 1e9), small)), "s", "s")
    assert clients(seen)[0] == "192.0.2.9"


def test_p_groups_by_length_then_by_limits() -> None:
    """Clients, /24 and /64, networks of limits where there are any; the cursor stays around its client."""
    seen, _ = pressed(looked(), "DOWN")
    seen, _ = pressed(seen, "p")
    assert seen.grouping is Grouping.NETWORKS
    assert selected(seen) == "2001:db8:7::/64"
    assert pressed(seen, "p")[0].grouping is Grouping.CLIENTS
    limits = view.took(looked(), HOUSE, (addresses.parse("192.0.0.0/16"),))
    by_limits, _ = pressed(limits, "p", "p")
    assert by_limits.grouping is Grouping.LIMITS
    assert "192.0.0.0/16" in clients(by_limits)


def test_the_filter_counts_at_once_and_esc_brings_the_old_one_back() -> None:
    """By address, port, name or limit, in small or capital letters."""
    seen, _ = pressed(looked(), "/", "text:WEB-crawl")
    assert clients(seen) == ["2001:db8:7::a0c9"]
    assert clients(pressed(seen, "ESC")[0]) == clients(looked())
    kept, _ = pressed(seen, "ENTER")
    assert kept.dialog is None
    assert clients(kept) == ["2001:db8:7::a0c9"]
    assert clients(pressed(kept, "ESC")[0]) == clients(looked())
    assert clients(pressed(looked(), "/", "text:993")[0]) == ["192.0.2.100"]


def test_frozen_rows_stay_as_they_are() -> None:
    """Snapshots that come meanwhile are shown when it goes on."""
    seen, _ = pressed(looked(), "f")
    seen = view.took(seen, snapshot(row("203.0.113.99", 9e9)))
    assert clients(seen) == clients(looked())
    assert clients(pressed(seen, "f")[0]) == ["203.0.113.99"]


def test_the_cursor_follows_its_client_but_stays_at_the_top() -> None:
    """A key never acts on another client than the one that was under the cursor when rows change places."""
    seen, _ = pressed(looked(), "DOWN")
    was = selected(seen)
    turned = snapshot(
        *(dataclasses.replace(r, rates=screens.rates(1e9 / (n + 1))) for n, r in enumerate(HOUSE.rows[::-1]))
    )
    assert selected(view.took(seen, turned)) == was
    assert view.took(looked(), turned).index == 0
    assert view.took(looked(), turned).cursor is None


def test_a_client_that_is_gone_leaves_the_cursor_in_its_place() -> None:
    """The row that is there now is chosen; at the end the last."""
    seen, _ = pressed(looked(), "END")
    assert selected(view.took(seen, snapshot(*HOUSE.rows[:2]))) == "2001:db8:7::a0c9"
    assert view.took(seen, snapshot()).selected is None


def test_a_page_goes_as_far_as_the_screen_shows() -> None:
    """PgDn by the rows that are seen, PgUp back, End and Home to the ends."""
    seen = looked(screens.many(100))
    down, _ = pressed(seen, "PAGE-DOWN")
    assert down.index == seen.row_lines == 20
    assert pressed(down, "PAGE-UP")[0].index == 0
    assert pressed(seen, "END")[0].index == 99
    assert pressed(seen, "END", "HOME")[0].index == 0


def test_the_form_begins_with_a_third_an_hour_and_no_reason() -> None:
    """The rate is of the client under the cursor."""
    fields = {name: typed.text for name, typed in form(opened()).fields.items()}
    assert fields == {"rate": "39Mbit", "ttl": "1h", "reason": ""}


@pytest.mark.parametrize(("key", "mode"), [("l", Mode.ENFORCE), ("o", Mode.OBSERVE), ("y", Mode.ENFORCE)])
def test_a_form_becomes_a_draft(key: str, mode: Mode) -> None:
    """What was typed is what is previewed."""
    _seen, asked = pressed(
        opened(key), "CTRL-U", "text:5Mbit", "TAB", "CTRL-U", "text:2d", "ENTER", "text:why not", "ENTER"
    )
    assert isinstance(asked, effects.Prepare)
    draft = asked.draft
    assert (draft.rate_bits_per_second, draft.ttl_seconds, draft.reason) == (5_000_000, 172800, "why not")
    assert draft.mode is mode
    assert addresses.write(draft.client) == "192.0.2.100"


def test_what_is_wrong_in_a_form_is_said_at_its_field() -> None:
    """The cursor goes to the field, and what was typed stays."""
    seen, asked = pressed(opened(), "CTRL-U", "text:5", "ENTER", "ENTER", "text:x", "ENTER")
    assert asked is None
    assert form(seen).active == "rate"
    assert "no unit" in form(seen).error
    assert form(seen).fields["reason"].text == "x"
    seen, asked = pressed(opened(), "ENTER", "ENTER", "ENTER")
    assert form(seen).active == "reason"
    assert "required" in form(seen).error
    seen, asked = pressed(seen, "text:loop", "ENTER")
    assert isinstance(asked, effects.Prepare)


def test_what_cannot_be_limited_is_refused_before_the_form() -> None:
    """A node, a multicast group, and what the source refuses: why, and no form."""
    for one, words in ((row("192.0.2.1", label="node w-1"), "is node w-1, no client"), (row("224.0.0.5"), "multicast")):
        seen, effect = pressed(looked(snapshot(one)), "l")
        assert effect is None
        assert words in seen.message
        assert seen.failed
    seen, effect = pressed(looked(), "l")
    assert isinstance(effect, effects.Begin)
    seen = keys.answered(seen, effect, Answer("it is a gateway", failed=True))
    assert (seen.dialog, seen.message) == (None, "it is a gateway")
    assert pressed(looked(snapshot()), "l")[1] is None


def test_a_grouped_row_is_limited_as_a_network() -> None:
    """The client of the draft is the network under the cursor."""
    seen, _ = pressed(looked(), "p")
    assert addresses.write(form(opened(seen=seen)).client) == "192.0.2.0/24"


def test_y_applies_and_n_and_esc_do_not() -> None:
    """Esc leads back to what was typed."""
    seen, _asked = preview()
    assert isinstance(pressed(seen, "y")[1], effects.Apply)
    for key in ("n", "q", "ESC", "ENTER", "x"):
        assert pressed(seen, key)[1] is None
    assert form(pressed(seen, "ESC")[0]).fields["reason"].text == "loop"
    done = keys.answered(seen, effects.Apply(seen.dialog.preview), Answer("written: x"))  # type: ignore[union-attr, arg-type]
    assert (done.dialog, done.message) == (None, "written: x")


def test_what_failed_leaves_the_page_with_the_reason() -> None:
    """So that another file can be named, or it can be tried again."""
    seen, _ = preview()
    failed = keys.answered(seen, effects.Apply(seen.dialog.preview), Answer("exists", failed=True))  # type: ignore[union-attr, arg-type]
    assert isinstance(failed.dialog, Page)
    assert (failed.message, failed.failed) == ("exists", True)


def test_without_a_question_y_does_nothing() -> None:
    """Where it cannot be applied from here, only a file can be written."""
    seen, _ = preview(question="")
    assert pressed(seen, "y")[1] is None
    seen, effect = pressed(seen, "w", "text:/tmp/x.yaml", "ENTER")
    assert isinstance(effect, effects.Write)
    assert effect.path == "/tmp/x.yaml"  # noqa: S108
    assert pressed(preview()[0], "w", "ENTER")[1] is None


def test_n_asks_for_one_address_only() -> None:
    """A network has no name; the answer stands beside the address from then on."""
    seen, effect = pressed(looked(), "n")
    assert isinstance(effect, effects.Resolve)
    seen = keys.answered(seen, effect, Answer("mail.example"))
    assert "192.0.2.100 mail.example" in "\n".join(screens.texts(seen, 140))
    assert clients(pressed(seen, "/", "text:mail.ex")[0]) == ["192.0.2.100"]
    grouped, effect = pressed(looked(), "p", "n")
    assert effect is None
    assert "network" in grouped.message


def test_ways_out() -> None:
    """q and Ctrl-C quit, Ctrl-Z suspends, from a dialog too for the two of Ctrl."""
    assert isinstance(pressed(looked(), "q")[1], effects.Quit)
    assert isinstance(pressed(opened(), "CTRL-C")[1], effects.Quit)
    assert isinstance(pressed(opened(), "CTRL-Z")[1], effects.Suspend)
    assert form(pressed(opened(), "TAB", "TAB", "text:q")[0]).fields["reason"].text == "q"


def test_the_help_has_every_key() -> None:
    """And Esc leads back."""
    told = "\n".join(help_page.LINES)
    for word in ("s S", "  p ", "  / ", "f or blank", "  l ", "  o ", "  y ", "  n ", "quit", "PgUp PgDn", "Home End"):
        assert word in told
    seen, _ = pressed(looked(), "?")
    assert isinstance(seen.dialog, Page)
    assert pressed(seen, "ESC")[0].dialog is None


@pytest.mark.parametrize(
    ("names", "text", "place"),
    [
        (["text:abc", "LEFT", "text:x"], "abxc", 3),
        (["text:abc", "HOME", "DELETE"], "bc", 0),
        (["text:abc", "BACKSPACE", "BACKSPACE", "BACKSPACE", "BACKSPACE"], "", 0),
        (["text:one two", "CTRL-W"], "one ", 4),
        (["text:one two", "CTRL-A", "RIGHT", "CTRL-K"], "o", 1),
        (["text:one", "LEFT", "CTRL-U", "END"], "e", 1),
        (["text:é漢", "F1", "CTRL-L"], "é漢", 2),
    ],
)
def test_a_line_is_edited_as_in_a_shell(names: list[str], text: str, place: int) -> None:
    """With the keys that every shell has."""
    typed = entry.Entry()
    for name in screens._letters(names):
        typed = entry.press(typed, name)
    assert typed == (text, place)


def test_purposes_have_keys() -> None:
    """l, o and y open a form for each purpose."""
    assert {form(opened(key)).purpose for key in "loy"} == set(Purpose)
