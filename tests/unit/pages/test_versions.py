"""Versions of the site beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bandwidth_pages import versions


def test_the_newest_is_first() -> None:
    """Numbers are compared as numbers, and a release is newer than its candidates."""
    listed = json.loads(versions.listing({"1.9", "1.10", "1.10-rc1", "0.2.0"}))
    assert [each["version"] for each in listed] == ["1.10", "1.10-rc1", "1.9", "0.2.0"]


def test_who_comes_without_a_version_is_led_to_the_newest_release(tmp_path: Path) -> None:
    """Each version that is added is in the list beside the others, those whose folder is gone are not; a candidate is
    shown first only where there is no release."""
    for version, wanted in (("2.0-rc1", "2.0-rc1"), ("1.9", "1.9"), ("1.10", "1.10"), ("1.8", "1.10")):
        (tmp_path / version).mkdir()
        versions.add(tmp_path, version)
        assert f"url={wanted}/" in (tmp_path / "index.html").read_text()
    (tmp_path / "1.9").rmdir()
    versions.add(tmp_path, "1.8")
    listed = json.loads((tmp_path / "versions.json").read_text())
    assert [each["version"] for each in listed] == ["2.0-rc1", "1.10", "1.8"]


@pytest.mark.parametrize(
    ("text", "is_one"), [("1.2", True), ("1.2.3-rc.1", True), ("v1", False), ("../x", False), ("", False)]
)
def test_what_is_a_version(text: str, is_one: bool) -> None:
    """What names a folder is a version and nothing else."""
    assert bool(versions.FORM.fullmatch(text)) is is_one
