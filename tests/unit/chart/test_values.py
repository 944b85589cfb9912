"""The chart's values, their schema, and its copies, as far as no helm is needed to look at them."""

from __future__ import annotations

import functools
import importlib.util
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "client-bandwidth-operator"

# What Kubernetes or the cluster's people define, not we: any field.
FREE = {"affinity", "namespaceSelector", "podSelector", "ipBlock"}


@functools.cache
def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


@functools.cache
def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


def described(rules: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, below in rules.get("properties", {}).items():
        yield f"{path}{name}", below
        yield from described(below, f"{path}{name}.")


def test_values_and_schema_have_the_same_keys() -> None:
    """Each value that the schema allows has its default in values.yaml, and the other way round."""
    known = dict(described(schema()))
    for path, rules in known.items():
        at: Any = values()
        for name in path.split("."):
            if path == "global" or path.endswith((".claims", ".requests", ".limits")):
                break
            assert name in at, f"{path} has no default"
            at = at[name]
        assert rules.get("description"), f"{path} is not described"

    def look(at: object, path: str) -> None:
        if isinstance(at, dict) and (not path or known[path].get("additionalProperties") is False):
            for name, below in at.items():
                full = f"{path}.{name}" if path else name
                assert full in known, f"{full} is not in the schema"
                look(below, full)

    look(values(), "")


def test_no_value_of_ours_is_open() -> None:
    """Where we name the keys, any other key is refused."""
    for path, rules in [("", schema()), *described(schema())]:
        if "properties" in rules:
            assert rules["additionalProperties"] is False, path
        elif rules.get("type") == "object":
            free = path.split(".")[-1] in FREE or path == "global" or "additionalProperties" in rules
            assert free, path


def test_every_template_knows_the_defaults() -> None:
    """A value that the release before did not know yet has its default: each template completes the values first."""
    assert (CHART / "files" / "values.yaml").read_text() == (CHART / "values.yaml").read_text(), "make chart"
    for path in (CHART / "templates").rglob("*"):
        if path.is_file() and path.suffix != ".tpl":
            assert path.read_text().startswith('{{- include "cbo.complete" . -}}\n'), path


@functools.cache
def pages() -> dict[str, str]:
    """What deploy/helm/values_table.py makes now, by the file that it is kept in."""
    spec = importlib.util.spec_from_file_location("values_table", ROOT / "deploy" / "helm" / "values_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = {"chart": CHART / "README.md", "docs": ROOT / "docs" / "reference" / "values.md"}
    return {str(path.relative_to(ROOT)): module.page(kind) for kind, path in made.items()}


def test_the_tables_of_values_are_up_to_date() -> None:
    """The chart's README and the page of the documentation are what the comments of values.yaml make now."""
    for path, made in pages().items():
        assert (ROOT / path).read_text() == made, f"make chart brings {path} up to date"


def test_the_tables_have_every_value_and_say_what_it_does() -> None:
    """Each value that has no values of its own below it has one row, with a description."""
    blocks = {path for path, rules in described(schema()) if "properties" in rules}
    wanted = [path for path, _ in described(schema()) if path not in blocks and path != "global"]
    resources = {path for path in blocks if path.endswith(".resources")}
    wanted = [path for path in wanted if not any(path.startswith(f"{block}.") for block in resources)]
    for made in pages().values():
        rows = re.findall(r"^\| `([\w.]+)` \| ([\w ]+) \| `(.+)` \| (.{6,}) \|$", made, re.MULTILINE)
        assert {path for path, *_ in rows} == {*wanted, *resources}
        assert len(rows) == len({path for path, *_ in rows}) == made.count("\n| `")


def test_what_somebody_took_away_does_not_come_back() -> None:
    """Of a map whose keys are people's own, such as limits of memory, no default is put back one by one."""
    whole = re.search(r"\(list ((?:\"\w+\" ?)+)\)\)\) -}}", (CHART / "templates" / "_complete.tpl").read_text())
    assert whole is not None
    stops = set(re.findall(r"\w+", whole[1]))
    at_defaults = [
        path
        for path, rules in described(schema())
        if rules.get("type") == "object" and "properties" not in rules and path != "global" and default_of(path)
    ]
    assert at_defaults
    for path in at_defaults:
        assert stops & set(path.split(".")), path


def default_of(path: str) -> Any:
    at: Any = values()
    for name in path.split("."):
        at = at.get(name, {})
    return at


def test_the_crds_in_the_chart_are_those_of_deploy() -> None:
    """helm can only read what lies in the chart, so the CRDs are there a second time, byte for byte."""
    source = {p.name: p.read_bytes() for p in (ROOT / "deploy" / "crds").glob("*.yaml")}
    copies = {p.name: p.read_bytes() for p in (CHART / "files" / "crds").glob("*.yaml")}
    assert copies == source, "make chart brings the copies up to date"


def test_install_yaml_holds_the_crds_of_deploy() -> None:
    """What kubectl applies are the CRDs of deploy/crds, kept from deletion, and otherwise unchanged."""
    documents = list(yaml.safe_load_all((ROOT / "deploy" / "install.yaml").read_text()))
    installed = {d["metadata"]["name"]: d for d in documents if d["kind"] == "CustomResourceDefinition"}
    for path in (ROOT / "deploy" / "crds").glob("*.yaml"):
        wanted = yaml.safe_load(path.read_text())
        found = installed.pop(wanted["metadata"]["name"])
        assert found["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert found["metadata"].pop("labels")
        assert found == wanted
    assert not installed


def test_files_of_the_chart_are_clean_text() -> None:
    """Chart files are text with a line end, without tabs or trailing blanks."""
    for path in CHART.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert text.endswith("\n"), path
            assert not re.search(r"[ \t]\n|\t", text), path
