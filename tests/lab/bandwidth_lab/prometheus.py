"""Debian's Prometheus for tests: where its programs are, the chart's rules, and a clock that runs faster for them."""

from __future__ import annotations

import pathlib
import re
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


FOR = "2s"
DAY_SECONDS = 12  # of the offsets of whole days
RANGES = {"1h": "20s", "15m": "10s", "5m": "10s"}


def hastened(found: list[Rule]) -> list[Rule]:
    """Return the rules as they are, but for their times: seconds for minutes, a day in `DAY_SECONDS`.

    Raises LookupError for a time that nobody has said a shorter one for.
    """

    def range_(match: re.Match[str]) -> str:
        if match[1] not in RANGES:
            raise LookupError(f"no shorter time for {match[0]}")
        return f"[{RANGES[match[1]]}]"

    def offset(match: re.Match[str]) -> str:
        days, rest = divmod(int(match[1]) + 1, 24)
        if rest or match[2] != "30m":
            raise LookupError(f"no shorter time for {match[0]}")
        return f"offset {days * DAY_SECONDS}s"

    made = []
    for rule in found:
        expression = re.sub(r"\[(\w+)\]", range_, str(rule["expr"]))
        expression = re.sub(r"offset (\d+)h(\w*)", offset, expression)
        made.append({**rule, "expr": expression, **({"for": FOR} if "for" in rule else {})})
    return made
