"""Debian's Prometheus for tests: where its programs are, and the chart's rules in the form of its rule files."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Mapping
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
ALERTS = ROOT / "deploy/helm/client-bandwidth-operator/files/alerts.yaml"

Rule = dict[str, Any]


def programs() -> pathlib.Path:
    """Return the folder of prometheus and promtool. Raises LookupError, with what to do, where they cannot be had."""
    done = subprocess.run([ROOT / "tools/prometheus"], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise LookupError(done.stderr.strip())
    return pathlib.Path(done.stdout.strip())


def rules() -> list[Rule]:
    """Return the chart's rules, before it adds links to them."""
    found: list[Rule] = yaml.safe_load(ALERTS.read_text())
    return found


def rule_file(found: list[Rule]) -> Mapping[str, Any]:
    """Return the contents of a rule file with these rules in one group, as the chart groups them."""
    return {"groups": [{"name": "client-bandwidth", "rules": found}]}
