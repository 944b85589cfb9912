"""`plan`: prints the changes that `run` would make, in their order, and makes none."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from bandwidth_agent import reconcile, report
from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import host, host_policies, output, parts
from bandwidth_agent.kernel import objects, refusals
from bandwidth_agent.planner import describe
from bandwidth_agent.planner.classifier import ownership
from bandwidth_agent.policies import policies_page
from bandwidth_runtime import printable

CHANGES = 2  # exit code of --exit-code when there are changes


def main(options: Options) -> int:
    kernel = parts.kernel(options)
    try:
        reconciler = reconcile.Reconciler(kernel, options.settings, spared=parts.spared(options))
        manifests = parts.source(options, kernel, reconciler, writes=False)
        source = host_policies.source(manifests, options, kernel, reconciler, None)
        source.settle()
        now = time.time()
        wanted = source.wanted(now)
        policies = policies_page.read(manifests.policies, options.state_dir, now)
        source.close()
        prepared = reconciler.prepare(wanted, read=True)
        expected = reconciler.expected_report(prepared)
    except parts.ManifestsError as error:
        return host.fail(str(error))
    except OSError as error:
        return host.fail(f"the kernel could not be read: {refusals.words(error)}")
    finally:
        kernel.close()
    labels = ownership.limits(prepared.observed, prepared.desired)
    steps = [(step, describe.lines(step, labels)) for step in prepared.changes]
    output.write(_json(steps, expected, policies) if options.json else _text(steps, expected, policies))
    return CHANGES if options.exit_code and steps else 0


def _json(
    steps: list[tuple[objects.Change, list[str]]], expected: report.Report, policies: Sequence[policies_page.Told]
) -> str:
    found = expected.as_json()
    del found["durationSeconds"]
    found["changes"] = sum(step.size for step, _ in steps)
    found["steps"] = [{"kind": type(s).__name__, "changes": s.size, "lines": lines} for s, lines in steps]
    found["policies"] = [each.as_json() for each in policies]
    return json.dumps(found, indent=2) + "\n"


def _text(
    steps: list[tuple[objects.Change, list[str]]], expected: report.Report, policies: Sequence[policies_page.Told]
) -> str:
    words = [line for _, lines in steps for line in lines]
    if words:
        words.append("")
    total = sum(step.size for step, _ in steps)
    in_force = f"{expected.programmed} of {expected.desired} limits"
    if steps:
        words.append(f"{total} changes would put {in_force} in force as written; none was made.")
    else:
        words.append(f"Nothing to change: {in_force} in force as written.")
    words += [f"not as written: {f.name}: {f.reason}: {f.message}" for f in expected.failing]
    words += [f"warning: {message}" for message in expected.warnings]
    words += [line for each in policies for line in each.lines()]
    return "\n".join(map(printable.line, words)) + "\n"
