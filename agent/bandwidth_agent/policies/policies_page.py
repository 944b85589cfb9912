"""What is told of the policies of one host: what each sees now and decided last, as the running agent wrote it down.

Only the agent that runs knows the windows of a policy, so what it would decide now is what it wrote.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from bandwidth_agent.policies import made_files
from bandwidth_api.crds.policy import Policy


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """One policy. `seconds`: since the agent last wrote; None: it never did."""

    name: str
    mode: str
    status: Mapping[str, Any]
    seconds: float | None

    def as_json(self) -> dict[str, Any]:
        """Return what `plan --json` says of it."""
        clients = self.status.get("clients") or {}
        return {
            "name": self.name,
            "mode": self.mode,
            "watched": clients.get("watched", 0),
            "hot": clients.get("hot", 0),
            "limited": clients.get("limited", 0),
            "decisions": [_decision(each) for each in self.status.get("decisions") or ()],
        }

    def lines(self) -> list[str]:
        """Return the same for people."""
        told = self.as_json()
        if self.mode == "Disabled":
            return [f"policy {self.name}: Disabled; it looks at nothing"]
        if self.seconds is None or not self.status:
            return [f"policy {self.name}: {self.mode}; no agent has looked yet: it decides while `run` runs"]
        counts = f"{told['watched']} watched, {told['hot']} hot, {told['limited']} limited"
        words = [f"policy {self.name}: {self.mode}; {counts}, {self.seconds:.0f} s ago"]
        words += [
            f"  {condition.get('type')}: {condition.get('message')}"
            for condition in self.status.get("conditions") or ()
            if condition.get("type") not in ("Accepted", "Ready") or condition.get("status") == "False"
        ]
        return words + [f"  {_sentence(each)}" for each in told["decisions"]]


def read(policies: Iterable[Policy], state_dir: pathlib.Path, now: float) -> list[Told]:
    """Return what is told of these policies; `now`: seconds since the epoch."""
    kept = made_files.MadeFiles(state_dir, writes=False)
    at, statuses = kept.written_at(), kept.statuses()
    kept.close()
    seconds = None if at is None else max(0.0, now - at)
    return [Told(each.name, each.spec.then.mode.value, statuses.get(each.name, {}), seconds) for each in policies]


def _decision(found: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: str(found.get(name, "")) for name in ("time", "client", "decision", "limit", "obstacle", "message")}
    return told | {"why": str(found.get("why", "")), "observed": found.get("observed") is True}


def _sentence(told: Mapping[str, Any]) -> str:
    would = " (would be)" if told["observed"] else ""
    stood = f"; {told['message']}" if told["message"] else ""
    return f"{told['time']} {told['client']} {told['decision']}{would}: {told['why']}{stood}"
