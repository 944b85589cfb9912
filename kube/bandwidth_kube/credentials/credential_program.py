"""Runs the program that a kubeconfig names under `exec` and that prints a credential.

Owns the bounds of such a run: its time, the size of its answer, and that all of its processes end with it.
Never asks a person: the program has no terminal and no input.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bandwidth_kube.credentials.access import NoConnectionError

SECONDS = 8.0  # for one run
ANSWER_MAX_BYTES = 1 << 20
GROUP = "client.authentication.k8s.io"
VERSIONS = ("v1", "v1beta1")
_COMPLAINT_MAX = 300  # characters of what the program wrote to its error output

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """The program as the kubeconfig describes it."""

    command: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    api_version: str
    cluster: Json | None  # for a program that wants to know for which server
    hint: str  # what to do where it is not installed


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    token: str = dataclasses.field(default="", repr=False)
    certificate: str = dataclasses.field(default="", repr=False)
    key: str = dataclasses.field(default="", repr=False)
    expires_at: float | None = None  # seconds since the epoch


def read(config: Json, home: pathlib.Path, cluster: Json) -> Program:
    """Read a user's `exec`; a command with a slash is relative to `home`. Raises NoConnectionError."""
    command, version = config.get("command"), config.get("apiVersion")
    if not isinstance(command, str) or not command:
        raise NoConnectionError("exec names no command")
    if version not in [f"{GROUP}/{each}" for each in VERSIONS]:
        raise NoConnectionError(f"exec.apiVersion must be {GROUP}/{VERSIONS[0]} or {VERSIONS[1]}")
    if config.get("interactiveMode") == "Always":
        raise NoConnectionError("exec.interactiveMode is Always, and there is no person to ask here")
    arguments, variables = config.get("args") or [], config.get("env") or []
    if not isinstance(arguments, list) or not isinstance(variables, list):
        raise NoConnectionError("exec.args and exec.env must be lists")
    return Program(
        command=str(home / command) if os.sep in command else command,
        arguments=[str(each) for each in arguments],
        environment={
            str(v["name"]): str(v.get("value") or "") for v in variables if isinstance(v, dict) and "name" in v
        },
        api_version=str(version),
        cluster=cluster if config.get("provideClusterInfo") is True else None,
        hint=str(config.get("installHint") or ""),
    )


def run(program: Program, seconds: float = SECONDS) -> Credential:
    """Run the program and return its credential. Raises NoConnectionError; the message never contains its output."""
    spec: Json = {"interactive": False} | ({"cluster": program.cluster} if program.cluster is not None else {})
    request = {"apiVersion": program.api_version, "kind": "ExecCredential", "spec": spec}
    environment = {**os.environ, **program.environment, "KUBERNETES_EXEC_INFO": json.dumps(request)}
    # Into memory, not through pipes: a child of the program that keeps running would keep those open.
    with _memory("answer") as answer, _memory("complaint") as complaint:
        try:
            process = subprocess.Popen(
                [program.command, *program.arguments],
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=complaint,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = f"{program.command} gave no credential: it cannot be run: {getattr(error, 'strerror', None) or error}"
            raise NoConnectionError("; ".join(filter(None, (why, program.hint)))) from error
        _running.add(process.pid)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            _end_all({process.pid})
            raise NoConnectionError(f"{program.command} gave no credential within {seconds:g} s") from None
        finally:
            process.wait()
            _running.discard(process.pid)
        if code != 0:
            end = _end(complaint)
            raise NoConnectionError(
                f"{program.command} gave no credential: it ended with {code}{f': {end}' if end else ''}"
            )
        return _credential(program, _text(answer))


def _end_all(groups: set[int]) -> None:
    """Kill programs and the processes that they started."""
    for group in tuple(groups):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


_running: set[int] = set()
atexit.register(_end_all, _running)  # a thread that waits for one does not keep this process from its end


def _credential(program: Program, text: bytes) -> Credential:
    wrong = f"{program.command} gave no credential: its answer is no ExecCredential of {program.api_version}"
    try:
        answer = json.loads(text)
        status = answer["status"]
        if answer["apiVersion"] != program.api_version or answer["kind"] != "ExecCredential":
            raise NoConnectionError(wrong)
        found = Credential(
            token=_word(status.get("token")).strip(),
            certificate=_word(status.get("clientCertificateData")),
            key=_word(status.get("clientKeyData")),
            expires_at=_seconds(status.get("expirationTimestamp")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise NoConnectionError(wrong) from None
    if not found.token and not (found.certificate and found.key):
        raise NoConnectionError(f"{program.command} gave no credential: neither a token nor a certificate with its key")
    return found


def _word(value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError("not a text")
    return value or ""


def _seconds(value: object) -> float | None:
    """Parse an RFC 3339 time, with any fraction and offset; None if there is none."""
    if not value:
        return None
    moment = datetime.datetime.fromisoformat(_word(value))
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()


@contextlib.contextmanager
def _memory(name: str) -> Iterator[int]:
    """Make a file in memory that cannot grow beyond ANSWER_MAX_BYTES; the part that is not written is zeros."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, ANSWER_MAX_BYTES)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        yield descriptor
    finally:
        os.close(descriptor)


def _text(descriptor: int) -> bytes:
    return os.pread(descriptor, ANSWER_MAX_BYTES, 0).rstrip(b"\0")


def _end(descriptor: int) -> str:
    """Return the end of a program's error output, on one line."""
    text = _text(descriptor)[-8 * _COMPLAINT_MAX :].decode(errors="replace")
    printable = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(printable.split())[-_COMPLAINT_MAX:]
