"""A program for `passes`: runs one program of the agent, and can be made to die on the way.

Its only word is a request: `{"argv": […]}`, the words of a program of the agent, with one of

    "kill_before": k    the process kills itself (SIGKILL) before change k, counted from 0, if it comes so far
    "watch": [packet…]  before each change and at the end it notes how fast each packet's class is, in the last line
    neither             the program as a user runs it
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from bandwidth_agent import cli, reconcile
from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.fake import tracer
from bandwidth_agent.kernel.linux import real
from bandwidth_agent.planner import apply
from bandwidth_api import addresses

for _module in ("bandwidth_agent.commands.run", "bandwidth_agent.commands.cleanup", "pyroute2"):
    importlib.import_module(_module)  # once, before all forks

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


def main(words: Sequence[str]) -> int:
    """Serve the request that is the only word."""
    request: dict[str, Any] = json.loads(words[0])
    if "kill_before" in request:
        return killed(request["argv"], request["kill_before"])
    if "watch" in request:
        return watched(request["argv"], request["watch"])
    return cli.main(request["argv"])
