"""The object of this node in the cluster that its agent alone writes: its requests, and whether it is there.

Never touches the object's metadata after it was created. When something is written is `reporter`'s business.
"""

from __future__ import annotations

from typing import Any

from bandwidth_api import names
from bandwidth_api.crds import node_state
from bandwidth_api.kinds import Kind
from bandwidth_kube import client

Object = dict[str, Any]

MANAGER = "bandwidth-agent"


class StateObject:
    """Used by one thread. Every method may raise client.ApiError."""

    def __init__(
        self, api: client.Client, node: str, kind_path: str = Kind.STATE.path, kind: str = node_state.KIND
    ) -> None:
        self._api = api
        self._node = node
        self._kind_path, self._kind = kind_path, kind
        self._path = f"{kind_path}/{node}"
        self._there = False  # whether it is known to be there
        self.lost = False  # whether it was there and is known not to be
        self.owner = ""  # the uid of the Node that it belongs to

    @property
    def is_there(self) -> bool:
        """Return whether it is known to be there."""
        return self._there

    def was_deleted(self) -> bool:
        """Take note that it was deleted; return whether that is news."""
        news, self._there = self._there, False
        self.lost |= news
        return news

    def read(self) -> Object | None:
        """Return it as it stands in the cluster; None if there is none."""
        try:
            item = self._api.request("GET", self._path)
        except client.RefusedError as refused:
            if refused.status != 404:
                raise
            self._there = False
            return None
        self._there, self.owner = True, _owner(item)
        return item

    def write(self, status: Object, *, timeout_seconds: float = client.TIMEOUT_SECONDS) -> None:
        """Write the status, and create the object first if it is not there."""
        if not self._there:
            self._create()
        try:
            self._patch(status, timeout_seconds)
        except client.RefusedError as refused:
            if refused.status == 404:
                self._there = False  # deleted since; the next attempt creates it again
            raise

    def empty(self) -> None:
        """Take away what was written, if the object is still there."""
        try:
            self._patch(None, client.TIMEOUT_SECONDS)
        except client.RefusedError as refused:
            if refused.status != 404:
                raise

    def _patch(self, status: Object | None, timeout_seconds: float) -> None:
        self._api.request(
            "PATCH",
            f"{self._path}/status",
            query={"fieldManager": MANAGER},
            body={"status": status},
            content_type=client.MERGE_PATCH,
            timeout_seconds=timeout_seconds,
        )

    def _create(self) -> None:
        """Create it, owned by the Node, so that it is deleted with the Node."""
        node = self._api.request("GET", f"{Kind.NODE.path}/{self._node}", query={"resourceVersion": "0"})
        metadata = node.get("metadata")
        uid = metadata.get("uid") if isinstance(metadata, dict) else None
        if not isinstance(uid, str):
            raise client.UnreachableError(f"Node {self._node}: the answer has no uid")
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": uid}
        body: Object = {
            "apiVersion": names.API_VERSION,
            "kind": self._kind,
            "metadata": {"name": self._node, "ownerReferences": [owner]},
        }
        try:
            self._api.request("POST", self._kind_path, query={"fieldManager": MANAGER}, body=body)
        except client.RefusedError as refused:
            if refused.status != 409:
                raise
        self._there, self.lost, self.owner = True, False, uid


def _owner(item: Object) -> str:
    """Return the uid of the Node that a state belongs to; "" if it has no owner."""
    metadata = item.get("metadata")
    owners = metadata.get("ownerReferences") if isinstance(metadata, dict) else None
    first = owners[0] if isinstance(owners, list) and owners else None
    return str(first.get("uid", "")) if isinstance(first, dict) else ""
