"""The agent's programs in a fork of the test process, which has everything imported already.

In an emulated machine the start of an interpreter takes ten seconds, and the pass that is under test less than one.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Any

from bandwidth_agent import cli
from bandwidth_lab.namespaces import CLONE_NEWNET, NETNS, Namespace
from bandwidth_lab.node import Node

for _module in ("bandwidth_agent.commands.run", "bandwidth_agent.commands.cleanup", "pyroute2"):
    importlib.import_module(_module)  # which each child would import again

FAILED = 70  # EX_SOFTWARE of sysexits.h: the program raised


# All that `Node.snapshot` compares, in one command: in an emulated machine every start of a program counts.
_SEEN = """
iptables-save; ip6tables-save; nft list ruleset; ipset save; ip -o link; tc qdisc show
for device in $(ip -br link | cut -d" " -f1 | cut -d@ -f1); do
  tc class show dev $device; tc filter show dev $device; tc filter show dev $device egress
done
"""


class ForkedNode(Node):
    """A node whose programs that end by themselves are forks of this process."""

    patience_seconds = 300.0  # beside other work an agent that starts there took a minute until its first pass

    def seen(self) -> str:
        """What the tools print about this host, without what moves by itself: times, counters, flows, carriers."""
        printed = self.namespace.run(["sh", "-c", _SEEN], timeout=120).stdout
        return re.sub(r"(?m)^# .*\n|^class (cake|fq_codel) .*\n| \[\d+:\d+\]$| state \w+", "", printed)

    def once(self, *more: str, check: bool = True) -> dict[str, Any]:
        done = _forked(self.namespace, self.command("run", "--once", "-o", "json", *more)[1:])
        assert done.returncode == 0 or not check, done
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def cleanup(self) -> str:
        done = _forked(self.namespace, self.command("cleanup")[1:])
        assert done.returncode == 0, done
        return done.stdout


def _forked(namespace: Namespace, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Call the command line in a child that lives in the namespace."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [pathlib.Path(folder, name) for name in ("stdout", "stderr")]
        child = os.fork()
        if child == 0:
            os._exit(_called(namespace, arguments, outputs))
        _, status = os.waitpid(child, 0)
        printed = [path.read_text() for path in outputs]
    return subprocess.CompletedProcess(arguments, os.waitstatus_to_exitcode(status), *printed)


def _called(namespace: Namespace, arguments: Sequence[str], outputs: Sequence[pathlib.Path]) -> int:
    """In the child: never returns into the tests, whatever happens."""
    with outputs[0].open("w") as sys.stdout, outputs[1].open("w") as sys.stderr:
        try:
            os.dup2(sys.stdout.fileno(), 1)
            os.dup2(sys.stderr.fileno(), 2)
            with (NETNS / namespace.name).open() as place:
                if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns into {namespace.name}")
            with contextlib.suppress(SystemExit):
                return cli.main(list(arguments))
        except BaseException:
            traceback.print_exc()
    return FAILED
