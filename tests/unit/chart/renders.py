"""What the chart makes, as it lies in the work tree: deploy/install.yaml and the golden renders."""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "client-bandwidth-operator"
INSTALL = ROOT / "deploy" / "install.yaml"
PATHS = {path.stem: path for path in (INSTALL, *sorted((ROOT / "tests/cluster/chart/golden").glob("*.yaml")))}
NAMES = list(PATHS)


@functools.cache
def objects(name: str) -> tuple[dict[str, Any], ...]:
    """The objects of one render; tests change none of them."""
    return tuple(each for each in yaml.load_all(PATHS[name].read_text(), yaml.SafeLoader) if each)
