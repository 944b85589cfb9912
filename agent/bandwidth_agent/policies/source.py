"""The limits of a manifest directory together with those that its policies made. Owns nothing of either."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Protocol

from bandwidth_agent.limits import LimitSource, Wanted
from bandwidth_agent.policies.decider import Decider
from bandwidth_agent.policies.told import Told
from bandwidth_api import plan
from bandwidth_api.compiler import compile as compiler
from bandwidth_api.compiler import selector
from bandwidth_api.conditions import Problem
from bandwidth_api.crds.policy import Policy


class Manifests(LimitSource, Protocol):
    """What `limits.directory.manifest_source.ManifestSource` is."""

    @property
    def entries(self) -> Mapping[str, plan.PlanEntry]: ...

    @property
    def policies(self) -> tuple[Policy, ...]: ...

    @property
    def problems(self) -> tuple[Problem, ...]: ...

    @property
    def memory_trouble(self) -> str: ...

    def settle(self) -> None: ...

    def close(self) -> None: ...


class WithPolicies:
    """A source of limits, for the loop's thread alone."""

    def __init__(self, manifests: Manifests, decider: Decider, labels: selector.Labels) -> None:
        self._manifests, self._decider, self._labels = manifests, decider, labels
        self._complete = False

    def told(self) -> Told:
        """Return what the policies know and decided; for any thread."""
        return self._decider.told

    def fileno(self) -> int | None:
        """As the manifests'."""
        return self._manifests.fileno()

    def due(self) -> float | None:
        """Return when manifests or policies are due, monotonic seconds."""
        deciding = self._decider.due() if self._complete else None  # before that no round is made
        return min((due for due in (self._manifests.due(), deciding) if due is not None), default=None)

    def drain(self) -> bool:
        """Take note of what has changed, and make a round of decisions if it is time."""
        changed = self._manifests.drain()
        if self._complete and not changed:  # what changed is read first, so that no round is made of half of it
            changed = self._turn()
        return changed

    def look_again(self) -> None:
        """As the manifests'."""
        self._manifests.look_again()

    def wanted(self, now: float) -> Wanted:
        """Return the limits of both; a limit of a manifest goes before a made one of the same name."""
        found = self._manifests.wanted(now)
        self._complete = found.complete
        if found.complete:
            self._turn()
        named = self._manifests.entries
        made = plan.Plan({name: entry for name, entry in self._decider.entries.items() if name not in named})
        until = [each for each in (found.until, compiler.next_expiry(made, now)) if each is not None]
        return dataclasses.replace(
            found,
            entries=(*found.entries, *compiler.active(made, self._labels, now)),
            until=min(until, default=None),
            warnings=(*found.warnings, *self._decider.warnings),
        )

    def _turn(self) -> bool:
        manifests = self._manifests
        return self._decider.turn(manifests.policies, manifests.entries, broken=bool(manifests.problems))

    def settle(self) -> None:
        """As the manifests'."""
        self._manifests.settle()

    @property
    def memory_trouble(self) -> str:
        """As the manifests'."""
        return self._manifests.memory_trouble

    def close(self) -> None:
        """Close both."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._manifests.close)
            stack.callback(self._decider.close)
