"""Events: what happened to a limit, for `kubectl describe`. Written when a condition changes, if there is room.

Pure but for `post`. Events about cluster-scoped objects live in the namespace default.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import structlog

from bandwidth_api import names
from bandwidth_api.conditions import ConditionType, Reason
from bandwidth_kube import client
from bandwidth_operator import known
from bandwidth_operator.writer import Writer

COMPONENT = "client-bandwidth-operator"
MESSAGE_MAX = 1024
NAME_MAX = 253
PATH = "/api/v1/namespaces/default/events"

log = structlog.get_logger(__name__)


class Occurrence(NamedTuple):
    warning: bool
    reason: str
    message: str


def between(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[Occurrence]:
    """What is worth telling about the change from one list of conditions to the next."""
    was = {str(c.get("type")): (c.get("status"), c.get("reason")) for c in before}
    for condition in after:
        kind, status, reason = condition["type"], condition["status"], condition["reason"]
        if was.get(kind) == (status, reason) or reason == Reason.PENDING:
            continue
        message = str(condition["message"])
        if kind == ConditionType.READY:
            expected = (Reason.READY, Reason.DISABLED, Reason.EXPIRED)
            yield Occurrence(reason not in expected, reason, message)
        elif kind == ConditionType.CONFLICTED and (status == "True" or was.get(kind, ("False",))[0] == "True"):
            yield Occurrence(status == "True", reason, message)


def post(writer: Writer, limit: known.Limit, occurrence: Occurrence, now: float) -> bool:
    """Write an event if there is room for it; False if there is none now. One that is refused is given up."""
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{limit.name[: NAME_MAX - 17].rstrip('.-')}.{secrets.token_hex(8)}",
            "namespace": "default",
        },
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.LIMIT_KIND,
            "name": limit.name,
            "uid": limit.uid,
            "resourceVersion": str(limit.version),
        },
        "type": "Warning" if occurrence.warning else "Normal",
        "reason": occurrence.reason,
        "message": occurrence.message[:MESSAGE_MAX],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
    try:
        return writer.write_if_spare("event", "POST", PATH, event)
    except client.ApiError as error:
        log.info("an event could not be written", limit=limit.name, error=str(error))
        return True
