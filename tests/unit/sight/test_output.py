"""What one reading prints."""

from __future__ import annotations

from bandwidth_sight import output
from unit.sight.test_merging import row, snapshot


def test_a_reading_of_nothing_says_so() -> None:
    """A head without a row would look like a fault."""
    assert output.text(snapshot()).splitlines()[2:] == ["nothing left"]
    assert "nothing left" not in output.text(snapshot(row("192.0.2.1", 1e6)))
