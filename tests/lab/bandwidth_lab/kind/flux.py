"""Flux's source-controller and kustomize-controller as programs beside a kind cluster, and what they say of it.

Their programs are those of PATH; their kinds of objects (CRDs) those of the folder FLUX_CRDS, or of `flux/crds` beside
the folder of the programs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

from bandwidth_lab.kind import shell
from bandwidth_lab.kind.cluster import Cluster

NAMESPACE = "flux-system"
PROGRAMS = ("source-controller", "kustomize-controller")
REQUEST = "reconcile.fluxcd.io/requestedAt"
START_SECONDS = 60.0


def lacking() -> str:
    """Return what is missing for this on this machine; "" where nothing is."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent:
        return f"{' and '.join(absent)} of Flux not in PATH"
    return "" if list(_crds().glob("*.yaml")) else f"no CRDs of Flux in {_crds()}; FLUX_CRDS names another folder"


def _crds() -> pathlib.Path:
    program = shutil.which(PROGRAMS[0]) or ""
    return pathlib.Path(os.environ.get("FLUX_CRDS") or pathlib.Path(program).parent.parent / "flux/crds")


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What a Kustomization says of itself."""

    ready: str  # "True", "False" or "Unknown"
    reason: str
    message: str
    applied: str  # the commit that was last applied and found healthy
    tried: str  # the commit that was last tried
    current: bool  # it speaks of the object as it is


class Flux:
    """Both controllers, running."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def kustomization(self, name: str) -> State:
        item = self._cluster.get("-n", NAMESPACE, f"kustomization/{name}")
        status = item.get("status", {})
        ready: Mapping[str, str] = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
        return State(
            ready.get("status", "Unknown"),
            ready.get("reason", ""),
            ready.get("message", ""),
            _commit(status.get("lastAppliedRevision", "")),
            _commit(status.get("lastAttemptedRevision", "")),
            status.get("observedGeneration") == item["metadata"]["generation"],
        )

    def ready(self, name: str, commit: str) -> bool:
        """Whether a Kustomization says that a commit is applied and healthy."""
        state = self.kustomization(name)
        return state.current and state.ready == "True" and state.applied == commit

    def await_ready(self, name: str, commit: str, *, seconds: float = 120.0) -> None:
        """Wait until a Kustomization is ready with this commit."""
        try:
            shell.eventually(f"{name} is ready", lambda: self.ready(name, commit), seconds=seconds)
        except TimeoutError as late:
            raise TimeoutError(f"{late}\n{self.kustomization(name)}") from None

    def reconciled(self, name: str) -> None:
        """Have a Kustomization reconciled once more, whether there is a commit or not, and wait for the end of it."""
        token, which = str(time.time_ns()), f"kustomization/{name}"
        self._cluster.kubectl("-n", NAMESPACE, "annotate", "--overwrite", which, f"{REQUEST}={token}")

        def handled() -> bool:
            item = self._cluster.get("-n", NAMESPACE, which)
            ready = next(c for c in item["status"]["conditions"] if c["type"] == "Ready")
            return bool(item["status"].get("lastHandledReconcileAt") == token and ready["status"] == "True")

        shell.eventually(f"{name} is reconciled again", handled, seconds=120)

    def inventory(self, name: str) -> list[Mapping[str, Any]]:
        """The objects that a Kustomization has applied: their kinds and names alone."""
        item = self._cluster.get("-n", NAMESPACE, f"kustomization/{name}")
        return [_named(entry["id"], entry["v"]) for entry in item["status"]["inventory"]["entries"]]


def _named(identity: str, version: str) -> Mapping[str, Any]:
    """The object of namespace_name_group_kind, in which a colon of a name is two underlines."""
    namespace, _, rest = identity.partition("_")
    name, group, kind = rest.rsplit("_", 2)
    metadata = {"name": name.replace("__", ":"), **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": f"{group}/{version}" if group else version, "kind": kind, "metadata": metadata}


def _commit(revision: str) -> str:
    """The commit of a revision such as main@sha1:0123…"""
    return revision.rpartition(":")[2]


@contextlib.contextmanager
def running(cluster: Cluster, folder: pathlib.Path) -> Iterator[Flux]:
    """Both controllers, with their logs in `folder`."""
    cluster.kubectl("apply", "--server-side", *(word for path in _crds().glob("*.yaml") for word in ("-f", str(path))))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s", timeout=70)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    storage, *ports = _free_ports(5)
    served = f"127.0.0.1:{storage}"
    stored = ("--storage-path", str(folder / "artifacts"), "--storage-addr", served, "--storage-adv-addr", served)
    (folder / "artifacts").mkdir(parents=True)
    options = {PROGRAMS[0]: stored, PROGRAMS[1]: ("--requeue-dependency", "1s")}
    with contextlib.ExitStack() as stack:
        started = {}
        for name in PROGRAMS:
            listening = ("--health-addr", f"127.0.0.1:{ports.pop()}", "--metrics-addr", f"127.0.0.1:{ports.pop()}")
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", name, *listening, *options[name]],
                stdout=log,
                stderr=log,
                env={**cluster.environment(), "RUNTIME_NAMESPACE": NAMESPACE, "TUF_ROOT": str(folder / "tuf")},
            )
            stack.callback(_end, process)
            started[name] = process
        yield Flux(cluster)
        ended = [name for name, process in started.items() if process.poll() is not None]
        assert not ended, f"{ended} ended by itself; its log is in {folder}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # there is nothing that it has to finish
    process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]
