"""The pages for users keep up with what they describe: fields, reasons, metrics, alerts, values, links, examples."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bandwidth_api import conditions
from bandwidth_api.crds import limit
from bandwidth_operator.reporting import metrics
from gitops import documents

ROOT = documents.ROOT
DOCS = ROOT / "docs"
CHART = ROOT / "deploy" / "helm" / "client-bandwidth-operator"
PAGES = [*documents.PAGES, *sorted((DOCS / "reference").glob("*.md")), *sorted((DOCS / "design").glob("*.md"))]
LIMITS = documents.limits()


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def headings(text: str) -> list[str]:
    """The headings of a page, outside of blocks of code."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [found[1].strip() for found in re.finditer(r"^#+ (.*)$", prose, re.MULTILINE)]


def anchor(heading: str) -> str:
    """What a heading is called in a link, as on GitHub."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


# ── examples ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shown", LIMITS, ids=lambda shown: shown.where)
def test_a_limit_that_is_shown_is_a_limit(shown: documents.Shown) -> None:
    """Every whole limit in a page or file for users is accepted."""
    parsed = limit.parse(shown.document)
    assert isinstance(parsed, limit.Limit), parsed


def test_every_field_has_an_example() -> None:
    """The examples of docs/fields.md use every field of the CRD's spec."""

    def used(value: Any, path: str) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from used(inner, f"{path}.{key}")
        elif isinstance(value, list):
            for inner in value:
                yield from used(inner, f"{path}[]")
        yield path

    found: set[str] = set()
    for shown in documents.blocks(DOCS / "fields.md"):
        found |= set(used(shown.document["spec"], "spec"))
    wanted = set(fields(schema()["spec"], "spec"))
    assert wanted <= found, sorted(wanted - found)


# ── fields ─────────────────────────────────────────────────────────────────────────────────────────────────────


def schema() -> dict[str, Any]:
    crd = yaml.safe_load((ROOT / "deploy" / "crds" / "clientbandwidthlimits.yaml").read_text())
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return found


def fields(rules: dict[str, Any], path: str) -> Iterator[str]:
    """The paths of all fields below a schema."""
    for name, inner in rules.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from fields(inner, f"{path}.{name}")
    if "items" in rules:
        yield from fields(rules["items"], f"{path}[]")


def test_every_field_of_the_spec_has_a_heading() -> None:
    """And no heading is of a field that does not exist."""
    told = {heading for heading in headings(page("fields")) if heading.startswith("spec.")}
    assert told == set(fields(schema()["spec"], "spec"))


def test_every_field_of_the_status_is_described() -> None:
    """The tables of docs/fields.md have a row for each, and for no other."""
    told = set(re.findall(r"^\| `(status\.[^`]+)` \|", page("fields"), re.MULTILINE))
    wanted = set(fields(schema()["status"], "status"))
    assert told <= wanted, sorted(told - wanted)
    # What only holds others is told by them.
    missing = {path for path in wanted - told if not any(other.startswith(path) for other in told)}
    assert missing == set()


# ── reasons and conditions ─────────────────────────────────────────────────────────────────────────────────────


def test_every_reason_has_a_heading() -> None:
    """Whatever a status says, docs/is-it-working.md has a heading of that name; it has none that no status says."""
    text = page("is-it-working")
    told = headings(text.partition("\n## Reasons\n")[2].partition("\n## ")[0])
    assert sorted(told) == sorted(reason.value for reason in conditions.Reason)


def test_every_condition_is_described() -> None:
    """The table of conditions is whole."""
    text = page("is-it-working").partition("\n## Conditions\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [kind.value for kind in CONDITIONS]


CONDITIONS = conditions.ConditionType


# ── metrics and alerts ─────────────────────────────────────────────────────────────────────────────────────────


def operator_metrics() -> set[str]:
    """The operator's metrics by the names that a scrape shows."""
    found = set()
    for family in metrics.Metrics().registry.collect():
        found.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return found


def agent_metrics() -> set[str]:
    """Those of the agent: docs/reference/metrics.md, which another test holds to the program."""
    return set(re.findall(r"^\| `(client_bandwidth_\w+)` \|", page("reference/metrics"), re.MULTILINE))


def test_every_metric_of_the_operator_is_described() -> None:
    """The table has a row for each, and for no other."""
    told = re.findall(r"^\| `(bandwidth_operator_\w+)` \|", page("metrics-and-alerts"), re.MULTILINE)
    assert sorted(told) == sorted(operator_metrics())


@pytest.mark.parametrize("path", [*PAGES, *sorted((CHART / "files").glob("*.*"))], ids=lambda path: path.name)
def test_every_metric_that_is_named_exists(path: pathlib.Path) -> None:
    """No page, no alert and no dashboard speaks of a metric that no program serves."""
    known = operator_metrics() | agent_metrics()
    suffixes = ("", "_bucket", "_sum", "_count")
    served = {name + suffix for name in known for suffix in suffixes}
    named = set(re.findall(r"\b(?:client_bandwidth|bandwidth_operator)_\w+", path.read_text()))
    assert {name for name in named if not name.endswith("_")} - served == set()


def test_every_alert_has_a_heading() -> None:
    """Whatever the chart alerts of, docs/metrics-and-alerts.md has a heading of that name; that is its runbook."""
    rules = "".join(path.read_text() for path in sorted(CHART.rglob("*")) if path.is_file())
    alerts = set(re.findall(r"\balert: \"?(\w+)", rules))
    told = page("metrics-and-alerts").partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert sorted(headings(told)) == sorted(alerts)


# ── values and files ───────────────────────────────────────────────────────────────────────────────────────────


VALUE = re.compile(
    r"\b((?:agent|operator|guardRails|retire|crds|networkPolicy|criticalPods|podMonitor|prometheusRule|dashboard|test)\.[A-Za-z0-9.]+)"
)


@pytest.mark.parametrize("path", documents.PAGES, ids=lambda path: path.name)
def test_every_value_that_is_named_exists(path: pathlib.Path) -> None:
    """What stands in backquotes or behind --set, and looks like a value of the chart, is one."""
    text = path.read_text()
    quoted = " ".join([*re.findall(r"`([^`\n]+)`", text), *re.findall(r"--set '?(\S+)", text)])
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def exists(name: str) -> bool:
        value: Any = values
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                return False
            value = value[part]
        return True

    assert [name for name in VALUE.findall(quoted) if not exists(name)] == []


# ── links ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: pathlib.Path) -> None:
    """Every link inside of the repository leads to a file, and to a heading where it names one."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), target
        if heading:
            assert heading in {anchor(each) for each in headings(found.read_text())}, target


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to every page beside it."""
    linked = set(re.findall(r"\]\(([\w-]+)\.md\)", page("README")))
    assert {path.stem for path in DOCS.glob("*.md")} - {"README"} <= linked
