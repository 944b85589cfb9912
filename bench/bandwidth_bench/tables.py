"""Figures as markdown: the tables of docs/benchmarks.md between its markers, everything else there left alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bandwidth_bench.figures import Figure, Result

MISSED = " ✗"


def number(value: float) -> str:
    """Three significant digits, never in scientific form."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def cell(figure: Figure) -> str:
    """The median, its unit, and from where to where the rounds went."""
    unit = f" {figure.unit}" if figure.unit and figure.unit != "%" else figure.unit
    text = f"**{number(figure.median)}**{unit}" if figure.judged else f"{number(figure.median)}{unit}"
    if len(figure.rounds) > 1:
        text += f" ({number(min(figure.rounds))}–{number(max(figure.rounds))})"
    return text + ("" if figure.reached else MISSED)


def reach(figures: Iterable[Figure]) -> str:
    """The bounds of one table row, each said once."""
    said: dict[str, None] = {}
    for f in figures:
        unit = f" {f.unit}" if f.unit and f.unit != "%" else f.unit
        if f.low is not None and f.high is not None:
            said[f"{f.low:g}" if f.low == f.high else f"{f.low:g}–{f.high:g}{unit}"] = None
        elif f.high is not None:
            said[f"≤ {f.high:g}{unit}"] = None
        elif f.low is not None:
            said[f"≥ {f.low:g}{unit}"] = None
    return "; ".join(said) or "–"


def table(result: Result) -> str:
    """One markdown table: a line per case, a column per metric, and the bounds behind."""
    metrics = list(dict.fromkeys(f.metric for f in result.figures))
    lines: dict[tuple[str, ...], list[Figure]] = {}
    for figure in result.figures:
        lines.setdefault(tuple(figure.case.values()), []).append(figure)
    head = [*result.figures[0].case, *metrics, "reach"]
    rows = [head, ["---"] * len(head)]
    for case, figures in lines.items():
        by_metric = {f.metric: f for f in figures}
        cells = [cell(by_metric[m]) if m in by_metric else "–" for m in metrics]
        rows.append([*case, *cells, reach(figures)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def provenance(result: Result) -> str:
    """Which machine, when, how long."""
    m = result.machine
    tools = f"Python {m['python']}, iproute2 {m['iproute2']}, iptables {m['iptables']}, ipset {m['ipset']}"
    return (
        f"{m['cpu']}, {m['cores']} cores, {m['memory']}, Linux {m['kernel']}; {tools}. {result.at} UTC, "
        f"{result.seconds:.0f} s, load {m['load']} before.{' A quick run.' if result.quick else ''}"
    )


def rewrite(document: str, results: Iterable[Result]) -> str:
    """The document with each result's block written again; a result without a block in it is an error."""
    for result in results:
        start, end = f"<!-- bench:{result.row} -->", "<!-- /bench -->"
        block = f"{start}\n{table(result)}\n\n<sub>{provenance(result)}</sub>\n{end}"
        parts = re.split(f"{re.escape(start)}.*?{re.escape(end)}", document, flags=re.DOTALL)
        if len(parts) != 2:
            raise LookupError(f"{len(parts) - 1} blocks {start} in the document")
        document = block.join(parts)
    return document
