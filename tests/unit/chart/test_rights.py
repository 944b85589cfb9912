"""What the two programs may do in a cluster, by the rights that deploy/install.yaml gives them."""

from __future__ import annotations

import collections
import functools
import pathlib
from typing import Any

import yaml

INSTALL = pathlib.Path(__file__).parents[3] / "deploy" / "install.yaml"
READS = {"get", "list", "watch"}
OURS = "clientbandwidth.io"


@functools.cache
def objects() -> tuple[dict[str, Any], ...]:
    return tuple(each for each in yaml.safe_load_all(INSTALL.read_text()) if each)


def rights(program: str) -> dict[tuple[str, str], set[str]]:
    """By group and resource, all verbs that the roles of a program give."""
    roles = {(each["kind"], each["metadata"]["name"]): each for each in objects() if each["kind"].endswith("Role")}
    found: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for binding in objects():
        if binding["kind"].endswith("RoleBinding") and any(
            who["name"] == f"client-bandwidth-{program}" for who in binding["subjects"]
        ):
            for rule in roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]["rules"]:
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        found[group, resource] |= set(rule["verbs"])
    return found


def test_every_object_of_ours_has_one_writer() -> None:
    """As ARCHITECTURE.md says: no resource that one program makes or changes may be made or changed by the other."""
    operator, agent = rights("operator"), rights("agent")
    assert operator.keys() >= {(OURS, "bandwidthplanslices")}
    assert agent.keys() >= {(OURS, "nodebandwidthstates")}
    changes = {"create", "update", "patch"}
    both = {resource for resource in operator.keys() & agent.keys() if changes & operator[resource] & agent[resource]}
    assert both == set()


def test_no_program_may_change_what_people_write() -> None:
    """Neither may change or delete a limit; the operator may make one, to which a policy lets it by dry run alone."""
    assert rights("operator")[OURS, "clientbandwidthlimits"] - READS == {"create"}
    assert not rights("agent")[OURS, "clientbandwidthlimits"]
    assert rights("operator")[OURS, "clientbandwidthpolicies"] == READS
    assert not rights("agent")[OURS, "clientbandwidthpolicies"]


def test_no_right_is_more_than_what_is_named() -> None:
    """No `*`, and no Secrets, pods or other objects of people, for any role of ours."""
    for role in (each for each in objects() if each["kind"].endswith("Role")):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], role["metadata"]["name"]
            assert not {"secrets", "pods", "configmaps"} & set(rule["resources"]), role["metadata"]["name"]
    for program in ("operator", "agent"):
        written = {group for (group, _), verbs in rights(program).items() if verbs - READS}
        assert written <= {OURS, "", "coordination.k8s.io"}
        core = {resource for (group, resource), verbs in rights(program).items() if group == "" and verbs - READS}
        assert core <= {"events"}
