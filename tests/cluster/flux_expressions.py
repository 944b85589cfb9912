"""What Flux makes of an object by the expressions of the file that we show, evaluated by the API server's own CEL."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

import yaml

from bandwidth_api import names
from bandwidth_kube import client
from cluster.world import LIMITS, POLICIES, Object, World
from gitops import lua

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
ORDER = ("inProgress", "failed", "current")  # in which Flux asks them
PATHS = {names.LIMIT_KIND: LIMITS, names.POLICY_KIND: POLICIES}
NAME = "flux-probe"


@contextlib.contextmanager
def asked(world: World, kind: str) -> Iterator[Callable[[str], str]]:
    """Yield a function from the name of an object of this kind to Flux's word for it; "": it cannot be said yet."""
    path = PATHS[kind]

    def ask(name: str) -> str:
        body = {"metadata": {"labels": {NAME: "yes"}}}
        try:
            world.api.request("PATCH", f"{path}/{name}?dryRun=All", body=body, content_type=client.MERGE_PATCH)
        except client.RefusedError as refused:
            words = refused.message.rpartition(": ")[2].split()
            return next((word for word in words if word != "-"), "inProgress")
        return ""  # not in force yet

    policy, binding = _probe(kind, path.rpartition("/")[2])
    world.api.request("POST", f"{ADMISSION}/validatingadmissionpolicies", body=policy)
    world.api.request("POST", f"{ADMISSION}/validatingadmissionpolicybindings", body=binding)
    yield ask
    world.api.request("DELETE", f"{ADMISSION}/validatingadmissionpolicybindings/{NAME}")
    world.api.request("DELETE", f"{ADMISSION}/validatingadmissionpolicies/{NAME}")


def _probe(kind: str, resource: str) -> tuple[Object, Object]:
    """An admission policy that refuses what has the label, with the words that are true of it; and its binding."""
    manifests = yaml.safe_load_all((lua.ARGO_CD.parent / "flux" / "limits.yaml").read_text())
    (kustomization,) = (each for each in manifests if each["kind"] == "Kustomization")
    (rules,) = (each for each in kustomization["spec"]["healthCheckExprs"] if each["kind"] == kind)
    # Flux gives the fields of the object as variables, an admission policy the object.
    written = {word: re.sub(r"(?<![\w.])(status|metadata|spec)\.", r"object.\1.", rules[word]) for word in ORDER}
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [names.GROUP],
                        "apiVersions": ["*"],
                        "operations": ["UPDATE"],
                        "resources": [resource],
                    }
                ]
            },
            "matchConditions": [
                {
                    "name": "asked",
                    "expression": f"has(object.metadata.labels) && '{NAME}' in object.metadata.labels",
                }
            ],
            "validations": [
                {
                    "expression": "false",
                    "messageExpression": " + ' ' + ".join(
                        f"({expression} ? '{word}' : '-')" for word, expression in written.items()
                    ),
                }
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": NAME},
        "spec": {"policyName": NAME, "validationActions": ["Deny"]},
    }
    return policy, binding
