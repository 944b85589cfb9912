"""What Chart.yaml says of the chart to those who look for one."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlsplit

import yaml

from unit.chart import renders


def chart() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((renders.CHART / "Chart.yaml").read_text())
    return found


def test_the_icon_is_in_the_chart() -> None:
    """It is docs/images/icon.svg itself, so that nobody who shows it asks another host."""
    kind, _, data = chart()["icon"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data, validate=True) == (renders.ROOT / "docs/images/icon.svg").read_bytes()


def test_people_and_places_are_named() -> None:
    """Home, sources and maintainers are there, and every address is one of https."""
    found = chart()
    addresses = [found["home"], *found["sources"], *(who["url"] for who in found["maintainers"])]
    assert all(who["name"] for who in found["maintainers"])
    assert {urlsplit(each).scheme for each in addresses} == {"https"}


def test_artifact_hub_is_told_of_every_kind() -> None:
    """The annotation lists the CRDs that the chart brings, with their versions, and describes each."""
    wanted = set()
    for path in (renders.ROOT / "deploy" / "crds").glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        wanted |= {(crd["metadata"]["name"], crd["spec"]["names"]["kind"], v["name"]) for v in crd["spec"]["versions"]}
    listed = yaml.safe_load(chart()["annotations"]["artifacthub.io/crds"])
    assert {(each["name"], each["kind"], each["version"]) for each in listed} == wanted
    assert all(each["displayName"] and each["description"] for each in listed)


def test_the_example_for_artifact_hub_is_a_limit() -> None:
    """It has no field that the schema does not know, and all that it asks for."""
    crd = yaml.safe_load((renders.ROOT / "deploy/crds/clientbandwidthlimits.yaml").read_text())
    rules = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for example in yaml.safe_load(chart()["annotations"]["artifacthub.io/crdsExamples"]):
        assert example["kind"] == crd["spec"]["names"]["kind"]
        assert set(rules["required"]) <= set(example["spec"]) <= set(rules["properties"])
