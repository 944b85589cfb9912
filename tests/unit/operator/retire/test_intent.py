"""Whether a hook was started by the tool whose hook it is."""

from __future__ import annotations

from typing import Any

import pytest

from bandwidth_operator.retire import hook_tool
from bandwidth_operator.retire.hook_tool import Tool

HELM = {"annotations": {"meta.helm.sh/release-name": "cbo", "meta.helm.sh/release-namespace": "net"}}
KUBECTL = {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}
ARGO_CD = {"annotations": {"argocd.argoproj.io/tracking-id": "cbo:/ServiceAccount:net/client-bandwidth-operator"}}
LABEL = {"labels": {"app.kubernetes.io/instance": "cbo"}}
CHART = {"labels": {"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "client-bandwidth-operator-1.0.0"}}


@pytest.mark.parametrize(
    ("metadata", "tools"),
    [
        (HELM, {Tool.HELM}),
        (ARGO_CD, {Tool.ARGO_CD}),
        (LABEL, set()),  # which kustomize and others set, too
        (KUBECTL, set()),
        (CHART, set()),  # the template says so of itself, whoever applies it
        ({"annotations": {"meta.helm.sh/release-name": ""}}, set()),
        ({"annotations": None}, set()),
        ({}, set()),
    ],
)
def test_only_the_mark_of_a_tool_is_its_intent(metadata: dict[str, Any], tools: set[Tool]) -> None:
    """What a tool writes into what it manages counts; what the chart says of itself, or a plain apply, does not."""
    assert {tool for tool in Tool if hook_tool.managed_by(tool, {"metadata": metadata})} == tools


def test_a_refusal_names_what_was_looked_for_and_what_to_do() -> None:
    """Object, mark, and both ways on: without hooks, or the end by hand."""
    text = hook_tool.refusal(Tool.HELM)
    for part in (
        "service account client-bandwidth-operator",
        "meta.helm.sh/release-name",
        "--no-hooks",
        "bandwidth-operator retire",
    ):
        assert part in text
