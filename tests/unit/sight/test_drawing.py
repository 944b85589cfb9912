"""The screen as lines, without a terminal: whatever the size and whatever is in the rows."""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import pytest
from hypothesis import given

from bandwidth_api import addresses
from bandwidth_api.plan import PortRange
from bandwidth_sight import cells, columns, drawing, effects, keys, view
from bandwidth_sight.draft import as_yaml
from bandwidth_sight.effects import Answer, Prepare
from bandwidth_sight.rows import Folded, Hold, MadeBy, Snapshot
from bandwidth_sight.source import Preview
from bandwidth_sight.view import View
from unit.sight import screens
from unit.sight.screens import looked, pressed, row, settled, snapshot, texts
from unit.sight.test_merging import SNAPSHOTS

LONG = "2001:db8:1234:5678:9abc:def0:1234:5678"
WIDE = "客户端-名字-很长的-名字 \u0301\u200d"


def test_one_host_at_80x24() -> None:
    """Headline, head, rows in order with their limit, what is folded, and the keys."""
    seen = texts(looked())
    assert seen[0] == "eth0: 208.1 Mbit/s to 5 clients of 1 Gbit/s; not seen 0 %, lost 0      every 2 s"
    assert seen[1].split() == ["CLIENT", "2s", "10s", "SHARE", "±", "PORTS", "LIMIT"]
    assert seen[2].split() == ["192.0.2.100", "118.7M", "118.7M", "57.0%", "3%", "993", "–"]
    assert seen[3].endswith("28.8%  4%  443,53  web-crawl 60Mbit, at limit")
    assert seen[6] == "… 1 more, 0.1%"
    assert seen[23] == "s sort  p prefix  / filter  f freeze  l slow  o observe  y YAML  n name  q quit"


def test_a_wide_screen_has_every_column() -> None:
    """With room for all, nothing is left out; on a cluster the nodes are there too."""
    assert texts(looked(), 140)[1].split() == ["CLIENT", "2s", "10s", "60s", "SINCE", "SHARE", "±", "PORTS", "LIMIT"]
    cluster = dataclasses.replace(
        screens.HOUSE, interfaces=(), nodes=("a", "b"), nodes_asked=3, rows=(row("192.0.2.1", nodes=("a", "b")),)
    )
    seen = texts(looked(cluster), 140)
    assert seen[0].startswith("2 of 3 nodes: ")
    assert "a,b" in seen[2]


def test_a_narrow_one_has_the_client_and_its_rate() -> None:
    """At 40 cells the address, the rate by which rows are sorted, and the way out are whole."""
    seen = texts(looked(), 40, 12)
    assert seen[2].split()[:2] == ["192.0.2.100", "118.7M"]
    assert seen[11].endswith("q quit")
    by_a_minute, _ = pressed(looked(), "s")
    assert "60s" in texts(by_a_minute, 30, 12)[1]


def test_a_long_address_is_whole_at_80() -> None:
    """The longest text of an IPv6 address takes the place of columns that matter less."""
    assert LONG in texts(looked(snapshot(row(LONG, 1e6, holds=(screens.LIMITED,)))))[2]


@given(SNAPSHOTS, st.integers(1, 200), st.integers(1, 60), st.sampled_from(["", "l", "?", "/", "p", "f", "s", "n"]))
def test_it_always_fits(one: Snapshot, width: int, height: int, key: str) -> None:
    """However large, however small, in every dialog: as many lines as there are, none wider than the screen."""
    seen, effect = pressed(looked(one, width, height), *([key] if key else []))
    if isinstance(effect, effects.Begin):
        seen = keys.answered(seen, effect, Answer())
    drawn = drawing.draw(settled(seen, width, height), width, height)
    assert len(drawn.lines) == height
    assert all(cells.width(line.text) <= width for line in drawn.lines)
    assert drawn.cursor is None or (drawn.cursor[0] < height and drawn.cursor[1] < width)


