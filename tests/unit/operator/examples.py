"""Values that the unit tests of the operator and of its wire forms are made of."""

from __future__ import annotations

from typing import Any

import hypothesis
from hypothesis import strategies as st

from bandwidth_api.crds import limit as limits
from bandwidth_api.crds import node_state, slices
from bandwidth_api.kinds import Kind
from bandwidth_api.plan import Mode, PlanEntry, PortRange, Prefix, SelectorTerm, Sharing
from bandwidth_operator.cache import objects

NOW = 1_800_000_000.0
CREATED = NOW - 3600


def entry(name: str = "a", address: int = 0xCB007107, **fields: Any) -> PlanEntry:
    """A plan entry as read from a slice."""
    return PlanEntry(
        **{
            "limit": name,
            "uid": "",
            "generation": 0,
            "clients": (Prefix(4, address, 32),),
            "excepted": (),
            "ports": (),
            "rate_bits_per_second": 5_000_000,
            "burst_bytes": None,
            "mode": Mode.ENFORCE,
            "sharing": Sharing.SHARED,
            "priority": 0,
            "created_at": CREATED,
            "expires_at": None,
            "node_selector": (),
        }
        | fields
    )


def document(name: str = "a", client: str = "203.0.113.7", generation: int = 1, **spec: Any) -> dict[str, Any]:
    """A ClientBandwidthLimit as the API server hands it out."""
    return {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "ClientBandwidthLimit",
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "generation": generation,
            "resourceVersion": str(100 + generation),
            "creationTimestamp": "2027-01-15T07:00:00Z",
        },
        "spec": {"clients": [client], "egress": {"rate": "5Mbit"}, **spec},
    }


def limit(name: str = "a", **options: Any) -> objects.Limit:
    """A limit as the operator knows it."""
    found = objects.read(Kind.LIMIT, document(name, **options), None)
    assert isinstance(found, objects.Limit)
    return found


def accepted(name: str = "a", **options: Any) -> limits.Limit:
    """A limit that keeps all rules."""
    parsed = limit(name, **options).parsed
    assert isinstance(parsed, limits.Limit)
    return parsed


def node(name: str, *, ready: bool = True, **labels: str) -> objects.Node:
    return objects.Node(name, f"uid-{name}", 1, labels, ready)


def state(name: str, digest: str, *, heard_at: float = NOW, **fields: Any) -> objects.State:
    content = node_state.NodeState(
        **{"node": name, "plan_digest": digest, "plan_complete": True, "reported_at": NOW} | fields
    )
    return objects.State(name, f"uid-state-{name}", 1, content, heard_at)


def known_slice(item: slices.Slice | slices.Head, version: int = 1) -> objects.Slice:
    name = item.name if isinstance(item, slices.Slice) else slices.HEAD
    return objects.Slice(name, f"uid-{name}", version, item)


# ── strategies ─────────────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    """Any prefix that an object can name; IPv4-mapped ones have no text, because they can be read in two ways."""
    family = draw(st.sampled_from((4, 6)))
    bits = 32 if family == 4 else 128
    length = draw(st.integers(8, bits))
    network = draw(st.integers(0, 2**length - 1)) << (bits - length)
    hypothesis.assume(family == 4 or network >> 32 != 0xFFFF)
    return Prefix(family, network, length)


@st.composite
def port_ranges(draw: st.DrawFn) -> PortRange:
    first = draw(st.integers(1, 65535))
    return PortRange(draw(st.sampled_from(("TCP", "UDP"))), first, draw(st.integers(first, 65535)))


_WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-./", min_size=1, max_size=40)
_TERMS = st.builds(
    SelectorTerm,
    _WORDS,
    st.sampled_from(("In", "NotIn", "Exists", "DoesNotExist")),
    st.lists(_WORDS, max_size=3).map(tuple),
)
_SECONDS = st.integers(0, 2**33).map(float)


def entries(names: st.SearchStrategy[str] = _WORDS) -> st.SearchStrategy[PlanEntry]:
    """Any entry that a slice can hold."""
    return st.builds(
        PlanEntry,
        limit=names,
        uid=st.just(""),
        generation=st.just(0),
        clients=st.lists(prefixes(), min_size=1, max_size=4).map(tuple),
        excepted=st.lists(prefixes(), max_size=2).map(tuple),
        ports=st.lists(port_ranges(), max_size=3).map(tuple),
        rate_bits_per_second=st.integers(1, 400_000_000_000),
        burst_bytes=st.none() | st.integers(1, 2**26),
        mode=st.sampled_from((Mode.ENFORCE, Mode.OBSERVE)),
        sharing=st.sampled_from(Sharing),
        priority=st.integers(0, 1000),
        created_at=_SECONDS,
        expires_at=st.none() | _SECONDS,
        node_selector=st.lists(_TERMS, max_size=3).map(tuple),
    )
