"""The chart's alerts and its dashboard ask for metrics and labels that our programs serve, and for nothing else."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator, Mapping

import pytest
import yaml

CHART = pathlib.Path(__file__).parents[3] / "deploy" / "helm" / "client-bandwidth-operator"
DOCS = pathlib.Path(__file__).parents[3] / "docs"

# Made by Prometheus itself, and the labels that it gives to everything that it scrapes by a PodMonitor of ours.
OWN_METRICS = {"up": set[str]()}
TARGET_LABELS = {"namespace", "pod", "container", "node", "job", "instance", "endpoint"}
KEYWORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}

_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<range>\[[^\]]*\])
      | (?P<duration>(?:\d+[smhdwy])+(?!\w))
      | (?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)
      | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
      | (?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},])
      | (?P<space>\s+)""",
    re.VERBOSE,
)

Selector = tuple[str, dict[str, str]]  # a metric, and what its labels are compared with


def tokens(expression: str) -> list[tuple[str, str]]:
    """PromQL's words; Grafana's own variables stand only in strings and ranges."""
    found, at = [], 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        assert match is not None, f"no PromQL at {expression[at:]!r}"
        if match.lastgroup != "space":
            found.append((str(match.lastgroup), match.group()))
        at = match.end()
    return found


def parsed(expression: str) -> tuple[list[Selector], set[str]]:
    """The selectors of an expression, and the labels that it groups by. Brackets must match."""
    words = tokens(expression)
    selectors: list[Selector] = []
    grouped: set[str] = set()
    depth: list[str] = []
    at = 0
    while at < len(words):
        kind, word = words[at]
        following = words[at + 1][1] if at + 1 < len(words) else ""
        if word in ("(", "{"):
            depth.append(word)
        elif word in (")", "}"):
            assert depth, expression
            assert depth.pop() + word in ("()", "{}"), expression
        elif word in KEYWORDS and following == "(":
            end = words.index(("sign", ")"), at)
            grouped |= {w for k, w in words[at + 2 : end] if k == "name"}
            at = end
        elif kind == "name" and word not in KEYWORDS and following not in ("(", "by", "without"):
            labels: dict[str, str] = {}
            if following == "{":
                end = words.index(("sign", "}"), at)
                inside = words[at + 2 : end]
                for place in range(0, len(inside), 4):
                    labels[inside[place][1]] = inside[place + 2][1].strip("\"'")
                at = end
            selectors.append((word, labels))
        at += 1
    assert not depth, expression
    return selectors, grouped


# ── what there is ──────────────────────────────────────────────────────────────────────────────────────────────


def table(page: str, prefix: str) -> dict[str, set[str]]:
    """Metrics and their labels as a page has them; other tests hold the pages to the programs."""
    found: dict[str, set[str]] = {}
    header: list[str] = []
    section_labels: set[str] = set()
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("## "):
            section_labels = set()
        if line.startswith("Labels: "):
            section_labels = set(re.findall(r"`(\w+)`", line.partition(" (")[0])) - {"PerEntry"}
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
        if cells and cells[0] == "metric":
            header = cells
        elif cells and cells[0].startswith(f"`{prefix}"):
            row = dict(zip(header, cells, strict=False))
            name = row["metric"].strip("`")
            labels = set(re.findall(r"`(\w+)`", row.get("labels", ""))) | section_labels
            kinds = {"histogram": ("_bucket", "_sum", "_count")}.get(row["type"], ("",))
            for ending in kinds:
                found[name + ending] = labels | ({"le"} if ending == "_bucket" else set())
    assert found, page
    return found


@pytest.fixture(scope="module")
def served() -> Mapping[str, set[str]]:
    process = {"process_resident_memory_bytes": set[str](), "process_cpu_seconds_total": set[str]()}
    return (
        table("reference/metrics.md", "client_bandwidth")
        | table("metrics-and-alerts.md", "bandwidth_operator")
        | OWN_METRICS
        | recorded()
        | process
    )