def test_ten_by_three() -> None:
    """The headline, the row under the cursor, and how to leave."""
    seen = texts(looked(), 10, 3)
    assert seen[0].startswith("eth0: 208")
    assert "118.7M" in seen[1]
    assert seen[2] == "q quit"


def test_ten_thousand_clients() -> None:
    """Only what is seen is written; the cursor goes to the last of all."""
    last, _ = pressed(looked(screens.many(10_000)), "END")
    seen = texts(last)
    assert "10.0.39.15" in seen[21]
    assert "9980 rows below" in texts(looked(screens.many(10_000)))[22]


def test_names_and_wide_letters_keep_their_columns() -> None:
    """A name with letters of two cells, of none, and with codes that steer a terminal, moves nothing."""
    one = row("192.0.2.1", label=WIDE)
    seen = dataclasses.replace(looked(snapshot(one, row("192.0.2.2"))), names={one.client: "evil\x1b[2J\nname"})
    lines = texts(view.arranged(seen), 100)
    assert "\x1b" not in "".join(lines)
    rate = [cells.width(line[: line.index("1.0M")]) for line in lines[2:4]]
    assert rate[0] == rate[1]


def test_a_client_at_its_limit_and_a_node_have_styles_of_their_own() -> None:
    """And so has the row under the cursor, over its whole width."""
    styles = [line.style for line in drawing.draw(looked(), 80, 24).lines[1:7]]
    assert styles == [
        drawing.HEAD,
        drawing.SELECTED,
        drawing.LIMITED,
        drawing.PLAIN,
        drawing.DIM,
        drawing.DIM,
    ]
    assert cells.width(drawing.draw(looked(), 80, 24).lines[2].text) == 80


def test_nothing_to_see_is_said() -> None:
    """Before the first snapshot, without traffic, and where a filter finds nothing."""
    assert "first samples" in texts(View())[0]
    assert "nothing leaves" in texts(looked(snapshot()))[2]
    filtered, _ = pressed(looked(), "/", "text:nobody", "ENTER")
    assert "no row has 'nobody'" in texts(filtered)[2]
    assert "208.1 Mbit/s to 5 clients" in texts(filtered)[0]


def test_what_is_not_known_is_said() -> None:
    """Limits that cannot be read are `?` with the reason; a share that is not seen is in the headline."""
    seen = texts(looked(snapshot(row("192.0.2.1", holds=None), notes=("no rights",), sent=(2e6, 2e6, 2e6))))
    assert seen[2].rstrip().endswith("?")
    assert "not seen 50 %" in seen[0]
    assert "note: no rights" in seen


def test_a_long_message_is_whole() -> None:
    """A refusal that is longer than the screen is broken into lines, none of it lost."""
    words = " ".join(f"word{n}" for n in range(60))
    seen = texts(keys.said(looked(), words, failed=True), 50, 20)
    assert words in " ".join(line for line in seen[-15:] if line.startswith("word"))


def preview(question: str = "Write /etc/client-bandwidth/slow.yaml?") -> tuple[View, Prepare]:
    seen, effect = pressed(looked(), "l")
    assert isinstance(effect, effects.Begin)
    seen = keys.answered(seen, effect, Answer())
    seen, asked = pressed(seen, "ENTER", "ENTER", "text:loop", "ENTER")
    assert isinstance(asked, Prepare)
    shown = Preview(asked.draft, as_yaml(asked.draft), tuple(f"add entry {n}" for n in range(30)), question)
    return keys.answered(seen, asked, Answer(preview=shown)), asked


def test_a_preview_has_yaml_changes_and_the_question() -> None:
    """What is longer than the screen is scrolled to its end; the question stays in its place."""
    seen, _ = preview()
    lines = texts(seen)
    assert "kind: ClientBandwidthLimit" in lines
    assert lines[-2:] == ["Write /etc/client-bandwidth/slow.yaml?", "y yes  n no  w write to a file  Esc back"]
    assert not any("add entry 29" in line for line in lines)
    end, _ = pressed(seen, "END")
    assert any("add entry 29" in line for line in texts(end))
    assert texts(end)[-2].startswith("Write ")


