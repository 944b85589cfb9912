"""A drafted limit is one that the agent and the API server take."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given

from bandwidth_api import addresses, units
from bandwidth_api.crds import limit
from bandwidth_api.plan import Mode, Prefix
from bandwidth_sight import draft, durations

HOST = Prefix(4, 0xC0000207, 32)
V6 = addresses.parse("2001:db8:7::/64")


@given(
    st.sampled_from([HOST, V6, addresses.parse("198.51.100.0/24"), addresses.parse("2001:db8::7")]),
    st.integers(units.RATE_MIN, units.RATE_MAX),
    st.integers(durations.LEAST_SECONDS, durations.MOST_SECONDS),
    st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=250).map(lambda text: f"a{text}"),
    st.booleans(),
)
def test_the_yaml_is_read_as_the_limit_that_was_typed(
    client: Prefix, rate: int, ttl: int, reason: str, observe: bool
) -> None:
    """Whatever the reason holds, YAML and object are the same valid limit."""
    text = draft.suggested_rate(rate)
    made = draft.read(client, text, durations.write(ttl), reason, observe=observe)
    assert yaml.safe_load(draft.as_yaml(made)) == draft.as_object(made)
    read = limit.parse(draft.as_object(made))
    assert isinstance(read, limit.Limit)
    assert read.spec.clients == (client,)
    assert read.spec.egress.rate == units.parse_rate(text)
    assert read.spec.ttl_seconds == ttl
    assert read.spec.reason == reason.strip()
    assert read.spec.mode is (Mode.OBSERVE if observe else Mode.ENFORCE)


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"rate": "5"}, "rate", "no unit"),
        ({"rate": "5MB"}, "rate", "bits, not bytes"),
        ({"rate": ""}, "rate", "no rate"),
        ({"ttl": "1"}, "ttl", "write a number with s, m, h or d"),
        ({"ttl": "5s"}, "ttl", "between 1m and 365d"),
        ({"ttl": "9999999d"}, "ttl", "between 1m and 365d"),
        ({"reason": " "}, "reason", "required"),
        ({"reason": "x" * 257}, "reason", "at most 256"),
        ({"reason": "a\x1b[2Jb"}, "reason", "cannot be printed"),
    ],
)
def test_a_wrong_field_is_named(changed: dict[str, str], field: str, words: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(draft.FieldError, match=words) as refused:
        draft.read(HOST, **{"rate": "5Mbit", "ttl": "1h", "reason": "loop"} | changed)
    assert refused.value.field == field


@pytest.mark.parametrize("text", ["127.0.0.1", "224.0.0.1", "fe80::1", "0.0.0.0/4", "2000::/8", "255.255.255.255"])
def test_what_no_limit_may_name_is_said_before(text: str) -> None:
    """Loopback, multicast, link-local, broadcast, and networks that are too wide."""
    assert draft.refusal(addresses.parse(text))


def test_names_differ_by_client_and_number() -> None:
    """They are names of objects, and tell what the limit is for."""
    assert draft.name(HOST) == "slow-192-0-2-7"
    assert draft.name(HOST, observe=True, number=3) == "observe-192-0-2-7-no3"
    assert draft.name(V6) == "slow-2001-db8-7---64"


@pytest.mark.parametrize(
    ("now", "suggested"),
    [(119_200_000, "39Mbit"), (0, "64kbit"), (300_000, "100kbit"), (3e12, "400Gbit"), (29_900_000, "9.9Mbit")],
)
def test_the_suggested_rate_is_a_third(now: float, suggested: str) -> None:
    """Rounded down to two digits, and never outside of what a limit may be."""
    assert draft.suggested_rate(now) == suggested
    assert units.parse_rate(suggested)


@given(st.integers(durations.LEAST_SECONDS, durations.MOST_SECONDS))
def test_durations_are_read_as_written(seconds: int) -> None:
    """Each number of seconds has one text."""
    assert durations.parse(durations.write(seconds)) == seconds
