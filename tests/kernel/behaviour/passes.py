"""The programs of the agent on one node, by `killed_pass`: as a user runs them, and killed on the way."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from bandwidth_lab import warm
from bandwidth_lab.node import Node

PROGRAM = pathlib.Path(__file__).with_name("killed_pass.py")
KILLED = -9
PATIENCE_SECONDS = 60.0

# client, protocol, port as the client dials it, interface
Packet = tuple[str, str, int, str]


class Passes:
    """Passes of the agent on one node, each by a process that knows nothing of the others."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def _ask(self, program: Sequence[str], **how: Any) -> tuple[int, str]:
        """How a program ended and what it printed."""
        request = json.dumps({"argv": self.node.command(*program)[1:], **how})
        command = [str(PROGRAM), request]
        done = warm.run(command, namespace=self.node.namespace, timeout=PATIENCE_SECONDS, check=False)
        return done.returncode, done.stdout + done.stderr

    def killed(self, before: int) -> None:
        """A pass that dies before this change."""
        code, printed = self._ask(ONCE, kill_before=before)
        assert code == KILLED, printed

    def killed_or_done(self, before: int) -> bool:
        """A pass that dies before this change; False if it had fewer to make."""
        code, printed = self._ask(ONCE, kill_before=before)
        assert code in (KILLED, 0), printed
        return code == KILLED

    def watched(self, packets: Sequence[Packet]) -> tuple[dict[str, Any], list[tuple[int, ...]]]:
        """A whole pass: its report, and the speeds of these packets before each of its changes and at its end."""
        code, printed = self._ask(ONCE, watch=packets)
        assert code == 0, printed
        report, _, seen = printed.rstrip().rpartition("\n")
        return json.loads(report), [tuple(row) for row in json.loads(seen)]

    def killed_cleanup(self, before: int) -> bool:
        """The program `cleanup`, that dies before this change; False if it had fewer to make."""
        code, printed = self._ask(["cleanup"], kill_before=before)
        assert code in (KILLED, 0), printed
        return code == KILLED

    def once(self, code: int = 0) -> dict[str, Any]:
        """The program `run --once`; its report. Every limit must be in force, or with `code` 1 not every one."""
        ended, printed = self._ask(ONCE)
        assert ended == code, printed
        report: dict[str, Any] = json.loads(printed)
        return report

    def cleanup(self) -> str:
        """The program `cleanup`; what it printed."""
        code, printed = self._ask(["cleanup"])
        assert code == 0, printed
        return printed


ONCE = ("run", "--once", "-o", "json")
