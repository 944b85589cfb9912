"""Runs kubectl, once for each request, and one that stays for a watch. Does I/O and decides nothing.

Every request is a raw one: it needs no discovery, which costs many requests the first time and fails where an
aggregated API is away. The time of a request is bounded where nobody watches it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bandwidth_cli.kubectl import global_flags, process
from bandwidth_cli.kubectl.failures import Kind, KubectlError

Json = dict[str, Any]

UNWATCHED_SECONDS = 30  # a request of a script
WATCHED_SECONDS = 300  # with a person before it, who may have to log in first
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
        self._processes = process.Processes()
        self._tell: Callable[[str], None] = process.tell

    def close(self) -> None:
        """End what is still under way."""
        self._processes.close()

    def hush(self) -> None:
        """From now on ask nobody and say nothing: a screen is on the terminal. What fails is raised as before."""
        self.terminal = False
        self._tell = process.silent

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

    def delete(self, path: str, body: Json, *, dry_run: bool = False, seconds: int | None = None) -> Json:
        """Delete an object, with DeleteOptions, in so many seconds. Raises KubectlError."""
        # Where there are options in the body, the API server passes over those of the query.
        return self._json(["delete", "--raw", path], body | ({"dryRun": ["All"]} if dry_run else {}), seconds)

    def watch(self, path: str, query: str) -> subprocess.Popen[bytes]:
        """Start a kubectl that prints one event a line; `watching.Watch` reads them."""
        words = [*self._command, "get", "--raw", f"{path}?watch=1&{query}", *self._flags]
        # Nothing is asked at a terminal meanwhile: a screen may be on it.
        return self._processes.start([*words, "--request-timeout=0"], stdin=subprocess.DEVNULL)

    def text(self, *words: str) -> str:
        """Return what a kubectl without a request prints. Raises KubectlError."""
        return self._run(list(words), None).decode(errors="replace")

    def _json(self, words: list[str], body: Json | None, seconds: int | None = None) -> Json:
        answer = self._run(words, body, seconds)
        try:
            read = json.loads(answer)
        except ValueError:
            text = answer[:200].decode(errors="replace").strip()
            raise KubectlError(Kind.OTHER, f"kubectl printed no JSON: {text!r}; does KUBECTL name a kubectl?") from None
        if not isinstance(read, dict):
            raise KubectlError(Kind.OTHER, "kubectl printed no object; does KUBECTL name a kubectl?")
        return read

    def _run(self, words: list[str], body: Json | None, seconds: int | None = None) -> bytes:
        bound = seconds or (WATCHED_SECONDS if self.terminal else UNWATCHED_SECONDS)
        command = [*self._command, *words, *self._flags]
        if not self._bounded:
            command.append(f"--request-timeout={bound}s")
        with process.sent(body) as descriptor:
            handed = () if descriptor is None else (descriptor,)
            if descriptor is not None:
                command += ["-f", f"/dev/fd/{descriptor}"]
            stdin = None if self.terminal else subprocess.DEVNULL
            running = self._processes.start(command, stdin=stdin, pass_fds=handed)
            with process.ended(running), process.noticed(self.terminal, f"waiting for kubectl {words[0]} …"):
                return process.answer(running, self._verbose, self._tell)


def _written(dry_run: bool) -> str:
    """The query of a write. An unknown field is an error: an old CRD would drop it in silence."""
    return "?fieldManager=kubectl-cbl&fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
