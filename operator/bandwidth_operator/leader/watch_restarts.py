"""Decides when all watches are restarted, and when this replica should stop leading. Pure: the time is a parameter."""

from __future__ import annotations

from collections.abc import Mapping

from bandwidth_api.kinds import Kind

GIVE_UP_SECONDS = 180.0  # with a watch silent, or a list failing, for so long the lease is given up
RESTART_SECONDS = 30.0  # watches of which one is silent are begun again so often …
WENT_BACK_SECONDS = 3.0  # … and so often while the server's versions go back


class CannotFollowError(Exception):
    """This replica cannot follow the changes in the cluster; the message has the reason."""


class WatchRestarts:
    def __init__(self) -> None:
        self._not_before = 0.0

    def due(self, now: float, silent: Mapping[Kind, float], *, went_back: bool) -> bool:
        """Return whether to restart all watches. `silent`: seconds by kind; `went_back`: the server's versions did.

        Raises CannotFollowError.
        """
        if any(seconds > GIVE_UP_SECONDS for seconds in silent.values()):
            raise CannotFollowError(f"the watch of {' and '.join(f'{kind.value}s' for kind in silent)} brings nothing")
        if now < self._not_before or not (went_back or silent):
            return False
        self._not_before = now + (WENT_BACK_SECONDS if went_back else RESTART_SECONDS)
        return True