def rules() -> list[dict[str, object]]:
    """All rules: alerts, and what is recorded for them."""
    found: list[dict[str, object]] = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    return found


def alerts() -> list[dict[str, object]]:
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> dict[str, set[str]]:
    """What rules record, with the labels that their expressions keep."""
    found: dict[str, set[str]] = {}
    for rule in rules():
        if "record" in rule:
            selectors, grouped = parsed(str(rule["expr"]))
            added = set(re.findall(r'label_replace\([^()]*?, "(\w+)",', str(rule["expr"])))
            found[str(rule["record"])] = grouped.union(added, *(found.get(metric, ()) for metric, _ in selectors))
    return found


def panels() -> Iterator[dict[str, object]]:
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    yield from (p for p in dashboard["panels"] if p["type"] != "row")


EXPRESSIONS = [pytest.param(str(r["expr"]), id=str(r.get("alert") or r["record"])) for r in rules()] + [
    pytest.param(str(t["expr"]), id=f"{p['title']}-{t['refId']}")
    for p in panels()
    for t in p["targets"]  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_asks_for_what_is_served(expression: str, served: Mapping[str, set[str]]) -> None:
    """Each metric is served, and each label that is compared or grouped by is one of the metric's."""
    selectors, grouped = parsed(expression)
    assert selectors
    for metric, labels in selectors:
        assert metric in served, f"{metric} is served by no program of ours"
        assert set(labels) <= served[metric] | TARGET_LABELS, f"{metric} has no such label"
    has = set[str]().union(*(served[metric] for metric, _ in selectors))
    assert grouped <= has | TARGET_LABELS


def test_every_variable_of_the_dashboard_is_served(served: Mapping[str, set[str]]) -> None:
    """What fills the choice of limits is a metric and a label of ours."""
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    queries = [v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    assert queries
    for query in queries:
        match = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
        assert match is not None
        assert match.group(2) in served[match.group(1)]


def test_panels_do_not_overlap() -> None:
    """The dashboard's grid has 24 columns, and each place is taken once."""
    taken: set[tuple[int, int]] = set()
    ids = []
    for panel in json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert all(x < 24 for x, _ in cells), panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
        ids.append(panel["id"])
    assert len(ids) == len(set(ids))


def test_every_alert_tells_what_to_do() -> None:
    """Name, severity, time, a sentence and a hint; the variables in them are labels that the expression keeps."""
    names = [r["alert"] for r in alerts()]
    assert len(names) == len(set(names))
    for rule in alerts():
        name = str(rule["alert"])
        assert name.startswith("ClientBandwidth")
        labels, annotations = rule["labels"], rule["annotations"]
        assert isinstance(labels, dict)
        assert isinstance(annotations, dict)
        assert labels["severity"] in {"info", "warning", "critical"}
        assert set(annotations) == {"summary", "description"}
        _, grouped = parsed(str(rule["expr"]))
        said = " ".join(annotations.values())
        kept = grouped or TARGET_LABELS
        assert set(re.findall(r"\$labels\.(\w+)", said)) <= kept, name


@pytest.mark.parametrize(
    ("expression", "selectors", "grouped"),
    [
        ("up == 0", [("up", {})], set()),
        ('sum by (a, b) (rate(x_total{c="1", d=~"2|3"}[5m])) > 3', [("x_total", {"c": "1", "d": "2|3"})], {"a", "b"}),
        ("(sum(a) or vector(0)) < 1", [("a", {})], set()),
        ('label_replace(a:b offset 23h30m, "day", "1", "", "") > 10e6', [("a:b", {})], set()),
        ("a / on (node) group_left b", [("a", {}), ("b", {})], {"node"}),
    ],
)
def test_expressions_are_read(expression: str, selectors: list[Selector], grouped: set[str]) -> None:
    """The reader of PromQL that the tests above stand on."""
    assert parsed(expression) == (selectors, grouped)
