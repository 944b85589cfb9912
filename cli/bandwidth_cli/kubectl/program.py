"""Runs kubectl, once for each request, and one that stays for a watch. Does I/O and decides nothing.

Every request is a raw one: it needs no discovery, which costs many requests the first time and fails where an
aggregated API is away. What is sent is handed over in a pipe of its own, so that stdin stays free for a program that
asks for credentials. What kubectl prints is bounded, and so is the time of a request where nobody watches it.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from bandwidth_cli.kubectl import failures, global_flags
from bandwidth_cli.kubectl.failures import Kind, KubectlError
from bandwidth_runtime import printable

Json = dict[str, Any]

ANSWER_MAX_BYTES = 256 * 1024 * 1024
MESSAGE_MAX_BYTES = 16 * 1024
CHUNK_BYTES = 1024 * 1024
ASKS = b"Please enter "
SENT_MAX_BYTES = 16 * 1024  # what a pipe holds on every system, while nobody reads it
UNWATCHED_SECONDS = 30  # a request of a script
WATCHED_SECONDS = 300  # with a person before it, who may have to log in first
SLOW_SECONDS = 5.0  # until such a person is told what is waited for
END_SECONDS = 2.0
PAGE = 2500  # objects in one answer


def found(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the words that run kubectl: KUBECTL of the environment, or kubectl, which is looked for in PATH."""
    named = environment.get("KUBECTL", "").strip()
    if not named or os.path.exists(named) or " " not in named:
        return (named or "kubectl",)
    import shlex

    try:
        return tuple(shlex.split(named))
    except ValueError as error:
        raise KubectlError(Kind.MISSING_PROGRAM, f"KUBECTL is {named!r}, which no shell could read: {error}") from None


class Kubectl:
    """kubectl with the global flags of this call. May be used by several threads."""

    def __init__(self, program: Sequence[str], flags: global_flags.Split, *, terminal: bool) -> None:
        """`terminal`: a person is there, who can be asked for credentials."""
        self._command = tuple(program)
        self._flags = flags.flags
        self._bounded = flags.has("--request-timeout")
        self._verbose = flags.verbose
        self.terminal = terminal
        self._tell: Callable[[str], None] = tell

    def hush(self) -> None:
        """From now on ask nobody and say nothing: a screen is on the terminal. What fails is raised as before."""
        self.terminal = False
        self._tell = _silent

    def get(self, path: str) -> Json:
        """Return one object. Raises KubectlError."""
        return self._json(["get", "--raw", path], None)

    def listed(self, path: str, query: str = "", most: int | None = None) -> list[Json]:
        """Return all objects of a kind, at most `most` of them, read page by page. Raises KubectlError."""
        items: list[Json] = []
        token = ""
        while True:
            continued = f"&continue={token}" if token else ""
            page = self.get(f"{path}?limit={PAGE}{continued}{query and '&' + query}")
            read = page.get("items")
            items += [item for item in read if isinstance(item, dict)] if isinstance(read, list) else []
            token = str((page.get("metadata") or {}).get("continue") or "")
            if not token or (most is not None and len(items) >= most):
                return items

    def create(self, path: str, body: Json, *, dry_run: bool = False) -> Json:
        """Create an object; with `dry_run` only ask whether it could be. Raises KubectlError."""
        return self._json(["create", "--raw", path + _written(dry_run)], body)

    def replace(self, path: str, body: Json, *, dry_run: bool = False) -> Json:
        """Write a whole object, of the version that is in it. Raises KubectlError."""
        return self._json(["replace", "--raw", path + _written(dry_run)], body)

    def delete(self, path: str, body: Json, *, dry_run: bool = False) -> Json:
        """Delete an object, with DeleteOptions. Raises KubectlError."""
        # Where there are options in the body, the API server passes over those of the query.
        return self._json(["delete", "--raw", path], body | ({"dryRun": ["All"]} if dry_run else {}))

    def watch(self, path: str, query: str) -> subprocess.Popen[bytes]:
        """Start a kubectl that prints one event a line; `watching.Watch` reads them."""
        words = [*self._command, "get", "--raw", f"{path}?watch=1&{query}", *self._flags]
        # Nothing is asked at a terminal meanwhile: a screen may be on it.
        return _started([*words, "--request-timeout=0"], stdin=subprocess.DEVNULL)

    def text(self, *words: str) -> str:
        """Return what a kubectl without a request prints. Raises KubectlError."""
        return self._run(list(words), None).decode(errors="replace")

    def _json(self, words: list[str], body: Json | None) -> Json:
        answer = self._run(words, body)
        try:
            read = json.loads(answer)
        except ValueError:
            text = answer[:200].decode(errors="replace").strip()
            raise KubectlError(Kind.OTHER, f"kubectl printed no JSON: {text!r}; does KUBECTL name a kubectl?") from None
        if not isinstance(read, dict):
            raise KubectlError(Kind.OTHER, "kubectl printed no object; does KUBECTL name a kubectl?")
        return read

    def _run(self, words: list[str], body: Json | None) -> bytes:
        bound = WATCHED_SECONDS if self.terminal else UNWATCHED_SECONDS
        command = [*self._command, *words, *self._flags]
        if not self._bounded:
            command.append(f"--request-timeout={bound}s")
        with _sent(body) as descriptor:
            handed = () if descriptor is None else (descriptor,)
            if descriptor is not None:
                command += ["-f", f"/dev/fd/{descriptor}"]
            stdin = None if self.terminal else subprocess.DEVNULL
            process = _started(command, stdin=stdin, pass_fds=handed)
            with _ended(process), _noticed(self.terminal, f"waiting for kubectl {words[0]} …"):
                return _answer(process, self._verbose, self._tell)


def _written(dry_run: bool) -> str:
    """The query of a write. An unknown field is an error: an old CRD would drop it in silence."""
    return "?fieldManager=kubectl-cbl&fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")


def _started(command: Sequence[str], *, stdin: int | None, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
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
def _sent(body: Json | None) -> Iterator[int | None]:
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
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
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
def _noticed(terminal: bool, text: str) -> Iterator[None]:
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


def _silent(_text: str) -> None:
    """Hand nothing on."""


def tell(text: str) -> None:
    """Hand on what kubectl, or a program that fetches credentials for it, says to its user."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(printable.lines(text))
        sys.stderr.flush()


def _answer(process: subprocess.Popen[bytes], verbose: bool, tell: Callable[[str], None]) -> bytes:
    """Read all that a kubectl prints; raises what it says went wrong."""
    listener = Listener(verbose, tell)
    reader = threading.Thread(target=listener.hear, args=(process.stderr,), daemon=True)
    reader.start()
    answer = _read(piped(process.stdout).fileno(), tell)
    code = process.wait()
    reader.join()
    if code:
        raise failures.read(listener.failure)
    if listener.failure:
        tell(f"{listener.failure}\n")
    return answer


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
