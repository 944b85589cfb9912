"""What the limit of a client that a policy made is called. Pure; stands on nothing that reads objects."""

from __future__ import annotations

import hashlib

from bandwidth_api import addresses
from bandwidth_api.plan import Prefix

_HASH_DIGITS = 10


def write(policy: str, client: Prefix) -> str:
    """Return the name of the one limit that a policy may have for a client: POLICY-HASH, at most 51 characters."""
    return f"{policy}-{hashlib.sha256(addresses.write_cidr(client).encode()).hexdigest()[:_HASH_DIGITS]}"