def test_the_form_shows_where_is_typed() -> None:
    """The terminal's cursor stands behind the letters of the active field, however many they are."""
    seen, effect = pressed(looked(), "l")
    assert isinstance(effect, effects.Begin)
    seen = keys.answered(seen, effect, Answer())
    drawn = drawing.draw(seen, 80, 24)
    assert drawn.cursor is not None
    line, cell = drawn.cursor
    assert drawn.lines[line].text[:cell].endswith("39Mbit")
    seen, _ = pressed(seen, "TAB", "TAB", "text:" + "x" * 200)
    drawn = drawing.draw(seen, 80, 24)
    assert drawn.cursor is not None
    assert drawn.cursor[1] < 80


@pytest.mark.parametrize("text", ["", "a b c", "  two  blanks", "x" * 50, "一二三四五六七八九十" * 3, "a " + "b" * 30])
def test_wrapping_loses_nothing(text: str) -> None:
    """Every letter is in one of the lines, and no line is wider."""
    lines = cells.wrapped(text, 12)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(cells.width(line) <= 12 for line in lines)


@given(st.text(max_size=40), st.integers(0, 30))
def test_clipped_text_has_its_width(text: str, wide: int) -> None:
    """Whatever the letters, text in a column takes exactly its cells."""
    clean = cells.clean(text)
    assert cells.width(cells.left(clean, wide)) == wide
    assert cells.width(cells.right(clean, wide)) == wide
    assert clean.isprintable()


def test_what_is_folded_counts_in_the_share() -> None:
    """The last line has the clients that have no row, and their part of all."""
    folded = Folded(125, screens.rates(1e6), 0.0)
    assert "… 125 more, 50.0%" in texts(looked(snapshot(row("192.0.2.1", 1e6), folded=folded)))
    assert addresses.write(screens.HOUSE.rows[0].client) == "192.0.2.100"


@pytest.mark.parametrize(
    ("ports", "says"),
    [
        ((), "mail 5Mbit, at limit"),
        ((PortRange("TCP", 993, 993),), "mail 5Mbit 993/tcp, at limit"),
        (tuple(PortRange("TCP", n, n) for n in (25, 143, 993)), "mail 5Mbit 3 port ranges, at limit"),
        (None, "mail 5Mbit some ports, at limit"),
    ],
)
def test_a_limit_for_ports_is_not_shown_as_one_for_all(ports: tuple[PortRange, ...] | None, says: str) -> None:
    """The one that is slowing comes first, with its ports; the others are counted."""
    slowing, other = Hold("mail", 5_000_000, True, False, ports), Hold("all", 8_000_000, False, False)
    assert columns.limit((slowing,)) == says
    assert columns.limit((other, slowing)) == f"{says} +1"


def test_a_limit_of_a_policy_shows_its_step() -> None:
    """No limit of a person has one."""
    hold = Hold("fair-03e9b06641", 5_000_000, True, False, (), MadeBy("fair", 2, 3))
    assert columns.limit((hold,)) == "fair-03e9b06641 5Mbit, step 2 of 3, at limit"
    unknown = hold._replace(made_by=MadeBy("fair", 2, None), at_limit=False)
    assert columns.limit((unknown,)) == "fair-03e9b06641 5Mbit, step 2"


def test_columns_do_not_come_back_on_the_way_down() -> None:
    """A long address takes columns away when it is reached, and below it nothing jumps back."""
    rows = [row(f"192.0.2.{n}", 1e9 - n * 1e6) for n in range(60)]
    rows[30] = row(LONG, 1e9 - 30e6)
    seen = looked(snapshot(*rows))
    heads = []
    for _ in range(59):
        heads.append(tuple(texts(seen)[1].split()))
        seen, _effect = pressed(seen, "DOWN")
        seen = settled(seen)
    changes = [n for n in range(1, len(heads)) if heads[n] != heads[n - 1]]
    assert len(changes) == 1
    assert len(heads[-1]) < len(heads[0])
