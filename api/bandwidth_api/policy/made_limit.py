"""The limit that a policy makes for a client: its name, its object, and how it is known again. Pure.

It is a ClientBandwidthLimit like any other. It is a policy's when it has the label with the policy's name, holds one
client, and is called as the policy calls the limit of that client. A copy under another name is a person's limit.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from bandwidth_api import addresses, names, units
from bandwidth_api.crds.limit import Limit
from bandwidth_api.crds.policy import Policy, Watch
from bandwidth_api.plan import Mode, PortRange, Prefix
from bandwidth_api.policy import made_name
from bandwidth_api.policy.decision import Decision

REASON_MAX = 256
_FIRST = "; at first: "
Json = dict[str, Any]


def name(policy: str, client: Prefix) -> str:
    """Return the name of the one limit that a policy may have for a client: POLICY-HASH, at most 51 characters."""
    return made_name.write(policy, client)


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """A limit that a policy made, as it is there. Times are seconds since the epoch."""

    name: str
    policy: str
    client: Prefix
    step: int  # counted from 1
    rate_bits_per_second: int
    created_at: float
    expires_at: float
    policy_uid: str = ""  # of the policy that owns it; "": it has no owner, as on one host
    figures: str = ""  # by which its client was limited, as its reason says
    ports: frozenset[PortRange] = frozenset()  # empty: every port

    def is_of(self, policy: Policy) -> bool:
        """Whether this very policy made it, and not an earlier one of that name."""
        return self.policy == policy.name and self.policy_uid in ("", policy.metadata.uid)


def read(limit: Limit, now: float) -> Made | None:
    """Return the limit as one that a policy made; None: a person wrote it, or it is one that slows nobody.

    `now`: seconds since the epoch, when a limit without a time of creation counts as created.
    """
    policy, created_at = limit.metadata.policy, now if limit.created_at is None else limit.created_at
    expires_at = limit.expires_at(created_at)
    if not policy or len(limit.spec.clients) != 1 or expires_at is None or limit.spec.mode is not Mode.ENFORCE:
        return None
    (client,) = limit.spec.clients
    if limit.name != name(policy, client):
        return None
    rate = limit.spec.egress.rate
    metadata = limit.metadata
    ports = frozenset(limit.spec.egress.ports)
    step, uid, figures = metadata.policy_step, metadata.policy_uid, _figures(policy, limit.spec.reason or "")
    return Made(limit.name, policy, client, step, rate, created_at, expires_at, uid, figures, ports)


def document(policy: Policy, decision: Decision) -> Json:
    """Return the whole object of a decision to make or to change a limit: apply it as it is."""
    then = policy.spec.then
    egress: Json = {"rate": units.write_rate(decision.rate_bits_per_second)}
    spec: Json = {
        "clients": [_client(decision.client)],
        "egress": egress,
        "expiresAt": datetime.datetime.fromtimestamp(int(decision.expires_at), datetime.UTC).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        ),
        "reason": reason(policy, decision),
    }
    if policy.spec.watch.ports:
        egress["ports"] = _ports(policy.spec.watch)
    if policy.spec.watch.node_selector:
        spec["nodeSelector"] = _selector(policy.spec.watch)
    metadata: Json = {
        "name": decision.limit,
        "labels": {**then.labels, names.POLICY: policy.name},
        "annotations": {names.POLICY_STEP: str(decision.step)},
    }
    if policy.metadata.uid:  # with the policy its limits go
        metadata["ownerReferences"] = [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.POLICY_KIND,
                "name": policy.name,
                "uid": policy.metadata.uid,
            }
        ]
    return {"apiVersion": names.API_VERSION, "kind": names.LIMIT_KIND, "metadata": metadata, "spec": spec}


def reason(policy: Policy, decision: Decision) -> str:
    """Return what stands in `spec.reason`: the policy's own words, its name and step, and the figures.

    A later step keeps the figures by which the client was limited: they are why, all else is what came of it.
    """
    text = f"policy {policy.name}, step {decision.step} of {len(policy.spec.then.steps)}: {decision.why}"
    if decision.first:
        text += _FIRST + decision.first
    words = policy.spec.then.reason
    return (f"{words}; {text}" if words else text)[:REASON_MAX]


def _figures(policy: str, text: str) -> str:
    """Return the figures in a reason; "" where somebody wrote another."""
    _, found, rest = text.rpartition(f"policy {policy}, step ")
    said = rest.partition(": ")[2] if found else ""
    return said.partition(_FIRST)[2] or said


def _client(client: Prefix) -> str:
    return addresses.write(client)


def _ports(watch: Watch) -> list[Json]:
    written = []
    for each in watch.ports:
        port: Json = {"protocol": each.protocol, "port": each.first}
        if each.last != each.first:
            port["endPort"] = each.last
        written.append(port)
    return written


def _selector(watch: Watch) -> Json:
    terms = [
        {"key": term.key, "operator": term.operator, **({"values": list(term.values)} if term.values else {})}
        for term in watch.node_selector
    ]
    labels = {t["key"]: t["values"][0] for t in terms if t["operator"] == "In" and len(t["values"]) == 1}
    if len(labels) == len(terms) and len(labels) <= 16:
        return {"matchLabels": labels}
    return {"matchExpressions": terms}
