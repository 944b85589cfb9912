"""What a round of decisions must know beside traffic: the limits that are there, and addresses not to be touched.

Pure. Complete readings only: a limit that is missing here counts as deleted by a person.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from bandwidth_api.compiler import protected_addresses
from bandwidth_api.compiler.protected_addresses import Index
from bandwidth_api.compiler.selector import Labels
from bandwidth_api.crds.limit import Limit
from bandwidth_api.plan import Prefix
from bandwidth_api.policy import made_limit
from bandwidth_api.policy.made_limit import Made


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """`persons`: the clients of all limits that persons wrote and that have not ended, by prefix the limit's name."""

    made: Mapping[str, Made]  # by the name of the limit
    persons: Mapping[Prefix, str]
    persons_index: Index
    protected: Index  # networks that no limit may touch, and addresses of nodes
    nodes: Mapping[str, Labels] = dataclasses.field(
        default_factory=dict
    )  # that there are; of one that is missing here nothing is heard


def read(
    limits: Iterable[Limit],
    protected: Index,
    nodes: Mapping[str, Labels],
    now: float,
    others: Mapping[Prefix, str] = MappingProxyType({}),
) -> Surroundings:
    """Return the surroundings by all limits there are, Disabled and Observe too; `now`: seconds since the epoch.

    A person's limit that has ended counts no more; what it excepts counts like the rest of it. `others`: clients of
    limits that could not be read, by prefix their names.
    """
    made: dict[str, Made] = {}
    persons: dict[Prefix, str] = dict(others)
    for limit in limits:
        found = made_limit.read(limit, now)
        if found is not None:
            made[found.name] = found
            continue
        end = limit.expires_at(now if limit.created_at is None else limit.created_at)
        if end is None or end > now:
            persons.update((client, limit.name) for client in limit.spec.clients)
    return Surroundings(made, persons, protected_addresses.index(frozenset(persons)), protected, nodes)


NOTHING = Surroundings({}, {}, protected_addresses.index(frozenset()), protected_addresses.index(frozenset()))
