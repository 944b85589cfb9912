"""What the contract suite puts into a kernel: a few limits of every kind, and the state that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.planner import classifier, desired, diff, placement
from bandwidth_agent.planner.classifier import class_ids
from bandwidth_agent.planner.placement import programs_needed
from bandwidth_agent.settings import ClassifierSetting, PlacementSetting, Settings
from bandwidth_api import addresses, plan
from bandwidth_api.plan import ClassKey, Mode, PlanEntry, PortRange
from contract import hosts

WEB = PortRange("TCP", 443, 443)
DNS = PortRange("UDP", 53, 60)
NUMBERS = {"mail-loop": 1, "scraper": 2, "backup": 600, "watched": 1100, "video": 601, "long": 3}
LONG_NAME = "x" * 253


def limit(name: str, rate: int, mode: Mode = Mode.ENFORCE, expires_at: float | None = None) -> PlanEntry:
    return PlanEntry(name, name, 1, (), (), (), rate, None, mode, plan.Sharing.SHARED, 0, 0.0, expires_at, ())


LIMITS = {
    ClassKey("mail-loop", ""): limit("mail-loop", 5_000_000),
    ClassKey("scraper", "192.0.2.0/25"): limit("scraper", 64_000, expires_at=1_900_000_000.0),
    ClassKey("backup", ""): limit("backup", 1_000_000_000),
    ClassKey("watched", ""): limit("watched", 20_000_000, Mode.OBSERVE),
    ClassKey("video", ""): limit("video", 400_000_000_000),
    ClassKey(LONG_NAME, ""): limit(LONG_NAME, 256_000),
}
HELD = {
    class_ids.slot(key, entry): NUMBERS["long" if key.limit == LONG_NAME else key.limit]
    for key, entry in LIMITS.items()
}


def resolution(ports: tuple[PortRange, ...] = (WEB, DNS), **tables: Mapping[str, str | None]) -> plan.Resolution:
    """`v4`, `v6`, `v4_ports` … → prefixes as text → names of limits; None is a hole. `ports`: of those with ports."""
    by_name = {"long" if key.limit == LONG_NAME else key.limit: key for key in LIMITS}
    built = []
    for name, entries in tables.items():
        of_table = ports if name.endswith("ports") else ()
        owners = {addresses.parse(text): by_name[owner] if owner else None for text, owner in entries.items()}
        built.append(plan.Table(int(name[1]), of_table, owners))
    named = {key for table in built for key in table.entries.values() if key is not None}
    return plan.Resolution(tuple(built), {key: LIMITS[key] for key in LIMITS if key in named}, {})


EVERYTHING = resolution(
    v4={
        "198.51.100.7": "mail-loop",
        "192.0.2.0/25": "scraper",
        "192.0.2.9": None,
        "203.0.113.0/24": "backup",
        "0.0.0.0/0": "watched",
        "198.51.100.8": "long",
    },
    v4_ports={"203.0.113.0/28": "video", "203.0.113.1": None},
    v6={"2001:db8:1::/48": "mail-loop", "2001:db8:1::9": "watched"},
    v6_ports={"2001:db8:2::/64": "video"},
)
OTHER_PORTS = resolution(
    ports=(PortRange("TCP", 400, 500),),
    v4={"198.51.100.7": "mail-loop", "203.0.113.0/24": "backup"},
    v4_ports={"203.0.113.0/28": "video", "203.0.113.1": "scraper"},
)
FEW = resolution(v4={"198.51.100.7": "mail-loop", "192.0.2.0/26": "scraper"})


@dataclasses.dataclass(frozen=True)
class Way:
    """How the host is to shape."""

    placement: PlacementSetting = PlacementSetting.IFB
    classifier: ClassifierSetting = ClassifierSetting.MARK

    def __str__(self) -> str:
        return f"{self.placement.value}-{self.classifier.value}"

    def choose(self, host: hosts.Host) -> classifier.Classifier:
        return self._chosen(host.facts())[1]

    def _chosen(self, facts: model.Facts) -> tuple[dict[str, placement.Placement], classifier.Classifier]:
        configured = Settings(placement=self.placement, classifier=self.classifier)
        need = programs_needed.need(configured, facts, (), model.EMPTY, bypassed=False)
        placements = placement.decide_all(configured, facts, programs=need is not None)
        return placements, classifier.choose(configured, facts, placements, need)

    def state(self, host: hosts.Host, limits: plan.Resolution) -> model.State:
        """The state that these limits make on this host."""
        facts = host.facts()
        placements, classifier = self._chosen(facts)
        numbers = class_ids.assign([class_ids.slot(k, e) for k, e in limits.classes.items()], HELD).numbers
        return desired.build(limits, numbers, classifier, placements, facts, host.observe())


WAYS = [Way(p, c) for p in list(PlacementSetting)[1:] for c in list(ClassifierSetting)[1:]]


def apply(host: hosts.Host, goal: model.State) -> list[objects.Change]:
    """Bring the host there; nothing may fail."""
    changes = diff.compute(goal, host.observe())
    for step in changes:
        outcome = host.apply_one(step)
        assert outcome == objects.Outcome(step)
    return changes


def with_rate(limits: plan.Resolution, name: str, rate: int) -> plan.Resolution:
    """The same, with another rate for one limit."""
    classes = {
        key: dataclasses.replace(entry, rate_bits_per_second=rate) if key.limit == name else entry
        for key, entry in limits.classes.items()
    }
    return dataclasses.replace(limits, classes=classes)
