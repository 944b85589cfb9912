"""The version and the images in the sources that a release is built from, which are those of this work tree."""

from __future__ import annotations

import pathlib
import tomllib

import pytest
import yaml

from bandwidth_release import stamps, version

ROOT = pathlib.Path(__file__).resolve().parents[3]
OF = version.parsed("4.5.6-rc.7")
FILES = {name: (ROOT / name).read_text() for name in (stamps.PACKAGE, stamps.PLUGIN, stamps.CHART)}
IMAGES = {
    name: stamps.Image(f"registry.example.com/team/client-bandwidth-{name}", f"sha256:{digit * 64}")
    for name, digit in (("operator", "1"), ("agent", "2"))
}


def test_the_version_is_everywhere() -> None:
    """Package, plugin and chart bear it; the chart's appVersion, which is the tag of the images, too."""
    stamped = stamps.versioned(FILES, OF)
    assert tomllib.loads(stamped[stamps.PACKAGE])["project"]["version"] == OF.text
    assert f'VERSION = "{OF.text}"' in stamped[stamps.PLUGIN].splitlines()
    chart = yaml.safe_load(stamped[stamps.CHART])
    assert (chart["version"], chart["appVersion"]) == (OF.text, OF.text)


def test_nothing_else_is_changed() -> None:
    """Each file differs in the lines of the version alone."""
    for name, text in stamps.versioned(FILES, OF).items():
        pairs = list(zip(FILES[name].splitlines(), text.splitlines(), strict=True))
        changed = [after for before, after in pairs if before != after]
        assert all(OF.text in line for line in changed)
        assert 1 <= len(changed) <= 2


def test_the_images_are_named_by_digest() -> None:
    """Of the chart's values nothing else changes."""
    text = (ROOT / stamps.VALUES).read_text()
    before, after = yaml.safe_load(text), yaml.safe_load(stamps.with_images(text, IMAGES))
    for name, image in IMAGES.items():
        before[name]["image"] |= {"repository": image.repository, "digest": image.digest}
    assert after == before


def test_a_file_of_another_form_is_refused() -> None:
    """Where the version would not be written, or twice, nothing is released."""
    for name in FILES:
        with pytest.raises(version.InvalidError, match=name):
            stamps.versioned(FILES | {name: "nothing"}, OF)
        with pytest.raises(version.InvalidError, match=name):
            stamps.versioned(FILES | {name: FILES[name] * 2}, OF)
    with pytest.raises(version.InvalidError, match="values"):
        stamps.with_images("operator: {}\n", IMAGES)
