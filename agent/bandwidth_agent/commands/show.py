"""`show`: prints by limit what is in the kernel now, with the rates and what was seen to leave between two readings."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time

from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import host, output, parts
from bandwidth_agent.kernel import contract, model, refusals
from bandwidth_agent.planner import way_out
from bandwidth_agent.planner.placement import unseen_programs
from bandwidth_agent.policies import kept_makers
from bandwidth_agent.reporting import show
from bandwidth_agent.sight.truth import single_look

_CLEAR = "\033[H\033[J"


def main(options: Options) -> int:
    kernel = parts.kernel(options)
    try:
        return _print(kernel, options)
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        return host.fail(f"the kernel could not be read: {refusals.words(error)}")
    finally:
        kernel.close()


def _print(kernel: contract.Kernel, options: Options) -> int:
    """Print once, or with --watch repeatedly; each time with the rates since the time before.

    1 where programs of ours may be left that cannot be seen.
    """
    waiting = threading.Event()
    state, before = kernel.observe(), kernel.counters()
    facts = _facts(kernel)
    unseen = unseen_programs.left(facts, state) if facts is not None else ""
    off_path = (*_off_path(kernel, state, facts), *filter(None, [unseen]))
    while True:
        with contextlib.ExitStack() as open_look:
            began, why_not = _begin(kernel, state)
            if began is not None:
                open_look.callback(began.close)
            if state != model.EMPTY or options.watch:
                waiting.wait(options.interval_seconds)
            state, after = kernel.observe(), kernel.counters()
            bypassed = began.end(state) if began is not None else ()
        _write(
            show.view(state, before, after, (*off_path, *why_not), bypassed, kept_makers.read(options.state_dir)),
            options,
        )
        if not options.watch:
            return host.fail(unseen) if unseen else 0
        before = after


def _begin(kernel: contract.Kernel, state: model.State) -> tuple[single_look.SingleLook | None, tuple[str, ...]]:
    """Begin to look at what leaves where limits are enforced; if that is not possible, return why."""
    uplinks = sorted(way_out.shaped_in(state))
    if not uplinks:
        return None, ()
    try:
        return single_look.SingleLook(kernel, state, uplinks), ()
    except OSError as error:
        why = "it takes CAP_NET_RAW" if isinstance(error, PermissionError) else refusals.words(error)
        return None, (f"whether packets leave past their limits cannot be seen: {why}",)


def _facts(kernel: contract.Kernel) -> model.Facts | None:
    """What is around ours; None: it cannot be read, so nothing is said of it."""
    try:
        return kernel.facts()
    except OSError:
        return None


def _off_path(kernel: contract.Kernel, state: model.State, facts: model.Facts | None) -> tuple[str, ...]:
    """Return messages about limits whose clients are reached by an interface that is not shaped, as at the start."""
    entries, known = way_out.limits_in(state), way_out.WayOut()
    if not entries or facts is None:
        return ()
    try:
        known.learn(kernel.ways(known.unasked(entries, facts, way_out.shaped_in(state))))
    except OSError:
        return ()  # unknown, so no message
    problems, warnings = known.problems(entries)
    problems = way_out.asleep(entries, facts.idle) | problems
    return (*(f"{limit}: {problem.message}" for limit, problem in problems.items()), *warnings)


def _write(looked: show.View, options: Options) -> None:
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    if options.json:
        # With --watch one object a line, so that a program can read them one by one.
        text = json.dumps(show.as_json(looked), indent=None if options.watch else 2) + "\n"
    else:
        colors = terminal and "NO_COLOR" not in os.environ
        text = show.table(looked, time.time(), colors=colors)
        if options.watch:
            text = _CLEAR + text if terminal else text + "\n"
    output.write(text)
