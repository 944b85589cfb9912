"""The renders of the chart against the schemas that Kubernetes publishes, of each version that the chart is for."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import referencing

from unit.chart import renders

VERSIONS = ("1.31", "1.32", "1.33", "1.34", "1.35")
SCHEMAS = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
# Kinds of others, and ours: Kubernetes publishes no schema for them.
NOT_OF_KUBERNETES = {"PodMonitor", "PrometheusRule"}


@functools.cache
def schema(version: str, name: str) -> Any:
    return json.loads((SCHEMAS / f"v{version}.0-local-strict" / f"{name}.json").read_text())


@functools.cache
def validator(version: str, kind: str, api_version: str) -> jsonschema.Draft202012Validator:
    """As kubernetes_validate.validate makes it, which reads a megabyte of schemas for each object."""
    group, _, last = api_version.rpartition("/")
    short = f"{group.split('.')[0]}-{last}" if group else last
    resources = (
        referencing.Resource.from_contents(schema(version, name))
        for name in ("_definitions", f"{kind.lower()}-{short}")
    )
    registry: referencing.Registry[Any] = referencing.Registry()
    for resource in resources:
        registry = resource @ registry
    return jsonschema.Draft202012Validator(schema(version, f"{kind.lower()}-{short}"), registry=registry)


def complaints(document: dict[str, Any], version: str) -> list[str]:
    """What the schema of a version says against an object."""
    found = validator(version, document["kind"], document["apiVersion"]).iter_errors(document)
    where = f"{document['kind']}/{document['metadata']['name']}"
    return [f"{where}: {'.'.join(map(str, each.path))}: {each.message[:200]}" for each in found]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", renders.NAMES)
def test_each_render_is_valid_for_each_version(name: str, version: str) -> None:
    """No object has a field that this version does not know, lacks one, or has one of the wrong type."""
    documents = [each for each in renders.objects(name) if each["kind"] not in NOT_OF_KUBERNETES]
    assert {"DaemonSet", "Deployment", "ValidatingAdmissionPolicy"} <= {each["kind"] for each in documents}
    assert [said for each in documents for said in complaints(each, version)] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_wrong_is_found(version: str) -> None:
    """A field that does not exist and a value of the wrong type are named: the schemas are the strict ones."""
    (found,) = [each for each in renders.objects("install") if each["kind"] == "DaemonSet"]
    document = json.loads(json.dumps(found))
    document["spec"]["template"]["spec"]["hostNetworks"] = True
    document["spec"]["minReadySeconds"] = "5s"
    said = "\n".join(complaints(document, version))
    assert "hostNetworks" in said
    assert "minReadySeconds" in said
    assert not complaints(found, version)


def test_all_versions_are_there() -> None:
    """The package has the schemas of every version that is tested, and the chart's oldest is among them."""
    there = {path.name.removeprefix("v").removesuffix(".0-local-strict") for path in SCHEMAS.glob("*-strict")}
    assert set(VERSIONS) <= there
    assert f'kubeVersion: ">={VERSIONS[0]}.0-0"' in (renders.CHART / "Chart.yaml").read_text()
