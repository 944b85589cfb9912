"""The list of what is in an image, as the program that writes it makes it here."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import sysconfig

IMAGES = pathlib.Path(__file__).resolve().parents[2] / "deploy/images"


def listed(version: str) -> str:
    """The bill of materials of this environment's own packages."""
    words = [
        sys.executable,
        IMAGES / "sbom.py",
        "an-image",
        version,
        "2026-01-01T00:00:00Z",
        sysconfig.get_path("purelib"),
    ]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


def test_the_bill_of_materials_names_every_package_once() -> None:
    """Each component has a package URL of its own, and the same contents give the same document."""
    first = listed("1.0.0")
    assert first == listed("1.0.0")
    document = json.loads(first)
    urls = [component["purl"] for component in document["components"]]
    assert len(urls) == len(set(urls))
    assert "pkg:pypi/pydantic" in {url.rpartition("@")[0] for url in urls}
    assert any(url.startswith("pkg:generic/python@") for url in urls)
    assert document["serialNumber"] != json.loads(listed("1.0.1"))["serialNumber"]
