"""Starts our programs as forks of a process that has imported them: a tenth of the work of a new interpreter.

    this process ──── request, with the files of its streams and its namespace ────▶ template (one for each program)
         ▲                                                                              │ fork, and fork again
         └───── subreaper: the parent of every orphan below it ──── program ◀───────────┘

For tests of what a program does. What is about its start itself, its memory or its command line runs it as users do.
Nothing outlives this process that would not with `Namespace.start`: a template ends with its socket.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence

from bandwidth_lab.namespaces import NETNS, TIMEOUT_SECONDS, CommandError, Namespace

_TEMPLATE = pathlib.Path(__file__).with_name("template.py")
_PR_SET_CHILD_SUBREAPER = 36
_ANSWER_BYTES = 32

# Where `main` is, and what is imported beside it. A file that is not named here has a `main` of its own.
IMPORTED: Mapping[str, Sequence[str]] = {
    "bandwidth-agent": (
        "bandwidth_agent.cli",
        *(f"bandwidth_agent.commands.{name}" for name in ("run", "plan", "show", "cleanup", "who")),
        "bandwidth_agent.commands.wiring.host_policies",
        "bandwidth_agent.limits.directory.manifest_source",
        "bandwidth_agent.reporting.metrics",
        "bandwidth_kube.transport.peers",
        "pyroute2",
    ),
    "bandwidth-operator": ("bandwidth_operator.cli", "bandwidth_operator.commands.run"),
}


class Started:
    """A program that was started: what tests use of `subprocess.Popen`. Its streams are the files that were given."""

    stdout = stderr = None

    def __init__(self, pid: int, command: Sequence[str]) -> None:
        self.pid, self.args = pid, command
        self.returncode: int | None = None
        self._ended = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            waited, status = os.waitpid(self.pid, os.WNOHANG)
            if waited:
                self.returncode = os.waitstatus_to_exitcode(status)
                os.close(self._ended)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait so many seconds until it has ended: its exit code. Raises subprocess.TimeoutExpired."""
        if self.poll() is None and not select.select([self._ended], [], [], timeout)[0]:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@dataclasses.dataclass
class _Template:
    """A program, ready to be forked."""

    process: subprocess.Popen[bytes]
    connection: socket.socket

    def fork(self, request: bytes, files: Sequence[int]) -> int:
        socket.send_fds(self.connection, [request], files)
        answer = self.connection.recv(_ANSWER_BYTES)
        if not answer:
            raise RuntimeError(f"the template of {self.process.args!r} has ended with {self.process.wait()}")
        return int(answer)


_templates: dict[str, _Template] = {}
_one_at_a_time = threading.Lock()


def start(
    command: Sequence[str],
    *,
    namespace: Namespace | None = None,
    stdout: int,
    stderr: int,
    environment: Mapping[str, str] | None = None,
    dies_with_parent: bool = False,
) -> Started:
    """Start a program in Python, by its path and its words, as `Namespace.start` does; stdin is empty."""
    path, *words = command
    request = {
        "words": words,
        "folder": os.getcwd(),
        "environment": dict(os.environ if environment is None else environment),
        "dies_with_parent": dies_with_parent,
    }
    with contextlib.ExitStack() as stack:
        stdin = stack.enter_context(open(os.devnull))
        files = [stdin.fileno(), stdout, stderr]
        if namespace is not None:
            files.append(stack.enter_context((NETNS / namespace.name).open()).fileno())
        with _one_at_a_time:
            pid = _template(path).fork(json.dumps(request).encode(), files)
    started = Started(pid, command)
    if namespace is not None:
        namespace.adopt(started)
    return started


def run(
    command: Sequence[str], *, namespace: Namespace, timeout: float = TIMEOUT_SECONDS, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a program in Python to its end as `Namespace.run` does."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = start(command, namespace=namespace, stdout=out.fileno(), stderr=err.fileno())
        try:
            code = started.wait(timeout)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
            raise
        printed = []
        for file in (out, err):
            file.seek(0)
            printed.append(file.read())
    done = subprocess.CompletedProcess(list(command), code, *printed)
    if check and code:
        raise CommandError(namespace.name, command, done)
    return done


def _template(path: str) -> _Template:
    """The template of a program, made when it is first started."""
    if path not in _templates:
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-I", str(_TEMPLATE), path, str(theirs.fileno())),
                    *IMPORTED.get(pathlib.Path(path).name, "-"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        _templates[path] = _Template(process, ours)
    return _templates[path]
