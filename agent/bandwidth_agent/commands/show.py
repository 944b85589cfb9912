"""`show`: prints what is in the kernel now, by limit, with the rates measured between two readings."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from bandwidth_agent import logs, show
from bandwidth_agent.commands import host, output, parts
from bandwidth_agent.commands.options import Options
from bandwidth_agent.kernel import interface, model

_CLEAR = "\033[H\033[J"


def main(options: Options) -> int:
    logs.configure(options.log_format, options.log_level)
    why_not = host.missing()
    if why_not:
        return host.fail(why_not)
    kernel = parts.kernel(options)
    try:
        _print(kernel, options)
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        return host.fail(f"the kernel could not be read: {error}")
    finally:
        kernel.close()
    return 0


def _print(kernel: interface.Kernel, options: Options) -> None:
    """Print one look, or with --watch one after the other; each measures from the one before."""
    waiting = threading.Event()
    state, before = kernel.observe(), kernel.counters()
    while True:
        if state != model.EMPTY or options.watch:
            waiting.wait(options.interval_seconds)
        state, after = kernel.observe(), kernel.counters()
        _write(show.view(state, before, after), options)
        if not options.watch:
            return
        before = after


def _write(looked: show.View, options: Options) -> None:
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    if options.json:
        # Watched, one look a line, so that a program can read them one by one.
        text = json.dumps(show.as_json(looked), indent=None if options.watch else 2) + "\n"
    else:
        colors = terminal and "NO_COLOR" not in os.environ
        text = show.table(looked, time.time(), colors=colors)
        if options.watch:
            text = _CLEAR + text if terminal else text + "\n"
    output.write(text)
