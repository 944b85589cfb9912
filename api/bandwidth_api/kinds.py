"""The kinds of objects that operator and agents read, and the path of each at the API server. Owns these paths only."""

from __future__ import annotations

import enum

from bandwidth_api import names
from bandwidth_api.crds import client_traffic, node_state, policy, slices, traffic_query

GROUP_PATH = f"/apis/{names.GROUP}/{names.VERSION}"


class Kind(enum.Enum):
    """A kind of object; the value is its name in logs and metrics."""

    LIMIT = "limit"
    NODE = "node"
    SLICE = "slice"
    STATE = "state"

    @property
    def path(self) -> str:
        """The path of all objects of this kind; that of one object is below it."""
        return _PATHS[self]


_PATHS = {
    Kind.LIMIT: f"{GROUP_PATH}/clientbandwidthlimits",
    Kind.NODE: "/api/v1/nodes",
    Kind.SLICE: f"{GROUP_PATH}/{slices.PLURAL}",
    Kind.STATE: f"{GROUP_PATH}/{node_state.PLURAL}",
}

# Not among the kinds: an installation may be without them, and without them limits work all the same.
QUERIES_PATH = f"{GROUP_PATH}/{traffic_query.PLURAL}"
POLICIES_PATH = f"{GROUP_PATH}/{policy.PLURAL}"
TRAFFIC_PATH = f"{GROUP_PATH}/{client_traffic.PLURAL}"
