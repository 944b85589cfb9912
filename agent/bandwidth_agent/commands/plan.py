"""`plan`: prints what `run` would change, in the order in which it would be applied, and changes nothing."""

from __future__ import annotations

import json
import time

from bandwidth_agent import describe, logs, reconcile, report, whose
from bandwidth_agent.commands import host, output, parts
from bandwidth_agent.commands.options import Options
from bandwidth_agent.kernel import change
from bandwidth_agent.source import compiled

CHANGES = 2  # exit code of --exit-code when there are changes


def main(options: Options) -> int:
    logs.configure(options.log_format, options.log_level)
    why_not = host.missing()
    if why_not:
        return host.fail(why_not)
    kernel = parts.kernel(options)
    try:
        reconciler = reconcile.Reconciler(kernel, options.settings)
        source = parts.source(options, kernel, reconciler, writes=False)
        wanted = compiled.Compiled(source, options.node_labels).wanted(time.time())
        source.close()
        prepared = reconciler.prepare(wanted, read=True)
        outlook = reconciler.outlook(prepared)
    except parts.ManifestsError as error:
        return host.fail(str(error))
    except OSError as error:
        return host.fail(f"the kernel could not be read: {error}")
    finally:
        kernel.close()
    labels = whose.limits(prepared.observed, prepared.desired)
    steps = [(step, describe.lines(step, labels)) for step in prepared.changes]
    output.write(_json(steps, outlook) if options.json else _text(steps, outlook))
    return CHANGES if options.exit_code and steps else 0


def _json(steps: list[tuple[change.Change, list[str]]], outlook: report.Report) -> str:
    told = outlook.as_json()
    del told["durationSeconds"]
    told["changes"] = sum(change.size(step) for step, _ in steps)
    told["steps"] = [{"kind": type(s).__name__, "changes": change.size(s), "lines": lines} for s, lines in steps]
    return json.dumps(told, indent=2) + "\n"


def _text(steps: list[tuple[change.Change, list[str]]], outlook: report.Report) -> str:
    words = [line for _, lines in steps for line in lines]
    if words:
        words.append("")
    total = sum(change.size(step) for step, _ in steps)
    in_force = f"{outlook.programmed} of {outlook.desired} limits"
    if steps:
        words.append(f"{total} changes would put {in_force} in force as written; none was made.")
    else:
        words.append(f"Nothing to change: {in_force} in force as written.")
    words += [f"not as written: {f.name}: {f.reason}: {f.message}" for f in outlook.failing]
    words += [f"warning: {message}" for message in outlook.warnings]
    return "\n".join(words) + "\n"
