"""A limit for one client, as it is drafted while one looks at traffic: from what was typed to the object and its YAML.

Owns the checks of a form, with the bounds of the CRD; the whole rules are the API server's and the agent's. Pure.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from bandwidth_api import addresses, names, units
from bandwidth_api.plan import Mode, Prefix
from bandwidth_sight import durations

REASON_MAX = 256
TTL_DEFAULT = "1h"
FIELDS = ("rate", "ttl", "reason")


class FieldError(ValueError):
    """One field of a form is wrong; the message says what to write."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """A limit that is not made yet. Every value of it was checked."""

    name: str
    client: Prefix
    rate_bits_per_second: int
    ttl_seconds: int | None
    reason: str
    mode: Mode = Mode.ENFORCE


def read(client: Prefix, rate: str, ttl: str, reason: str, *, observe: bool = False) -> Draft:
    """Return the draft that these texts mean. Raises FieldError for the first that is wrong."""
    refused = refusal(client)
    if refused:
        raise FieldError("client", refused)
    mode = Mode.OBSERVE if observe else Mode.ENFORCE
    return Draft(
        name=name(client, observe=observe),
        client=client,
        rate_bits_per_second=_checked("rate", units.parse_rate, rate.strip()),
        ttl_seconds=_checked("ttl", durations.parse, ttl.strip()),
        reason=_checked("reason", checked_reason, reason.strip()),
        mode=mode,
    )


def refusal(client: Prefix) -> str:
    """Return why no limit may name this client; "" if one may, as far as the address itself says."""
    try:
        addresses.parse_client(addresses.write(client))
    except ValueError as error:
        return str(error)
    return ""


def name(client: Prefix, *, observe: bool = False, number: int = 1) -> str:
    """Return a name for the limit of a client, such as `slow-192-0-2-7`; `number`: where the first ones are taken."""
    words = re.sub(r"[^a-z0-9]", "-", addresses.write(client)).strip("-")
    return f"{'observe' if observe else 'slow'}-{words}" + (f"-no{number}" if number > 1 else "")


def suggested_rate(bits_per_second: float) -> str:
    """Return a third of a rate as the text of a limit, with two digits: what a form begins with."""
    third = min(units.RATE_MAX, max(units.RATE_MIN, round(bits_per_second / 3)))
    unit = 10 ** max(0, len(str(third)) - 2)
    return units.write_rate(max(units.RATE_MIN, third // unit * unit))


def as_object(draft: Draft) -> dict[str, Any]:
    """Return the object of a limit, as JSON for an API server."""
    spec: dict[str, Any] = {
        "clients": [addresses.write(draft.client)],
        "egress": {"rate": units.write_rate(draft.rate_bits_per_second)},
    }
    if draft.mode is not Mode.ENFORCE:
        spec["mode"] = draft.mode.value
    if draft.ttl_seconds is not None:
        spec["ttlSeconds"] = draft.ttl_seconds
    if draft.reason:
        spec["reason"] = draft.reason
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.LIMIT_KIND,
        "metadata": {"name": draft.name},
        "spec": spec,
    }


def as_yaml(draft: Draft) -> str:
    """Return the manifest of a limit. Texts are quoted as in JSON, which YAML reads alike."""
    spec = as_object(draft)["spec"]
    lines = [
        f"apiVersion: {names.API_VERSION}",
        f"kind: {names.LIMIT_KIND}",
        "metadata:",
        f"  name: {draft.name}",
        "spec:",
        f"  clients: {json.dumps(spec['clients'])}",
        "  egress:",
        f"    rate: {spec['egress']['rate']}",
    ]
    if "mode" in spec:
        lines.append(f"  mode: {spec['mode']}")
    if "ttlSeconds" in spec:
        lines.append(f"  ttlSeconds: {spec['ttlSeconds']}")
    if "reason" in spec:
        lines.append(f"  reason: {json.dumps(spec['reason'], ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _checked(field: str, parse: Any, text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise FieldError(field, str(error)) from None


def checked_reason(text: str) -> str:
    """Return why a limit is made; raises ValueError."""
    if not text:
        raise ValueError("a reason is required; write why, for those who find the limit later")
    if len(text) > REASON_MAX:
        raise ValueError(f"the reason has {len(text)} characters; write at most {REASON_MAX}")
    if not text.isprintable():
        raise ValueError("the reason has characters that cannot be printed; write it without them")
    return text
