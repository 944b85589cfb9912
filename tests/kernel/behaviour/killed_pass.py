"""A program for `passes`: runs programs of the agent, each in a process of its own that can be made to die.

Reads one request a line from stdin and answers with one line. A request is `{"argv": […]}`, the words of a program of
the agent, with one of

    "kill_before": k    the process kills itself (SIGKILL) before change k, counted from 0, if it comes so far
    "watch": [packet…]  before each change and at the end it notes how fast each packet's class is, in the last line
    neither             the program as a user runs it

Each is a fork that has no memory of any other; to fork costs a tenth of starting Python again.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from bandwidth_agent import cli, reconcile
from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.fake import tracer
from bandwidth_agent.kernel.linux import real
from bandwidth_agent.planner import apply
from bandwidth_api import addresses

FREE = 1 << 62  # bits per second of what is in no class


def speeds(kernel: real.RealKernel, packets: Sequence[Sequence[Any]]) -> list[int]:
    """How fast each packet's class may send, in bits per second; FREE without a class, 0 when it is dropped."""
    state = kernel.observe()
    trace = tracer.Tracer(state)
    answers = []
    for client, protocol, port, interface in packets:
        prefix = addresses.parse(client)
        found = trace.trace(prefix.family, prefix.network, protocol, port, interface)
        if isinstance(found, tracer.ClassAddress):
            answers.append(state.trees[found.device].classes[found.minor].ceil * 8)
        else:
            answers.append(FREE if found == "unshaped" else 0)
    return answers


def run(argv: list[str], checkpoint: Callable[[objects.Change], None] | None) -> int:
    """The program as it is; only what it applies has a checkpoint."""
    if argv[0] == "cleanup":
        apply.apply = functools.partial(apply.apply, checkpoint=checkpoint)
    else:
        reconcile.Reconciler = functools.partial(reconcile.Reconciler, checkpoint=checkpoint)  # type: ignore[misc, assignment]
    return cli.main(argv)


def killed(argv: list[str], left: int) -> int:
    def checkpoint(_: objects.Change) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    return run(argv, checkpoint)


def watched(argv: list[str], packets: Sequence[Sequence[Any]]) -> int:
    at = argv.index("--bpf-directory") + 1 if "--bpf-directory" in argv else 0
    kernel = real.RealKernel(bpf_directory=argv[at] if at else "")
    seen: list[list[int]] = []
    code = run(argv, lambda _: seen.append(speeds(kernel, packets)))
    seen.append(speeds(kernel, packets))
    print(json.dumps(seen))
    return code


def serve(request: dict[str, Any]) -> int:
    """What the forked process does; its exit code."""
    if "kill_before" in request:
        return killed(request["argv"], request["kill_before"])
    if "watch" in request:
        return watched(request["argv"], request["watch"])
    return cli.main(request["argv"])


def forked(request: dict[str, Any]) -> dict[str, object]:
    """Serve a request in a process of its own: how it ended (negative: by which signal) and what it printed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            code = serve(request)
            sys.stdout.flush()
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        printed = pipe.read()
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "printed": printed}


if __name__ == "__main__":
    for module in ("bandwidth_agent.commands.run", "bandwidth_agent.commands.cleanup", "pyroute2"):
        importlib.import_module(module)  # once, before all forks
    for line in sys.stdin:
        print(json.dumps(forked(json.loads(line))), flush=True)
