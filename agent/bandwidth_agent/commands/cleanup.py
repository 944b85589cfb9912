"""`cleanup`: removes everything of ours from the kernel, and deletes the accepted limits and the plan from disk."""

from __future__ import annotations

import json

from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import host, output, parts
from bandwidth_agent.kernel import contract, model, objects, refusals
from bandwidth_agent.limits.cluster import stored_plan
from bandwidth_agent.limits.directory import last_good_state
from bandwidth_agent.planner import apply, describe, desired, diff
from bandwidth_agent.planner.classifier import ownership
from bandwidth_agent.planner.placement import unseen_programs
from bandwidth_agent.policies import made_files
from bandwidth_agent.process import lock
from bandwidth_agent.sight.truth import stored_findings
from bandwidth_runtime import printable

_ROUNDS = 3  # an object that another one still refers to is removed in the next round
_LINES_SHOWN = 20  # of one step


def main(options: Options) -> int:
    kernel = None
    try:
        with lock.Lock(options.state_dir):
            kernel = parts.kernel(options)
            return _remove(kernel, options)
    except lock.HeldError as error:
        return host.fail(host.held(error, "it would put everything back: stop it first"))
    except OSError as error:
        return host.fail(f"the kernel could not be read: {refusals.words(error)}")
    finally:
        if kernel is not None:
            kernel.close()


def _remove(kernel: contract.Kernel, options: Options) -> int:
    removed, failures = 0, dict[str, str]()
    steps: list[tuple[objects.Change, list[str]]] = []
    observed = kernel.observe()
    facts = kernel.facts()
    kept = desired.nothing(facts, observed)
    for _ in range(_ROUNDS):
        changes = diff.compute(kept, observed)
        if not changes:
            break
        labels = ownership.limits(observed)
        applied = apply.apply(kernel, changes, ownership.number)
        removed += applied.changes
        failures = {str(item): why.message for item, why in applied.objects.items()}
        failures |= {f"entry in {name}": why.message for (name, _), why in applied.entries.items()}
        failures |= {f"class {minor:x} on {device}": why.message for (device, minor), why in applied.classes.items()}
        steps += [(step, describe.lines(step, labels)) for step in changes]
        observed = kernel.observe()
    last_good_state.forget(options.state_dir)
    stored_plan.forget(options.state_dir)
    stored_findings.forget(options.state_dir)
    made_files.forget(options.state_dir)
    unseen = unseen_programs.left(facts, observed)
    left = observed != model.EMPTY or unseen != ""
    failures |= {"programs": unseen} if unseen else {}
    output.write(_json(removed, steps, failures, left) if options.json else _text(removed, steps))
    if left:
        reasons = "; ".join(f"{what}: {why}" for what, why in failures.items()) or "another program keeps changing it"
        return host.fail(f"not everything could be removed: {reasons}")
    return 0


def _json(removed: int, steps: list[tuple[objects.Change, list[str]]], failures: dict[str, str], left: bool) -> str:
    found = {
        "changes": removed,
        "clean": not left,
        "steps": [{"kind": type(s).__name__, "changes": s.size, "lines": lines} for s, lines in steps],
        "failing": [{"name": what, "message": why} for what, why in failures.items()],
    }
    return json.dumps(found, indent=2) + "\n"


def _text(removed: int, steps: list[tuple[objects.Change, list[str]]]) -> str:
    if not steps:
        return "nothing to remove\n"
    words = []
    for _, lines in steps:
        words += lines[:_LINES_SHOWN]
        if len(lines) > _LINES_SHOWN:
            words.append(f"       … and {len(lines) - _LINES_SHOWN} more")
    words += ["", f"removed: {removed} kernel objects"]
    return "\n".join(map(printable.line, words)) + "\n"
