"""The entry of kubectl-cbl: reads the words, runs one verb, and turns what ends it into an exit code and one line."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from bandwidth_cli import outcome
from bandwidth_cli.command_line import parser
from bandwidth_cli.kubectl import global_flags
from bandwidth_cli.outcome import FailedError, WrongCallError
from bandwidth_cli.text import page
from bandwidth_runtime import streams

_MODULES = {"list": "list_limits"}
COMPLETE = "__complete"  # the word by which shells ask for completions


def main(words: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code."""
    streams.prepare()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    given = list(sys.argv[1:] if words is None else words)
    if given[:1] == [COMPLETE] or os.path.basename(sys.argv[0]) == "kubectl_complete-cbl":
        from bandwidth_cli import completing

        return completing.main(given[1:] if given[:1] == [COMPLETE] else given)
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # `single_file` waits with this until here
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return _run(given)
    except (global_flags.FlagError, WrongCallError) as error:
        page.note(f"error: {error}")
        return outcome.USAGE_ERROR
    except FailedError as error:
        page.note(f"error: {error}")
        return outcome.FAILED
    except KeyboardInterrupt:
        page.note("")
        return outcome.INTERRUPTED


def _run(given: list[str]) -> int:
    split = global_flags.split(given)
    if not split.rest:
        parser.parser().print_help()
        return outcome.DONE
    options = parser.parse(split.rest)
    verb = importlib.import_module(f"bandwidth_cli.verbs.{_MODULES.get(options.verb, options.verb)}")
    if options.verb == "completion":
        return int(verb.run(options))
    from bandwidth_cli import cluster
    from bandwidth_cli.kubectl import program

    with cluster.worded("run", "kubectl"):
        found = program.found()
    with contextlib.closing(program.Kubectl(found, split, terminal=page.interactive())) as kubectl:
        return int(verb.run(options, kubectl))


def _end(number: int, _frame: FrameType | None) -> None:
    """End as by Ctrl-C, so that nothing that was started is left."""
    raise KeyboardInterrupt
