"""What the agent logs from report to report: news, once, and never a flood."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from structlog.testing import capture_logs
from structlog.typing import EventDict

from bandwidth_agent import report
from bandwidth_agent.report import InterfaceReport
from bandwidth_agent.reporting import change_log
from bandwidth_api.conditions import Problem, Reason

QUIET = report.Report(
    changes=0,
    desired=1,
    programmed=1,
    failed=0,
    failing=(),
    classifier="mark",
    classifier_reason="",
    interfaces=(),
    missing_features=(),
    conflicts=(),
    warnings=(),
    duration_seconds=0.01,
)


def told(*reports: report.Report) -> list[EventDict]:
    """What is logged of the last of these reports, after the others."""
    of = change_log.ChangeLog()
    for earlier in reports[:-1]:
        of.record(earlier)
    with capture_logs() as lines:
        of.record(reports[-1])
    return lines


def failing(names: Iterable[str], message: str = "wrong") -> report.Report:
    return dataclasses.replace(QUIET, failing=tuple(Problem(Reason.INVALID, message, name=name) for name in names))


def test_nothing_new_is_not_worth_a_line() -> None:
    """A pass that found everything as it was is silent."""
    same = dataclasses.replace(
        failing(["a"]), warnings=("careful",), interfaces=(InterfaceReport("eth0", "fq", "ifb", Reason.PREFERRED, ""),)
    )
    assert told(same, same) == []


def test_a_sign_of_a_datapath_that_skips_netfilter_is_told_once() -> None:
    """When it is there and when it is gone; that another device shows it is no news, nor are verified limits."""
    signed = dataclasses.replace(QUIET, datapath_sign="device lxc1")
    [line] = told(QUIET, signed)
    assert (line["sign"], line["log_level"]) == ("device lxc1", "warning")
    assert told(signed, dataclasses.replace(signed, datapath_sign="device lxc2", verified=frozenset({"a"}))) == []
    [line] = told(signed, QUIET)
    assert line["log_level"] == "info"


def test_a_failing_limit_is_told_when_it_begins_changes_and_ends() -> None:
    """Each with its reason."""
    [line] = told(QUIET, failing(["a"]))
    assert (line["event"], line["limit"], line["reason"], line["log_level"]) == ("wrong", "a", "Invalid", "warning")
    [line] = told(failing(["a"]), failing(["a"], "otherwise wrong"))
    assert line["event"] == "otherwise wrong"
    [line] = told(failing(["a"]), QUIET)
    assert (line["event"], line["limit"]) == ("no longer failing", "a")


def test_ten_thousand_failing_limits_are_a_few_lines() -> None:
    """The first are told, the others counted; and so when it is over."""
    many = failing([f"l{number}" for number in range(10_000)])
    lines = told(QUIET, many)
    assert len(lines) == change_log.LINES_AT_ONCE + 1
    assert lines[-1]["more"] == 10_000 - change_log.LINES_AT_ONCE
    assert len(told(many, QUIET)) == change_log.LINES_AT_ONCE + 1


def test_changes_warnings_conflicts_and_interfaces_are_told() -> None:
    """Whoever reads the log knows what the agent did to the host, and what it gave up."""
    eth0 = InterfaceReport("eth0", "fq_codel", "ifb", Reason.PREFERRED, "as it was")
    busy = dataclasses.replace(QUIET, changes=3, warnings=("careful",), conflicts=("set cbl-v4",), interfaces=(eth0,))
    assert [line["event"] for line in told(busy)] == [
        "changed the kernel",
        "shapes",
        "careful",
        "another program keeps changing this; left alone for now",
    ]
    assert [line["event"] for line in told(busy, QUIET)] == ["no longer an egress interface", "no longer left alone"]
