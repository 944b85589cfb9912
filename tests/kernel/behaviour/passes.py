"""The programs of the agent on one node, by forks of `killed_pass`: as a user runs them, and killed on the way."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

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
        self._server = subprocess.Popen(
            ["ip", "netns", "exec", node.namespace.name, sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate(timeout=PATIENCE_SECONDS)

    def _ask(self, program: Sequence[str], **how: Any) -> tuple[int, str]:
        """How a program ended and what it printed."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({"argv": self.node.command(*program)[1:], **how}) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        return answer["code"], answer["printed"]

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
