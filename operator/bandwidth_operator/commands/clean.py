"""`clean`: ends with one node that no agent runs on any more, when the DaemonSet leaves it out.

Takes the node's state away, so that no limit counts it, and prints a Pod that removes what is ours from its kernel:
the DaemonSet's own pod, put on that node, with another command. The administrator creates it; the operator may not.
Never touches a kernel. An agent that runs there after all writes its state again and does not let the Pod begin.
"""

from __future__ import annotations

import hashlib
import json

from bandwidth_api.kinds import Kind
from bandwidth_kube import client, connection
from bandwidth_operator.commands.options import Options
from bandwidth_runtime import result

USER_AGENT = "client-bandwidth-operator clean"
NAME = "client-bandwidth-clean"
CONTAINER = "agent"
# The options of the agent that describe the host, which `bandwidth-agent cleanup` has as well.
KEPT = ("--state-dir", "--iptables-backend", "--mark-mask", "--redirect-mark", "--log-format", "--log-level")


class CannotCleanError(Exception):
    """There is nothing to make the Pod from; the message names what to do."""


def pod(daemonset: client.Object, node: str) -> client.Object:
    """Return the Pod that cleans a node. Pure. Raises CannotCleanError."""
    try:
        template = daemonset["spec"]["template"]["spec"]
        agent = next(each for each in template["containers"] if each["name"] == CONTAINER)
        namespace = daemonset["metadata"]["namespace"]
    except (KeyError, TypeError, StopIteration) as error:
        raise CannotCleanError("the DaemonSet has no container called agent; name the one of the agents") from error
    words = [str(word) for word in agent.get("args") or ()]
    dropped = ("args", "ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle")
    container = {key: value for key, value in agent.items() if key not in dropped}
    spec = {key: value for key, value in template.items() if key not in ("affinity", "nodeSelector", "initContainers")}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{NAME}-{hashlib.sha256(node.encode()).hexdigest()[:10]}",  # a node's name may be too long
            "namespace": namespace,
            # Not those that the DaemonSet selects by: it would take the pod for one of its own and delete it.
            "labels": {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "client-bandwidth-operator"},
            "annotations": {"clientbandwidth.io/node": node},
        },
        "spec": spec
        | {
            "nodeName": node,
            "restartPolicy": "OnFailure",
            "tolerations": [{"operator": "Exists"}],
            "containers": [container | {"args": ["cleanup", *_kept(words)]}],
        },
    }


def _kept(words: list[str]) -> list[str]:
    found = []
    for number, word in enumerate(words):
        option, _, value = word.partition("=")
        if option in KEPT:
            found.append(word)
            if not value and number + 1 < len(words):
                found.append(words[number + 1])
    return found


def main(options: Options) -> int:
    """Delete the node's state and print the Pod; return the exit code."""
    api = client.Client(connection.load(options.kubeconfig), USER_AGENT)
    try:
        api.request("GET", f"{Kind.NODE.path}/{options.node}")
        found = api.request("GET", f"/apis/apps/v1/namespaces/{options.namespace}/daemonsets/{options.daemonset}")
        made = pod(found, options.node)
        _forget(api, options.node)
    except (client.ApiError, CannotCleanError) as error:
        return _fail(str(error))
    finally:
        api.close()
    print(json.dumps(made, indent=2))  # noqa: T201
    name, namespace = made["metadata"]["name"], options.namespace
    for line in (
        f"{options.node} is counted no more once it would have been silent. Make the Pod (kubectl create -f -), then:",
        f"  kubectl -n {namespace} wait pod/{name} --for=jsonpath='{{.status.phase}}'=Succeeded --timeout=2m",
        f"  kubectl -n {namespace} logs {name}; kubectl -n {namespace} delete pod {name}",
    ):
        result.complain(line)
    return 0


def _forget(api: client.Client, node: str) -> None:
    try:
        api.request("DELETE", f"{Kind.STATE.path}/{node}")
    except client.RefusedError as refused:
        if refused.status != 404:
            raise


def _fail(why: str) -> int:
    result.complain(f"bandwidth-operator: {why}")
    return 1
