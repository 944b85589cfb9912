"""The form of a limit that nodes enforce, without its words and its end: what is said of packets holds for one form.

Pure. An edit of a reason or a lifetime leaves the form as it is.
"""

from __future__ import annotations

import hashlib
import json

from bandwidth_operator.cache import objects


def digest(limit: objects.Limit) -> str:
    """Return a short text that is the same for the same form; "" for a limit that is not accepted."""
    if isinstance(limit.parsed, tuple):
        return ""
    spec = limit.parsed.spec
    egress = spec.egress
    form = (
        sorted(spec.clients),
        sorted(spec.excepted),
        (egress.rate, egress.burst, egress.sharing, egress.distribution, sorted(egress.ports)),
        spec.node_selector,
        spec.mode,
        spec.priority,
    )
    return hashlib.sha256(json.dumps(form).encode()).hexdigest()[:16]
