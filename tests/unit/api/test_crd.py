"""The CRD and the models say the same: fields, limits, defaults, and what they accept and refuse.

CEL is not evaluated here: a case that a CEL rule refuses passes the CRD's schema, names its rule by the message, and is
refused by the models. The cases are data, so that a real API server can be asked the same.
"""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml

from bandwidth_api import conditions, names, units
from bandwidth_api.crds import limit
from unit import crd_schema

HERE = pathlib.Path(__file__).parent
CRD = yaml.safe_load((HERE.parents[2] / "deploy/crds/clientbandwidthlimits.yaml").read_text())
VERSION = CRD["spec"]["versions"][0]
ROOT: crd_schema.Schema = VERSION["schema"]["openAPIV3Schema"]
CASES = yaml.safe_load((HERE / "limit-cases.yaml").read_text())
ACCEPTED = [pytest.param(case["spec"], id=case["why"]) for case in CASES["accepted"]]
REFUSED = [pytest.param(case["spec"], case["field"], case["rule"], id=case["why"]) for case in CASES["refused"]]


def document(spec: object) -> dict[str, object]:
    metadata = {"name": "a", "labels": {"team": "mail"}}
    return {"apiVersion": names.API_VERSION, "kind": names.LIMIT_KIND, "metadata": metadata, "spec": spec}


# ── the two together ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spec", ACCEPTED)
def test_both_accept(spec: object) -> None:
    """The CRD's schema finds no fault, and the models make a limit of it."""
    assert list(crd_schema.faults(document(spec), ROOT)) == []
    assert isinstance(limit.parse(document(spec)), limit.Limit)


@pytest.mark.parametrize(("spec", "field", "rule"), REFUSED)
def test_both_refuse(spec: object, field: str, rule: str) -> None:
    """The models name the one field at fault; in the CRD the schema does, or the CEL rule that the case names."""
    problems = limit.parse(document(spec))
    assert isinstance(problems, tuple)
    assert [problem.field for problem in problems] == [field]
    found = list(crd_schema.faults(document(spec), ROOT))
    if rule == "schema":
        assert found == [f".{field}"]
    else:
        assert found == []
        assert rule in {message for _, message in crd_schema.cel_rules(ROOT)}


def test_every_cel_rule_has_a_case() -> None:
    """No CEL rule of the CRD is without a document that only it refuses."""
    assert {message for _, message in crd_schema.cel_rules(ROOT)} == {case["rule"] for case in CASES["refused"]} - {
        "schema"
    }


def test_the_models_have_the_schema_of_the_crd() -> None:
    """Fields, types, bounds, patterns, choices, defaults and what is required are equal."""
    models = limit.Spec.model_json_schema()
    assert crd_schema.bare(ROOT["properties"]["spec"]) == crd_schema.modelled(models, models["$defs"])


def test_every_field_is_described() -> None:
    """`kubectl explain` has something to say about each field, in sentences."""
    assert list(crd_schema.undescribed(ROOT, "")) == []


def test_names_agree() -> None:
    """Group, version and kind of the CRD are those by which the programs know a limit."""
    spec = CRD["spec"]
    assert (spec["group"], VERSION["name"], spec["names"]["kind"]) == (names.GROUP, names.VERSION, names.LIMIT_KIND)
    assert CRD["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"


def test_units_have_the_patterns_of_the_crd() -> None:
    """The grammar of rates and bursts is that of the CRD."""
    egress = ROOT["properties"]["spec"]["properties"]["egress"]["properties"]
    assert egress["rate"]["pattern"] == units.RATE_PATTERN
    assert egress["burst"]["pattern"] == units.BURST_PATTERN


def test_conditions_fit_the_crd() -> None:
    """Every status and reason that the programs can write is one that the CRD accepts."""
    properties = ROOT["properties"]["status"]["properties"]["conditions"]["items"]["properties"]
    assert {status.value for status in conditions.Status} == set(properties["status"]["enum"])
    assert all(re.search(properties["reason"]["pattern"], reason) for reason in conditions.Reason)
    assert properties["message"]["maxLength"] == conditions.MESSAGE_MAX
    assert len(conditions.ConditionType) <= ROOT["properties"]["status"]["properties"]["conditions"]["maxItems"]


def test_a_limit_begins_with_nothing_known() -> None:
    """What is read before the operator wrote: no generation observed, and Ready Unknown with a reason of ours."""
    default = ROOT["properties"]["status"]["default"]
    assert list(crd_schema.faults(default, ROOT["properties"]["status"])) == []
    assert default["observedGeneration"] == 0
    (condition,) = default["conditions"]
    assert condition["type"] == conditions.ConditionType.READY
    assert condition["status"] == conditions.Status.UNKNOWN
    assert condition["reason"] == conditions.Reason.PENDING


def test_no_default_lies_inside_of_a_list() -> None:
    """What is written in a list is what is stored, to the letter: tools that compare lists as a whole see no drift."""
    found = list(crd_schema.defaults(ROOT["properties"]["spec"], "spec"))
    assert found == ["spec.egress.sharing", "spec.egress.distribution", "spec.mode", "spec.priority"]
