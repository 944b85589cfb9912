"""`top`: asks the cluster who gets how much, and shows it: on a screen, or once."""

from __future__ import annotations

import argparse
import json
import time

from bandwidth_api.crds import traffic_answer
from bandwidth_api.crds.traffic_answer import Answer
from bandwidth_cli import cluster, outcome
from bandwidth_cli.kubectl.program import Json, Kubectl
from bandwidth_cli.objects import traffic
from bandwidth_cli.outcome import FailedError, WrongCallError
from bandwidth_cli.text import page
from bandwidth_cli.verbs.look import NOBODY_ANSWERS, Look
from bandwidth_sight.rows import Snapshot

PATIENCE_SECONDS = 15.0  # until the first answer, with `--once`
LATE_SECONDS = 3.0  # for nodes that have not answered when the time is over
NOTHING_SECONDS = 8.0  # without a row for so long, and there is nothing to show


def run(options: argparse.Namespace, kubectl: Kubectl) -> int:
    """Show the traffic of the cluster; return the exit code."""
    if options.once is None:
        from bandwidth_sight import screen

        if options.output != "text":
            raise WrongCallError(f"-o {options.output} needs --once SECONDS: a screen has no other form")
        unusable = screen.unusable()
        if unusable:
            raise WrongCallError(f"{unusable}; --once SECONDS prints a table instead")
    look = begin(options, kubectl)
    if options.once is None:
        kubectl.hush()
        return 128 + ended if (ended := screen.run(look)) else outcome.DONE
    try:
        answer, snapshot = once(look, options.once)
    finally:
        look.close()
    _print(options.output, answer, snapshot)
    return outcome.DONE


def begin(options: argparse.Namespace, kubectl: Kubectl) -> Look:
    """Ask, and return what shows the answers. Raises FailedError."""
    asker = cluster.who_am_i(kubectl)  # the first request: it may log in
    spec = traffic.spec(top=options.top, nodes=options.nodes, exact=options.exact, grouped=options.prefix)
    return Look(kubectl, spec, asker)


def once(look: Look, seconds: float) -> tuple[Answer, Snapshot]:
    """Look for so long, and return the last answer. Raises FailedError."""
    began: float | None = None
    asked_at = time.monotonic()
    deadline = asked_at + PATIENCE_SECONDS
    found: tuple[Answer, Snapshot] | None = None
    while True:
        now = time.monotonic()
        # A node that is late may still come.
        whole = found is not None and found[0].answered >= found[0].asked
        ends = seconds if whole else seconds + LATE_SECONDS
        if began is not None and now - began >= ends:
            break
        if began is None and now >= deadline:
            break
        left = deadline - now if began is None else ends - (now - began)
        answer = look.question.wait(max(0.0, left))
        if answer is None:
            continue
        if answer.answered:
            found = answer, look.shown(answer)
            # The nodes may have looked for others already, who asked for other rows; rates are averages of that time.
            if began is None and (answer.rows or time.monotonic() - asked_at >= NOTHING_SECONDS):
                began = time.monotonic() - min(answer.seconds, seconds)
        if answer.status == "False" and answer.reason in (traffic_answer.NO_NODE, traffic_answer.TOO_MANY):
            raise FailedError(answer.message or answer.reason)
    if found is None:
        raise FailedError(silence(look, PATIENCE_SECONDS))
    return found


def silence(look: Look, seconds: float) -> str:
    """Return in words that no answer came, and why that may be."""
    if look.question.trouble:
        return f"no answer within {seconds:g} s: {look.question.trouble}"
    return f"no node answered within {seconds:g} s; {NOBODY_ANSWERS}"


def _print(form: str, answer: Answer, snapshot: Snapshot) -> None:
    from bandwidth_sight import output, wire

    match form:
        case "json":
            page.show([json.dumps(_counted(wire.write(snapshot), answer), indent=2, ensure_ascii=False)])
        case "csv":
            page.show(output.as_csv(snapshot).splitlines())
        case _:
            page.show(output.text(snapshot).splitlines())


def _counted(made: Json, answer: Answer) -> Json:
    """Return the object with the number of nodes of each client, of which an answer names one."""
    for each, row in zip(made["clients"], answer.rows, strict=False):
        each["nodes"] = [row.node] if row.node else []
        each["nodeCount"] = row.nodes
    return made
