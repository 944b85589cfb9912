"""One kubectl while it runs: starts it, hands it a body, hears what it says, ends it whatever happens.

What is sent is handed over in a pipe of its own, so that stdin stays free for a program that asks for credentials. What
kubectl prints is bounded.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from bandwidth_cli.kubectl import failures
from bandwidth_cli.kubectl.failures import Kind, KubectlError
from bandwidth_runtime import printable

Json = dict[str, Any]

ANSWER_MAX_BYTES = 256 * 1024 * 1024
MESSAGE_MAX_BYTES = 16 * 1024
CHUNK_BYTES = 1024 * 1024
ASKS = b"Please enter "
SENT_MAX_BYTES = 16 * 1024  # what a pipe holds on every system, while nobody reads it
SLOW_SECONDS = 5.0  # until a person is told what is waited for
END_SECONDS = 2.0


class Processes:
    """The kubectls of one call, so that none outlives it. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[bytes]] = []
        self._closed = False

    def start(
        self, command: Sequence[str], *, stdin: int | None, pass_fds: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        """Start one. Raises KubectlError, also after `close`."""
        with self._lock:
            if self._closed:
                raise KubectlError(Kind.OTHER, "the call has ended")
            made = started(command, stdin=stdin, pass_fds=pass_fds)
            self._running = [*(each for each in self._running if each.poll() is None), made]
            return made

    def close(self) -> None:
        """End all that are running, whoever waits for them."""
        with self._lock:
            self._closed = True
            running = [each for each in self._running if each.poll() is None]
            for each in running:
                each.terminate()
            ends = time.monotonic() + END_SECONDS
            for each in running:
                try:
                    each.wait(max(0.0, ends - time.monotonic()))
                except subprocess.TimeoutExpired:
                    each.kill()
                    each.wait()


def started(command: Sequence[str], *, stdin: int | None, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=pass_fds)
    except FileNotFoundError:
        if command[0] == "kubectl":
            text = "kubectl is not in PATH; install it, or name it in the variable KUBECTL"
        else:
            text = f"KUBECTL names {command[0]}, and there is no such program; correct or unset it"
        raise KubectlError(Kind.MISSING_PROGRAM, text) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise KubectlError(Kind.MISSING_PROGRAM, f"{command[0]} cannot be run: {reason}") from None


def piped(stream: IO[bytes] | None) -> IO[bytes]:
    """Return a stream of a process that was started with pipes."""
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream


@contextlib.contextmanager
def sent(body: Json | None) -> Iterator[int | None]:
    """Have the body in a pipe, and return its end to read from."""
    if body is None:
        yield None
        return
    text = json.dumps(body).encode()
    if len(text) > SENT_MAX_BYTES:
        raise KubectlError(Kind.INVALID, f"it has {len(text)} bytes, and one of ours has at most {SENT_MAX_BYTES}")
    reader, writer = os.pipe()
    try:
        try:
            os.write(writer, text)
        finally:
            os.close(writer)
        yield reader
    finally:
        os.close(reader)


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Have the process ended afterwards, whatever happens in between."""
    try:
        yield
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a kubectl and free what it holds here."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


@contextlib.contextmanager
def noticed(terminal: bool, text: str) -> Iterator[None]:
    """Tell a person after some seconds what is waited for."""
    if not terminal:
        yield
        return
    timer = threading.Timer(SLOW_SECONDS, tell, [f"{text} (Ctrl-C ends it)\n"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def silent(_text: str) -> None:
    """Hand nothing on."""


def tell(text: str) -> None:
    """Hand on what kubectl, or a program that fetches credentials for it, says to its user."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(printable.lines(text))
        sys.stderr.flush()


def answer(process: subprocess.Popen[bytes], verbose: bool, tell: Callable[[str], None]) -> bytes:
    """Read all that a kubectl prints; raises what it says went wrong."""
    listener = Listener(verbose, tell)
    reader = threading.Thread(target=listener.hear, args=(process.stderr,), daemon=True)
    reader.start()
    printed = _read(piped(process.stdout).fileno(), tell)
    code = process.wait()
    reader.join()
    if code:
        raise failures.read(listener.failure)
    if listener.failure:
        tell(f"{listener.failure}\n")
    return printed


def _read(descriptor: int, tell: Callable[[str], None]) -> bytes:
    """Read an answer to its end. Where no kubeconfig has credentials, kubectl asks for them on stdout, before it."""
    parts: list[bytes] = []
    size = 0
    while chunk := os.read(descriptor, CHUNK_BYTES):
        while not parts and chunk.lstrip().startswith(ASKS):
            asked, colon, chunk = chunk.partition(b": ")
            tell((asked + colon).decode(errors="replace"))
        if chunk:
            parts.append(chunk)
            size += len(chunk)
        if size > ANSWER_MAX_BYTES:
            raise KubectlError(Kind.OTHER, f"the answer has more than {ANSWER_MAX_BYTES >> 20} MiB")
    return b"".join(parts)


class Listener:
    """Hears a kubectl's stderr to its end: keeps its message of failure, hands on the rest as it comes.

    Programs that fetch credentials write there what their user has to do, also without an end of the line.
    """

    def __init__(self, verbose: bool, tell: Callable[[str], None]) -> None:
        self._verbose = verbose
        self._tell: Callable[[str], None] = tell
        self._kept: list[str] = []
        self._room = MESSAGE_MAX_BYTES
        self._line = ""  # what has come of the last line
        self._told = 0  # so many characters of it are handed on

    @property
    def failure(self) -> str:
        """The message of failure; "" if there was none."""
        return "\n".join(self._kept)

    def hear(self, stream: IO[bytes] | None) -> None:
        """Read to the end."""
        descriptor = piped(stream).fileno()
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        with contextlib.suppress(ValueError, OSError):
            while chunk := os.read(descriptor, 4096):
                self.take(decode(chunk))
        self.take("\n" if self._line else "")

    def take(self, text: str) -> None:
        """Hear some more text."""
        *ended, rest = text.split("\n")
        for part in ended:
            self._line += part
            self._take_line()
        self._line = (self._line + rest)[-MESSAGE_MAX_BYTES:]
        if self._line and not self._kept and not failures.may_begin(self._line):
            self._tell(self._line[self._told :])
            self._told = len(self._line)

    def _take_line(self) -> None:
        line, told = self._line, self._told
        self._line, self._told = "", 0
        if told:
            self._tell(f"{line[told:]}\n")
        elif failures.is_log(line):
            if self._verbose:
                self._tell(f"{line}\n")
        elif self._kept or failures.begins(line):
            self._kept.append(line[: max(0, self._room)])
            self._room -= len(line)
        else:
            self._tell(f"{line}\n")
