"""`version`: of the plugin, of kubectl, and of what runs in the cluster."""

from __future__ import annotations

import argparse

from bandwidth_cli import cluster, outcome, release
from bandwidth_cli.kubectl import paths
from bandwidth_cli.kubectl.failures import KubectlError
from bandwidth_cli.kubectl.program import Json, Kubectl
from bandwidth_cli.outcome import FailedError
from bandwidth_cli.text import page


def run(options: argparse.Namespace, kubectl: Kubectl) -> int:
    """Print the versions; return the exit code."""
    found: Json = {"plugin": release.VERSION}
    code = outcome.DONE
    if not options.client:
        try:
            server = kubectl.get(paths.VERSION)
            found["kubernetes"] = str(server.get("gitVersion", ""))
            states = cluster.states(kubectl)
            found["agents"] = sorted({version for state in states if (version := getattr(state, "version", ""))})
        except KubectlError as error:
            page.note(f"the cluster does not answer: {error.text}")
            code = outcome.FAILED
        except FailedError as error:
            page.note(str(error))
            code = outcome.FAILED
    if options.output != "text":
        page.show_object(found, options.output)
        return code
    page.show([f"kubectl-cbl {found['plugin']}"])
    if "kubernetes" in found:
        page.show([f"Kubernetes {found['kubernetes']}"])
    if "agents" in found:
        page.show([f"agents {', '.join(found['agents']) or 'none report'}"])
    return code
