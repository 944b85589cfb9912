"""Reads from the cluster what the verbs need; what fails is worded for whoever called. Decides nothing about limits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from bandwidth_cli.kubectl import failures, paths
from bandwidth_cli.kubectl.failures import Asked, KubectlError
from bandwidth_cli.kubectl.program import Json, Kubectl
from bandwidth_cli.objects import limits
from bandwidth_cli.objects.limits import Limit
from bandwidth_cli.outcome import FailedError

if TYPE_CHECKING:
    from bandwidth_api.crds.node_state import NodeState, UnreadableState
    from bandwidth_cli.objects.nodes import Node
    from bandwidth_cli.objects.policies import Policy

T = TypeVar("T")

NODES_MAX = 5000  # beyond that their addresses are not looked at


@contextlib.contextmanager
def worded(act: str, resource: str, name: str = "") -> Iterator[None]:
    """Turn an error of kubectl into the failure of a verb."""
    try:
        yield
    except KubectlError as error:
        raise FailedError(failures.explained(error, Asked(act, resource, name))) from None


def all_limits(kubectl: Kubectl, query: str = "") -> list[Limit]:
    """Return all limits by name. Raises FailedError, also where the cluster knows no limits."""
    return limits.read_all(listed(kubectl, paths.LIMITS, limits.RESOURCE, limits.KIND, query))


def one_limit(kubectl: Kubectl, name: str) -> Limit | None:
    """Return the limit of this name; None where there is none. Raises FailedError."""
    try:
        return limits.read(kubectl.get(f"{paths.LIMITS}/{name}"))
    except KubectlError as error:
        if error.kind is failures.Kind.NOT_FOUND:
            return None
        raise FailedError(failures.explained(error, Asked("get", limits.RESOURCE, name))) from None


def all_policies(kubectl: Kubectl) -> list[Policy]:
    """Return all policies, in the order in which they decide; none where the cluster knows no policies yet.

    Raises FailedError.
    """
    from bandwidth_cli.objects import policies

    with worded("list", policies.RESOURCE):
        try:
            return policies.in_order(kubectl.listed(paths.POLICIES))
        except KubectlError as error:
            if error.kind is failures.Kind.NOT_FOUND:
                return []
            raise


def states(kubectl: Kubectl) -> list[NodeState | UnreadableState]:
    """Return what the agents report, by name of the node. Raises FailedError."""
    from bandwidth_api.crds import node_state

    items = listed(kubectl, paths.STATES, node_state.PLURAL, node_state.KIND)
    return sorted(map(node_state.read, items), key=lambda state: state.node)


def listed(kubectl: Kubectl, path: str, resource: str, kind: str, query: str = "") -> list[Json]:
    """Return all objects of one of our kinds. Raises FailedError."""
    with worded("list", resource):
        try:
            return kubectl.listed(path, query)
        except KubectlError as error:
            if error.kind is failures.Kind.NOT_FOUND:
                raise FailedError(failures.NO_OPERATOR.format(kind=kind)) from None
            raise


def all_nodes(kubectl: Kubectl) -> list[Node]:
    """Return the Nodes of the cluster, at most NODES_MAX. Raises KubectlError."""
    from bandwidth_cli.objects import nodes

    return [nodes.read(item) for item in kubectl.listed(paths.NODES, most=NODES_MAX)]


def who_am_i(kubectl: Kubectl) -> str:
    """Return the user that the API server takes this call for; "" where it does not tell."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = kubectl.create(paths.WHO_AM_I, review)
    except KubectlError:  # before Kubernetes 1.28, or without the right
        return ""
    return str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "")


class Pending(Generic[T]):
    """A request that is under way in a thread of its own. The first one of a call is made without: it may log in."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._error: Exception | None = None
        self._answer: list[T] = []
        self._thread = threading.Thread(target=self._run, args=(ask,), daemon=True)
        self._thread.start()

    def _run(self, ask: Callable[[], T]) -> None:
        try:
            self._answer.append(ask())
        except (KubectlError, FailedError) as error:
            self._error = error

    @property
    def done(self) -> bool:
        """Whether the answer is there, or the error."""
        return not self._thread.is_alive()

    def result(self) -> T:
        """Return the answer, or raise what the request raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._answer[0]
