"""What one node did, as a value: the report of a pass. Pure; how it is printed or sent is the programs' business."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Failing:
    """One limit that is not in force as written. `name` is the limit's, or the file's where no name could be read."""

    name: str
    reason: str  # CamelCase, one of conditions.Reason
    message: str  # says what to do
    file: str = ""
    field: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class InterfaceReport:
    name: str
    root_qdisc: str  # e.g. "fq_codel", "htb 1:" where its handle is not 0
    placement: str  # "ifb", "interface" or "none"
    reason: str  # CamelCase
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """One pass. `desired` = `programmed` + `failed`."""

    changes: int  # kernel objects added, altered or removed by this pass
    desired: int
    programmed: int
    failed: int
    failing: tuple[Failing, ...]  # all of them, by name
    classifier: str  # "mark" or "priority"
    classifier_reason: str
    interfaces: tuple[InterfaceReport, ...]
    missing_features: tuple[str, ...]
    conflicts: tuple[str, ...]  # objects of ours that another program keeps changing and that we gave up repairing
    warnings: tuple[str, ...]
    duration_seconds: float

    @property
    def ok(self) -> bool:
        """Every limit is in force as written."""
        return self.failed == 0

    def as_json(self) -> dict[str, object]:
        """The documented schema of `run --once -o json` (docs/reference/report.md)."""
        return {
            "changes": self.changes,
            "limits": {"desired": self.desired, "programmed": self.programmed, "failed": self.failed},
            "failing": [
                {"name": f.name, "reason": f.reason, "message": f.message}
                | ({"file": f.file} if f.file else {})
                | ({"field": f.field} if f.field else {})
                for f in self.failing
            ],
            "classifier": self.classifier,
            "classifierReason": self.classifier_reason,
            "interfaces": [
                {
                    "name": i.name,
                    "rootQdisc": i.root_qdisc,
                    "placement": i.placement,
                    "reason": i.reason,
                    "message": i.message,
                }
                for i in self.interfaces
            ],
            "missingFeatures": list(self.missing_features),
            "conflicts": list(self.conflicts),
            "warnings": list(self.warnings),
            "durationSeconds": round(self.duration_seconds, 6),
        }
