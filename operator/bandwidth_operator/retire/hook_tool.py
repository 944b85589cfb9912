"""The tools that run hooks when they remove an installation, and how each marks one as its own. Pure.

For `kubectl apply` a chart's hook is an object like any other, which it runs at once. Helm and Argo CD mark the objects
that they manage, a plain apply does not; so the job of a hook looks for the mark of its tool on its own service
account, which exists as long as the job runs.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

SERVICE_ACCOUNT = "client-bandwidth-operator"  # whose mark is looked for, as the chart names it


class Tool(enum.Enum):
    HELM = "helm"
    ARGO_CD = "argo-cd"


# Of each, the annotation that it writes into every object that it manages. Labels prove nothing: many tools set the one
# that Argo CD can use instead, app.kubernetes.io/instance.
_MARKS: Mapping[Tool, str] = {
    Tool.HELM: "meta.helm.sh/release-name",
    Tool.ARGO_CD: "argocd.argoproj.io/tracking-id",
}


def managed_by(tool: Tool, managed: Mapping[str, Any]) -> bool:
    """Return whether the tool manages the object."""
    annotations = (managed.get("metadata") or {}).get("annotations") or {}
    return bool(annotations.get(_MARKS[tool]))


def refusal(tool: Tool) -> str:
    """Return the message for an object that the tool does not manage, with what to do."""
    return (
        f"this is a hook of {tool.value}, which does not manage this installation (the service account"
        f" {SERVICE_ACCOUNT} has no annotation {_MARKS[tool]}), so somebody applied the hook with all the rest."
        " Delete the job, and apply the chart without its hooks (helm template --no-hooks). To end the installation:"
        " bandwidth-operator retire in a pod of the operator, then delete the objects."
    )
