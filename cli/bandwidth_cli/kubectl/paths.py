"""Where objects are at the API server. The same as in `bandwidth_api.kinds`, which loads every kind that there is."""

from __future__ import annotations

GROUP = "clientbandwidth.io"
API_VERSION = f"{GROUP}/v1alpha1"
_GROUP = f"/apis/{API_VERSION}"

LIMITS = f"{_GROUP}/clientbandwidthlimits"
POLICIES = f"{_GROUP}/clientbandwidthpolicies"
STATES = f"{_GROUP}/nodebandwidthstates"
QUERIES = f"{_GROUP}/clienttrafficqueries"
TRAFFIC = f"{_GROUP}/nodeclienttraffics"
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/leases"
WHO_AM_I = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
VERSION = "/version"
