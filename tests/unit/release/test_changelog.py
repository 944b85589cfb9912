"""Which part of the changelog a release is described by."""

from __future__ import annotations

import pytest

from bandwidth_release import changelog, version

TEXT = """\
# Changelog

## Unreleased

### Added
- What is to come.

## [1.10.0] - 2026-11-29

- Ten.

## 1.1.0

- One.

## 1.0.0
"""


@pytest.mark.parametrize(
    ("of", "said"), [("1.10.0", "- Ten.\n"), ("1.1.0", "- One.\n"), ("2.0.0-rc.1", "### Added\n- What is to come.\n")]
)
def test_the_section_of_a_version(of: str, said: str) -> None:
    """It is that of its own heading, with a date or without; one to try has what is not released yet."""
    assert changelog.section(TEXT, version.parsed(of)) == said


@pytest.mark.parametrize("of", ["1.1.1", "1.0.0", "1.1", "1.10.00"])
def test_a_version_of_which_nothing_is_said(of: str) -> None:
    """No section, or an empty one, is refused, and the refusal names the heading."""
    with pytest.raises(version.InvalidError, match=of):
        changelog.section(TEXT, version.Version(of))


def test_the_way_out_is_told() -> None:
    """Who only wants to try one is told which version needs no section."""
    with pytest.raises(version.InvalidError, match=r"VERSION=3\.0\.0-rc\.1"):
        changelog.section(TEXT, version.parsed("3.0.0"))
    with pytest.raises(version.InvalidError, match="Unreleased"):
        changelog.section("# Changelog\n", version.parsed("3.0.0-rc.1"))
