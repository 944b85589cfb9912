"""Uplinks that flap: an interface that held a default route a moment ago still counts as one that does.

A renewed lease or a restarted routing daemon takes the default route away for a moment. Taking our hook away with it
would let limited clients be fast in the moment in which the route is back and we are not. Touches no kernel; the time
is a parameter (monotonic seconds).
"""

from __future__ import annotations

import dataclasses

from bandwidth_agent.kernel import model

GRACE_SECONDS = 30.0


class Uplinks:
    """Remembers when each device last held a default route; a device of the same name is another one."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], float] = {}

    def held(self, facts: model.Facts, now: float) -> model.Facts:
        """The facts, with the default route that a device has lost less than GRACE_SECONDS ago."""
        present = {(i.name, i.index): i for i in facts.interfaces.values()}
        self._seen = {device: at for device, at in self._seen.items() if device in present and now - at < GRACE_SECONDS}
        self._seen.update((device, now) for device, i in present.items() if i.default_route)
        lost = [i for device, i in present.items() if device in self._seen and not i.default_route]
        if not lost:
            return facts
        held = {i.name: i._replace(default_route=True) for i in lost}
        return dataclasses.replace(facts, interfaces={**facts.interfaces, **held})
