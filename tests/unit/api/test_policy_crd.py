"""The CRD of policies and its models say the same: fields, bounds, defaults, and what they accept and refuse.

As in test_crd: what a CEL rule refuses passes the schema, names its rule by the message, and is refused by the models.
"""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import yaml

from bandwidth_api import conditions, names, units
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import policy
from unit import crd_schema

HERE = pathlib.Path(__file__).parent
CRD = yaml.safe_load((HERE.parents[2] / "deploy/crds/clientbandwidthpolicies.yaml").read_text())
VERSION = CRD["spec"]["versions"][0]
ROOT: crd_schema.Schema = VERSION["schema"]["openAPIV3Schema"]
CASES = yaml.safe_load((HERE / "policy-cases.yaml").read_text())
SMALLEST = CASES["accepted"][0]["spec"]


def document(case: dict[str, Any]) -> dict[str, object]:
    metadata = {"name": case.get("name", "fair-use"), "labels": {"team": "mail"}}
    return {"apiVersion": names.API_VERSION, "kind": names.POLICY_KIND, "metadata": metadata, "spec": case["spec"]}


@pytest.mark.parametrize("case", CASES["accepted"], ids=lambda case: case["why"])
def test_both_accept(case: dict[str, Any]) -> None:
    """The CRD's schema finds no fault, and the models make a policy of it."""
    assert list(crd_schema.faults(document(case), ROOT)) == []
    assert isinstance(policy.parse(document(case)), policy.Policy)


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: case["why"])
def test_both_refuse(case: dict[str, Any]) -> None:
    """The models name the one field at fault; in the CRD the schema does, or the CEL rule that the case names."""
    problems = policy.parse(document(case))
    assert isinstance(problems, tuple)
    assert [problem.field for problem in problems] == [case["field"]]
    found = list(crd_schema.faults(document(case), ROOT))
    if case["rule"] == "schema":
        assert found == [f".{case['field']}"]
    else:
        assert found == []
        assert case["rule"] in {message for _, message in crd_schema.cel_rules(ROOT)}


def test_every_cel_rule_has_a_case() -> None:
    """No CEL rule of the CRD is without a document that only it refuses."""
    rules = {message for _, message in crd_schema.cel_rules(ROOT)}
    assert rules == {case["rule"] for case in CASES["refused"]} - {"schema"}


def test_the_models_have_the_schema_of_the_crd() -> None:
    """Fields, types, bounds, patterns, choices, defaults and what is required are equal."""
    models = policy.Spec.model_json_schema()
    assert crd_schema.bare(ROOT["properties"]["spec"]) == crd_schema.modelled(models, models["$defs"])


def test_what_is_left_out_has_the_values_of_the_crd() -> None:
    """Everybody is watched, nobody is slowed, and the bounds are small."""
    found = policy.parse(document({"spec": SMALLEST}))
    assert isinstance(found, policy.Policy)
    spec = found.spec
    assert (spec.then.mode, spec.then.memory_seconds, spec.priority) == ("Observe", 86400, 0)
    assert (spec.when.rate, spec.when.uplink) == (policy.RateAbove(above="40Mbit", forSeconds=300), None)
    assert (spec.safety.max_limits, spec.safety.max_new_per_minute, spec.safety.exempt) == (10, 5, ())
    assert (spec.lift.when_below_percent, spec.lift.for_seconds) == (50, 300)
    assert [(each.family, each.length) for each in spec.watch.clients] == [(4, 0), (6, 0)]
    assert (spec.watch.group_by.ipv4, spec.watch.group_by.ipv6, spec.watch.scope) == (32, 64, "Node")


def test_every_field_is_described() -> None:
    """`kubectl explain` has something to say about each field, in sentences."""
    assert list(crd_schema.undescribed(ROOT)) == []


def test_names_agree() -> None:
    """Group, version and kind of the CRD are those by which the programs know a policy."""
    spec = CRD["spec"]
    assert (spec["group"], VERSION["name"], spec["names"]["kind"]) == (names.GROUP, names.VERSION, names.POLICY_KIND)
    assert CRD["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
    assert spec["names"]["plural"] == policy.PLURAL


def test_volumes_are_read_in_their_units() -> None:
    """Decimal and binary prefixes; bytes, and nothing else."""
    assert [units.parse_volume(text) for text in ("1M", "1Mi", "40Gi", "2T")] == [10**6, 2**20, 40 * 2**30, 2 * 10**12]
    for text in ("5", "5k", "0G", "1.5G", "5GB", "5Gbit", "1000000G"):
        with pytest.raises(ValueError, match="no volume"):
            units.parse_volume(text)


def test_a_policy_begins_with_nothing_known() -> None:
    """What is read before the operator wrote: no generation observed, and Ready Unknown with a reason of ours."""
    default = ROOT["properties"]["status"]["default"]
    assert list(crd_schema.faults(default, ROOT["properties"]["status"])) == []
    (condition,) = default["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "Unknown", Reason.PENDING)
    assert condition["type"] == conditions.ConditionType.READY


def test_no_default_lies_inside_of_a_list() -> None:
    """What is written in a list is what is stored, to the letter: tools that compare lists as a whole see no drift."""
    assert not [path for path in crd_schema.defaults(ROOT["properties"]["spec"], "spec") if "[]" in path]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (None, Problem(Reason.INVALID, "must be a ClientBandwidthPolicy object, found nothing")),
        (
            {"kind": "ConfigMap", "apiVersion": names.API_VERSION},
            Problem(Reason.INVALID, "must be ClientBandwidthPolicy, found 'ConfigMap'", "kind"),
        ),
        (
            document({"spec": {"when": SMALLEST["when"]}}),
            Problem(
                Reason.INVALID,
                "is required; write for example then: {steps: [{rate: 10Mbit, ttlSeconds: 600}]}",
                "spec.then",
            ),
        ),
    ],
)
def test_errors_say_what_to_write(written: object, found: Problem) -> None:
    """Each in the words of a policy, not of a limit."""
    assert policy.parse(written) == (found,)
