"""How the images are built: from a base that cannot change, by any builder, with a list of what is in them."""

from __future__ import annotations

import json
import pathlib
import re
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


def test_the_default_base_is_pinned() -> None:
    """It is named by version, for people, and by digest, for good."""
    assert re.search(r"IMAGE_BASE:-python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}\}", (IMAGES / "build").read_text())


def test_every_builder_can_build_it() -> None:
    """The Dockerfile uses nothing that only BuildKit has, and the operator is nobody."""
    text = (IMAGES / "Dockerfile").read_text()
    instructions = [line.split()[0] for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    assert set(instructions) <= {"ARG", "FROM", "RUN", "COPY", "ENV", "LABEL", "USER", "ENTRYPOINT", "CMD"}
    assert not re.search(r"^(RUN|COPY) +--(mount|network|security|link|chmod)", text, re.MULTILINE)
    assert "USER 65532:65532" in text
