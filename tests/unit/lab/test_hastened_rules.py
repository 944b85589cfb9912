"""The faster clock of the chart's rules, by which their causes are tested in a cluster."""

from __future__ import annotations

import re

import pytest

from bandwidth_lab import prometheus


def test_every_rule_of_the_chart_can_be_hastened() -> None:
    """Each range and offset has a shorter time; names, thresholds and texts stay."""
    rules = prometheus.rules()
    for rule, fast in zip(rules, prometheus.hastened(rules), strict=True):
        assert {key: value for key, value in fast.items() if key not in ("expr", "for")} == {
            key: value for key, value in rule.items() if key not in ("expr", "for")
        }
        assert fast.get("for") == (prometheus.FOR if "for" in rule else None)
        times = re.compile(r"\[\w+\]|offset \w+")
        assert times.sub("", fast["expr"]) == times.sub("", rule["expr"])
        assert all(re.search(r"\d+s\b", time) for time in times.findall(fast["expr"])), fast["expr"]


def test_half_an_hour_less_than_days_is_days() -> None:
    """An offset keeps its number of days."""
    (fast,) = prometheus.hastened([{"expr": "a[1h] offset 47h30m", "for": "5m"}])
    assert fast == {"expr": f"a[20s] offset {2 * prometheus.DAY_SECONDS}s", "for": "2s"}


def test_a_time_that_nobody_has_shortened_is_refused() -> None:
    """It would be waited for in the cluster."""
    for expression in ("a offset 1h", "a offset 5h30m", "rate(a[3h])"):
        with pytest.raises(LookupError, match="no shorter time"):
            prometheus.hastened([{"expr": expression}])
