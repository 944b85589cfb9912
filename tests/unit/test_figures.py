"""Figures that pages repeat from the benchmarks are those that were measured last, to their last digit or 5 %."""

from __future__ import annotations

import json
import pathlib
import re
import statistics
from typing import Any, NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FLEET = "10,000 limits in one go, 100 agents: "
EDIT = "one edit, 100 agents: "


class Figure(NamedTuple):
    page: str
    text: str  # as the page has it, with # in the place of the figure
    row: str  # of bench/results.json
    case: dict[str, str]
    metric: str = "measured"
    factor: float = 1.0  # from the unit of the benchmark to that of the page


FIGURES = [
    Figure("sizing", "# MiB without limits,", "memory", {"limits": "0"}, "resident"),
    Figure("sizing", "without limits, # MiB with 10,000", "memory", {"limits": "10,000"}, "resident"),
    Figure("sizing", "scraped every 15 s | # % of a core", "rest", {"limits": "10,000"}, "CPU, mean"),
    *(
        Figure(
            "sizing",
            text,
            "packets",
            {"design": design, "limits": limits},
            "packets per second ÷ bare",
        )
        for text, design, limits in (
            ("64 bytes each | # of the rate of a bare link with 1 limit", "agent, ifb", "1"),
            ("with 1 limit, # with 1,000", "agent, ifb", "1,000"),
            ("with 1,000, # with 10,000", "agent, ifb", "10,000"),
            ("(a rule per client: # with 1,000)", "a rule per client", "1,000"),
        )
    ),
    Figure("sizing", "from nothing | 1,000 limits # s;", "program", {"limits": "1,000"}, "pass"),
    Figure("sizing", "s; 10,000 # s; 30,000", "program", {"limits": "10,000"}, "pass"),
    Figure("sizing", "s; 30,000 # s; of `run --once`", "program", {"limits": "30,000"}, "pass"),
    Figure("sizing", "with its start, # s,", "program", {"limits": "1,000"}, "whole program"),
    Figure("sizing", "s, # s and", "program", {"limits": "10,000"}, "whole program"),
    Figure("sizing", "s and # s |", "program", {"limits": "30,000"}, "whole program"),
    Figure("sizing", "| # ms from file to kernel", "change", {"limits": "10,000"}, "file to kernel"),
    Figure("sizing", "| restart with 10,000 | # s,", "restart", {"limits": "10,000"}, "until adopted"),
    Figure("upgrade", "with 10,000 limits in # s and", "restart", {"limits": "10,000"}, "until adopted"),
    Figure("sizing", "a ping of # to", "ping", {"limit": "5 Mbit", "flow": "bbr"}, "agent, ifb"),
    Figure("sizing", "to # ms at 5 Mbit/s and", "ping", {"limit": "5 Mbit", "flow": "cubic"}, "agent, ifb"),
    Figure("sizing", "5 Mbit/s and of # to", "ping", {"limit": "100 Mbit", "flow": "bbr"}, "agent, ifb"),
    Figure("sizing", "to # ms at 100 Mbit/s", "ping", {"limit": "100 Mbit", "flow": "cubic"}, "agent, ifb"),
    Figure("sizing", "makes that # ms at 5 Mbit/s", "ping-6.1", {"limit": "5 Mbit", "flow": "cubic"}, "agent, ifb"),
    Figure(
        "scale", "a limit with its status, as JSON | # kB", "cluster-fleet", {"what": "size of a limit with its status"}
    ),
    Figure("scale", "a full slice | # kB", "cluster-operator", {"what": "one edit: bytes to each agent"}),
    Figure("scale", "a node state | # kB", "cluster-fleet", {"what": "size of a node state"}),
    Figure(
        "scale",
        "the report taken | # ms",
        "cluster-fleet",
        {"what": f"{EDIT}CPU of API server and etcd for each agent"},
    ),
    Figure(
        "scale", "what follows from it | # ms", "cluster-fleet", {"what": f"{EDIT}CPU of the operator for each agent"}
    ),
    Figure(
        "scale",
        "all else it asks for, TLS | # ms",
        "cluster-fleet",
        {"what": "all 100 agents restarted at once: CPU of API server and etcd"},
        factor=10.0,  # seconds for 100 agents, milliseconds for each
    ),
    Figure("scale", "with 100 nodes | # MiB", "cluster-fleet", {"what": f"{FLEET}memory of the operator, largest"}),
    Figure(
        "scale",
        "10 agents and 10,000 limits: # % of a core",
        "cluster-idle",
        {"what": "idle for 10 min, 10,000 limits, 10 agents: CPU of the operator"},
    ),
    Figure("scale", "all had reported # s after", "cluster-fleet", {"what": f"{EDIT}until each has reported it"}),
    Figure("scale", "said `Ready` after # s", "cluster-fleet", {"what": f"{EDIT}until its status says Ready"}),
    Figure("scale", "while it lasts | # measured", "cluster-fleet", {"what": f"{FLEET}slice writes"}),
    Figure(
        "scale",
        "created in # s |",
        "cluster-fleet",
        {"what": f"{FLEET}creating them alone, over 8 connections"},
    ),
    Figure("scale", "in the # s until all limits", "cluster-fleet", {"what": f"{FLEET}until all are Ready"}),
]


def measured(figure: Figure) -> float:
    """The median of the rounds, as docs/benchmarks.md prints it."""
    rows: list[dict[str, Any]] = json.loads((ROOT / "bench" / "results.json").read_text())["rows"]
    (row,) = (row for row in rows if row["row"] == figure.row)
    (found,) = (
        each
        for each in row["figures"]
        if each["metric"] == figure.metric and figure.case.items() <= each["case"].items()
    )
    return statistics.median(found["rounds"]) * figure.factor


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: f"{figure.page}: {figure.text}")
def test_a_figure_is_the_one_that_was_measured(figure: Figure) -> None:
    """After a benchmark that says something else, the pages that repeat its figure say so too."""
    text = (ROOT / "docs" / f"{figure.page}.md").read_text()
    before, after = figure.text.split("#")
    shown = re.findall(re.escape(before) + r"([\d.]+)" + re.escape(after), text)
    assert len(shown) == 1, "the page has another sentence by now"
    last_digit = 10.0 ** -len(shown[0].partition(".")[2])
    assert abs(float(shown[0]) - measured(figure)) <= max(last_digit / 2, 0.05 * measured(figure)), measured(figure)
