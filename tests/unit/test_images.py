"""How the images are built: from a base that cannot change, by any builder, with a list of what is in them."""

from __future__ import annotations

import pathlib
import re

IMAGES = pathlib.Path(__file__).resolve().parents[2] / "deploy/images"


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
