"""The limit that a policy makes: what stands in it, and how it is known again."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bandwidth_api import names
from bandwidth_api.crds import limit
from bandwidth_api.crds.limit import Limit
from bandwidth_api.policy import made_limit
from bandwidth_api.policy.decision import Decision, What
from unit.api.policy import scenes

CLIENT = scenes.client("2001:db8:7:1::/64")
NOW = scenes.EPOCH


def document(**changes: Any) -> dict[str, Any]:
    policy = scenes.policy(**changes)
    called = made_limit.name("fair", CLIENT)
    why = "more than 40 Mbit over 300 s; 47 Mbit now on edge"
    return made_limit.document(
        policy, Decision(NOW, "fair", CLIENT, What.STEPPED, why, True, called, 2, 10_000_000, NOW + 3600.9)
    )


def read(written: dict[str, Any]) -> made_limit.Made | None:
    found = limit.parse(written)
    assert isinstance(found, Limit), found
    return made_limit.read(found, NOW)


def test_it_is_a_limit_and_known_again() -> None:
    """All of it: owner, label, step, end, reason with figures; ports and nodes are those of the policy."""
    expressions = [{"key": "zone", "operator": "NotIn", "values": ["a", "b"]}, {"key": "spare", "operator": "Exists"}]
    written = document(
        watch__ports=[{"port": 993}, {"protocol": "UDP", "port": 1, "endPort": 9}],
        watch__nodeSelector={"matchExpressions": expressions},
        then__labels={"team": "mail"},
        then__reason="fair use",
    )
    assert written["metadata"]["labels"] == {"team": "mail", names.POLICY: "fair"}
    assert [(each["kind"], each["name"], each["uid"]) for each in written["metadata"]["ownerReferences"]] == [
        (names.POLICY_KIND, "fair", "u")
    ]
    spec = written["spec"]
    assert spec["clients"] == ["2001:db8:7:1::/64"]
    assert spec["egress"] == {
        "rate": "10Mbit",
        "ports": [{"protocol": "TCP", "port": 993}, {"protocol": "UDP", "port": 1, "endPort": 9}],
    }
    assert spec["nodeSelector"] == {"matchExpressions": expressions}
    assert spec["reason"].startswith("fair use; policy fair, step 2 of 3: more than 40 Mbit over 300 s")
    made = read(written)
    assert made is not None
    assert (made.policy, made.client, made.step, made.rate_bits_per_second) == ("fair", CLIENT, 2, 10_000_000)
    assert made.expires_at == NOW + 3600  # never later than was decided


def test_labels_of_nodes_stay_labels() -> None:
    """The form in which most people write a selector."""
    written = document(watch__nodeSelector={"matchLabels": {"role": "edge", "zone": "a"}})
    assert written["spec"]["nodeSelector"] == {"matchLabels": {"role": "edge", "zone": "a"}}


def test_the_reason_fits() -> None:
    """However long the words of the policy and the figures are."""
    assert len(document(then__reason="x" * 160)["spec"]["reason"]) <= made_limit.REASON_MAX


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "fair-0123456789"),
        ("metadata.labels", {}),
        ("metadata.labels", {names.POLICY: "other"}),
        ("spec.clients", ["2001:db8:7:2::/64"]),
        ("spec.clients", ["2001:db8:7:1::/64", "2001:db8:7:2::/64"]),
        ("spec.expiresAt", None),
        ("spec.mode", "Observe"),
        ("spec.mode", "Disabled"),
    ],
)
def test_what_a_person_made_of_it_is_a_persons(path: str, value: object) -> None:
    """Another name, client, mode or label, or no end."""
    written = copy.deepcopy(document())
    part, name = path.split(".")
    written[part][name] = value
    assert read(written) is None


def test_odd_labels_and_annotations_are_no_errors() -> None:
    """They are others' business; a step that cannot be read is the first."""
    for found in (None, {}, {names.POLICY_STEP: "9"}, {names.POLICY_STEP: 2}, [], "x"):
        written = document()
        written["metadata"]["annotations"] = found
        made = read(written)
        assert made is not None
        assert made.step == 1
    for labels in ([], "x", {names.POLICY: 5}, {1: 2}):
        written = document()
        written["metadata"]["labels"] = labels
        assert read(written) is None


def test_names_are_short_and_of_the_client_alone() -> None:
    """One name for a client in each policy, at most 51 characters."""
    assert made_limit.name("fair", CLIENT) == made_limit.name("fair", scenes.client("2001:db8:7:1::/64"))
    assert (
        len({made_limit.name(policy, scenes.client(text)) for policy in "ab" for text in ("10.0.0.1", "10.0.0.2")}) == 4
    )
    assert len(made_limit.name("p" * 40, CLIENT)) == 51
