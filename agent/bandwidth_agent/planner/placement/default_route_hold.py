"""Keeps interfaces shaped for a moment after they lose their default route.

A renewed DHCP lease or a restarted routing daemon removes the default route for a moment. If our hook were removed with
it, limited clients would be fast until we are back. While there is a default route whose interface is not understood,
no interface counts as having lost its own. Touches no kernel; the time is a parameter (monotonic seconds).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container

from bandwidth_agent.kernel import model

GRACE_SECONDS = 30.0


class Uplinks:
    """Remembers when each device last held a default route; a device of the same name is another one."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], float] = {}

    def held(self, facts: model.Facts, now: float, shaped: Container[str] = ()) -> model.Facts:
        """Return the facts, with the default routes added that devices lost less than GRACE_SECONDS ago.

        `shaped`: the devices that hold something of ours. They count too, while a default route is not understood.
        """
        present = {(i.name, i.index): i for i in facts.interfaces.values()}
        if facts.unclear_routes:
            kept = [device for device in present if device in self._seen or device[0] in shaped]
            self._seen.update((device, now) for device in kept)
        self._seen = {device: at for device, at in self._seen.items() if device in present and now - at < GRACE_SECONDS}
        self._seen.update((device, now) for device, i in present.items() if i.default_route)
        lost = [i for device, i in present.items() if device in self._seen and not i.default_route]
        if not lost:
            return facts
        held = {i.name: i._replace(default_route=True) for i in lost}
        return dataclasses.replace(facts, interfaces={**facts.interfaces, **held})
