"""The chart of a release, whose values name the images by digest, as a package; and install.yaml, rendered from it."""

from __future__ import annotations

import os
import pathlib
import re
import sys
from collections.abc import Mapping

from bandwidth_release import archives, command, stamps
from bandwidth_release.source import Source
from bandwidth_release.stamps import Image
from bandwidth_release.version import Registry

NAME = "client-bandwidth-operator"
_UNRELEASED = re.compile(r"image: \S*:dev\b|image: (?!\S+@sha256:[0-9a-f]{64}$)\S+", re.MULTILINE)


def build(source: Source, images: Mapping[str, Image], work: pathlib.Path, dist: pathlib.Path) -> pathlib.Path:
    """The package of the chart in `dist`, and install.yaml; the path of the package."""
    command.told("packing the chart and rendering install.yaml")
    values = source.folder / stamps.VALUES
    values.write_text(stamps.with_images(values.read_text(), images))
    command.run(["tools/chart"], folder=source.folder, environment={"CHART_PYTHON": sys.executable})
    rendered = (source.folder / "deploy/install.yaml").read_text()
    if wrong := _UNRELEASED.findall(rendered):
        raise command.ReleaseError(f"install.yaml names images that are of no release: {', '.join(wrong)}")
    (dist / "install.yaml").write_text(rendered)

    packed = work / f"{NAME}-{source.version.text}.tgz"
    command.run(["helm", "package", (source.folder / stamps.CHART).parent, "--destination", work])
    target = dist / packed.name
    archives.repacked(packed, target, source.time)
    os.utime(target, (source.time, source.time))  # helm push says this time of it
    return target


def push(package: pathlib.Path, registry: Registry) -> Image:
    """Bring the package to its place in the registry; where it is."""
    plain = ["--plain-http"] if registry.is_loopback else []
    done = command.run(["helm", "push", *plain, package, f"oci://{registry.charts}"], joined=True)
    found = re.search(r"^Digest: (sha256:[0-9a-f]{64})$", done, re.MULTILINE)
    if found is None:
        raise command.ReleaseError(f"helm push did not say which digest the chart has:\n{done}")
    return Image(f"{registry.charts}/{NAME}", found[1])
