"""What a policy decided about a client, why, and what stood in the way: values only. Pure."""

from __future__ import annotations

import enum
from typing import NamedTuple

from bandwidth_api.plan import Prefix

WHY_MAX = 256  # characters


class Write(enum.Enum):
    """What has to be done to a limit."""

    MAKE = "make"
    CHANGE = "change"
    DELETE = "delete"


class What(enum.StrEnum):
    """What happened to a client."""

    LIMITED = "Limited"
    STEPPED = "Stepped"  # the time was over, and it still pressed: the next step, without a gap
    ADJUSTED = "Adjusted"  # the policy was edited
    LIFTED = "Lifted"  # it needed the limit no more
    EXPIRED = "Expired"
    PARDONED = "Pardoned"  # a person deleted the limit
    RELEASED = "Released"  # something stands in the way now that did not before
    REMOVED = "Removed"  # the policy acts no more
    FAILED = "Failed"  # the limit could not be written
    BLOCKED = "Blocked"  # it would have been limited


_WRITES = {
    What.LIMITED: Write.MAKE,
    What.STEPPED: Write.CHANGE,
    What.ADJUSTED: Write.CHANGE,
    What.LIFTED: Write.DELETE,
    What.EXPIRED: Write.DELETE,
    What.RELEASED: Write.DELETE,
    What.REMOVED: Write.DELETE,
}


class Obstacle(enum.StrEnum):
    """What stands in the way of a limit."""

    EXEMPT = "Exempt"
    PROTECTED = "Protected"
    PERSON = "PersonsLimit"
    OTHER_POLICY = "OtherPolicy"
    PARDONED = "Pardoned"
    REFUSED = "Refused"
    MAXIMUM = "Maximum"
    PER_MINUTE = "PerMinute"


class Block(NamedTuple):
    """One obstacle, in one sentence."""

    obstacle: Obstacle
    message: str


class Decision(NamedTuple):
    """What was decided about one client. `write` says what has to be done."""

    at: float  # seconds since the epoch
    policy: str
    client: Prefix
    what: What
    why: str
    enforced: bool  # False: in Observe, it only would have been
    limit: str = ""  # the name of the limit
    step: int = 0  # counted from 1
    rate_bits_per_second: int = 0
    expires_at: float = 0.0  # seconds since the epoch
    block: Block | None = None
    first: str = ""  # why the client was limited, where this is about what came of it

    @property
    def write(self) -> Write | None:
        """What has to be done to the limit; None: nothing."""
        return _WRITES.get(self.what) if self.enforced else None
