"""Writes version, images and their digests into the sources that a release is built from. Pure: texts in, texts out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_release.version import InvalidError, Version

# Each place that names the version, and how: file, what is replaced there exactly once.
PACKAGE = "pyproject.toml"
PLUGIN = "cli/bandwidth_cli/release.py"
CHART = "deploy/helm/client-bandwidth-operator/Chart.yaml"
VALUES = "deploy/helm/client-bandwidth-operator/values.yaml"


class Image(NamedTuple):
    """Where an image is, and which it is."""

    repository: str
    digest: str


def versioned(files: Mapping[str, str], version: Version) -> dict[str, str]:
    """The files that name the version, with this one in it."""
    return {
        PACKAGE: _once(files[PACKAGE], r'(?m)^version = "[^"]+"$', f'version = "{version.text}"', PACKAGE),
        PLUGIN: _once(files[PLUGIN], r'(?m)^VERSION = "[^"]+"$', f'VERSION = "{version.text}"', PLUGIN),
        CHART: _once(
            _once(files[CHART], r"(?m)^version: .*$", f"version: {version.text}", CHART),
            r"(?m)^appVersion: .*$",
            f'appVersion: "{version.text}"',
            CHART,
        ),
    }


def with_images(values: str, images: Mapping[str, Image]) -> str:
    """The chart's values with each image where it was pushed to, by its digest."""
    for program, image in images.items():
        values = _once(
            values,
            rf'(?m)^(    repository: )client-bandwidth-{program}\n((?:    .*\n)*?    digest: )""$',
            rf"\g<1>{image.repository}\n\g<2>{image.digest}",
            VALUES,
        )
    return values


def _once(text: str, pattern: str, replacement: str, where: str) -> str:
    replaced, count = re.subn(pattern, replacement, text)
    if count != 1:
        raise InvalidError(f"{where} has {count} places, and should have one, of the form {pattern}")
    return replaced
