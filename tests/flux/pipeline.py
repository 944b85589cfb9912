"""The repository and the objects that follow it: those of deploy/gitops/flux, with another address and short times."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from bandwidth_lab import git_server
from bandwidth_lab.kind import cluster, flux, node, release, shell

LIMITS = "client-bandwidth-limits"
OPERATOR = "client-bandwidth-operator"
SHOWN = release.ROOT / "deploy/gitops/flux/limits.yaml"
INTERVAL = "3s"
WAIT = "90s"
CLIENT = "203.0.113.7"


def limit(name: str, rate: str, clients: Sequence[str] = (CLIENT,), **spec: Any) -> str:
    """The file of a limit."""
    document = {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "ClientBandwidthLimit",
        "metadata": {"name": name},
        "spec": {"clients": list(clients), "egress": {"rate": rate}, **spec},
    }
    return yaml.safe_dump(document)


def policy(name: str, rate: str, mode: str = "Enforce", **more: Any) -> str:
    """The file of a policy: who gets more than 12 Mbit/s over ten seconds gets this rate. `more`: fields of spec."""
    document = {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "ClientBandwidthPolicy",
        "metadata": {"name": name},
        "spec": {
            "when": {"rate": {"above": "12Mbit", "forSeconds": 10}},
            "then": {"mode": mode, "steps": [{"rate": rate, "ttlSeconds": 3600}]},
            **more,
        },
    }
    return yaml.safe_dump(document)


def manifests(*settings: str) -> dict[str, str]:
    """The programs as kustomize takes them, with the images that were built here.

    They are deploy/install.yaml; with words for helm's --set what the chart makes with these.
    """
    install = (release.ROOT / "deploy/install.yaml").read_text()
    if settings:
        namespace = install.partition("\n---\n")[0]
        words = [word for setting in settings for word in ("--set", setting)]
        chart = ["helm", "template", OPERATOR, str(release.CHART), "--namespace", release.NAMESPACE, "--no-hooks"]
        install = f"{namespace}\n{shell.run([*chart, *words])}"
    images = {
        found.partition("@")[0].rpartition(":")[0] for found in re.findall(r"^\s+image: \"?([^\s\"]+)", install, re.M)
    }
    chosen = [{"name": name, "newName": name.rpartition("/")[2], "newTag": release.TAG} for name in images]
    listed = {"resources": ["install.yaml"], "images": chosen}
    files = {"install.yaml": install, "kustomization.yaml": yaml.safe_dump(listed)}
    return {f"operator/{name}": text for name, text in files.items()}


class Pipeline:
    """A cluster in which everything of ours comes from Git."""

    def __init__(self, of: cluster.Cluster, server: git_server.GitServer, controllers: flux.Flux) -> None:
        self.cluster = of
        self.flux = controllers
        self._server = server
        source, limits = yaml.safe_load_all(SHOWN.read_text())
        source["spec"] |= {"url": server.url, "interval": INTERVAL}
        limits["spec"] |= {"retryInterval": INTERVAL, "timeout": WAIT}
        limits["spec"]["dependsOn"] = [{"name": OPERATOR}]
        operator = {
            "apiVersion": limits["apiVersion"],
            "kind": limits["kind"],
            "metadata": {**limits["metadata"], "name": OPERATOR},
            "spec": {
                **{key: limits["spec"][key] for key in ("interval", "retryInterval", "sourceRef", "prune", "wait")},
                "path": "./operator",
                "timeout": "5m",
            },
        }
        self.objects = (source, operator, limits)

    def follow(self) -> None:
        """Have Flux follow the repository."""
        self.cluster.apply(*self.objects)

    def commit(self, **files: str | None) -> str:
        """Commit files of the folder of limits, by name; returns the commit, which Flux finds by itself."""
        return self._server.commit({f"limits/{name}.yaml": text for name, text in files.items()})

    def commit_operator(self, *settings: str) -> str:
        """Commit the programs, as they are by default or with values of the chart."""
        return self._server.commit(manifests(*settings))

    def rates(self, of: node.Node) -> set[str]:
        """The rates of the classes that a node's kernel has."""
        printed = of.run("sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; tc class show dev cbl0", check=False)
        return set(re.findall(r"class htb 7cb1:\S+ .*?rate (\S+)", printed))

    def limits(self) -> Mapping[str, Mapping[str, Any]]:
        return {item["metadata"]["name"]: item for item in self.cluster.get("clientbandwidthlimits")["items"]}

    def made(self, by: str) -> Mapping[str, Mapping[str, Any]]:
        """By name the limits that a policy made."""
        return {
            name: item
            for name, item in self.limits().items()
            if item["metadata"].get("labels", {}).get("clientbandwidth.io/policy") == by
        }

    def versions(self) -> dict[str, str]:
        """The resource version of every object that Flux applied, and of the plan."""
        applied = [self.flux.inventory(name) for name in (OPERATOR, LIMITS)]
        listed = {"apiVersion": "v1", "kind": "List", "items": [one for each in applied for one in each]}
        printed = self.cluster.kubectl("get", "-f", "-", "-o", "json", stdin=json.dumps(listed))
        found = [*json.loads(printed)["items"], *self.cluster.get("bandwidthplanslices")["items"]]
        return {f"{one['kind']} {one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in found}
