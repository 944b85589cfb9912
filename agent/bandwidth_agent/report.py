"""The report of a pass: what was done on this node, and which limits are not in force. Pure; never prints or sends."""

from __future__ import annotations

import dataclasses

from bandwidth_api.conditions import Problem, Reason


@dataclasses.dataclass(frozen=True, slots=True)
class InterfaceReport:
    name: str
    root_qdisc: str  # e.g. "fq_codel", "htb 1:" where its handle is not 0
    placement: str  # "ifb", "pair", "interface" or "none"
    reason: Reason
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """One pass. `desired` = `programmed` + `failed`."""

    changes: int  # kernel objects added, altered or removed by this pass
    desired: int
    programmed: int
    failed: int
    failing: tuple[Problem, ...]  # all of them, by name
    classifier: str  # "mark", "priority" or "ebpf"
    classifier_reason: str
    interfaces: tuple[InterfaceReport, ...]
    missing_features: tuple[str, ...]
    conflicts: tuple[str, ...]  # objects of ours that another program keeps changing and that we gave up repairing
    warnings: tuple[str, ...]
    duration_seconds: float
    datapath_sign: str = ""  # what shows that packets may skip netfilter here, as "device cilium_host"; "": nothing
    ebpf_helps: bool = False  # permission for eBPF programs would let the agent meet what that sign is about
    verified: frozenset[str] = frozenset()  # limits whose class was seen to hold their packets since it was programmed
    bypassed: int = 0  # of `failed`: limits whose packets were seen to leave past their class

    @property
    def ok(self) -> bool:
        """Every limit is in force as written."""
        return self.failed == 0

    @property
    def checked(self) -> dict[str, int]:
        """The number of limits whose packets were seen to pass their class, or past it, or not yet at all.

        A limit that fails for another reason counts nowhere.
        """
        verified = len(self.verified - {problem.name for problem in self.failing})
        return {"verified": verified, "unverified": max(0, self.programmed - verified), "bypassed": self.bypassed}

    def as_json(self) -> dict[str, object]:
        """The documented schema of `run --once -o json` (docs/reference/report.md)."""
        return {
            "changes": self.changes,
            "limits": {"desired": self.desired, "programmed": self.programmed, "failed": self.failed},
            "checked": self.checked,
            "failing": [
                {"name": f.name, "reason": f.reason.value, "message": f.message}
                | ({"file": f.file} if f.file else {})
                | ({"field": f.field} if f.field else {})
                for f in self.failing
            ],
            "verified": sorted(self.verified),
            "datapathSign": self.datapath_sign,
            "classifier": self.classifier,
            "classifierReason": self.classifier_reason,
            "interfaces": [
                {
                    "name": i.name,
                    "rootQdisc": i.root_qdisc,
                    "placement": i.placement,
                    "reason": i.reason.value,
                    "message": i.message,
                }
                for i in self.interfaces
            ],
            "missingFeatures": list(self.missing_features),
            "conflicts": list(self.conflicts),
            "warnings": list(self.warnings),
            "durationSeconds": round(self.duration_seconds, 6),
        }
