"""Finds the flags that every kubectl command takes among the words of a call, wherever they stand. Pure.

They are handed on to each kubectl as they are, so that kubeconfig, context, impersonation, proxies and credentials work
as they do there. Owns their names; never reads their values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# `kubectl options`, of all versions: one that this kubectl does not know is its own error.
WITH_VALUE = frozenset(
    {
        "--as",
        "--as-group",
        "--as-uid",
        "--as-user-extra",
        "--cache-dir",
        "--certificate-authority",
        "--client-certificate",
        "--client-key",
        "--cluster",
        "--context",
        "--kubeconfig",
        "--kuberc",
        "--log-flush-frequency",
        "--password",
        "--profile",
        "--profile-output",
        "--request-timeout",
        "--server",
        "--tls-server-name",
        "--token",
        "--user",
        "--username",
        "--v",
        "--vmodule",
    }
)
SWITCHES = frozenset(
    {"--disable-compression", "--insecure-skip-tls-verify", "--match-server-version", "--warnings-as-errors"}
)
SHORT = {"-s": "--server", "-v": "--v"}
# No object here has a namespace. Whoever has the habit may write one; kubectl itself passes over it in silence.
IGNORED_WITH_VALUE = frozenset({"--namespace"})
IGNORED_SHORT = "-n"
IGNORED_SWITCHES = frozenset({"-A", "--all-namespaces"})


class FlagError(ValueError):
    """A flag of kubectl is written wrong; the message says how to write it."""


class Split(NamedTuple):
    """The words of a call, told apart."""

    flags: tuple[str, ...]  # kubectl's, to be handed on
    rest: tuple[str, ...]  # ours

    def has(self, flag: str) -> bool:
        """Return whether a long flag of kubectl is given."""
        return any(word == flag or word.startswith(f"{flag}=") for word in self.flags)

    @property
    def verbose(self) -> bool:
        """Whether kubectl's own log is asked for."""
        return self.has("--v")


def split(words: Sequence[str]) -> Split:
    """Return kubectl's flags and the other words, each in their order; behind `--` nothing is a flag."""
    flags: list[str] = []
    rest: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word == "--":
            rest += [word, *waiting]
            break
        name, equals, value = word.partition("=")
        if word in IGNORED_SWITCHES:
            continue
        if name in WITH_VALUE or name in IGNORED_WITH_VALUE:
            if not equals:
                value = _next(waiting, name)
            if name in WITH_VALUE:
                flags.append(f"{name}={value}")
        elif name in SWITCHES:
            flags.append(word)
        elif not word.startswith("--") and (short := word[:2]) in (*SHORT, IGNORED_SHORT):
            value = word[2:].removeprefix("=") or _next(waiting, short)
            if short in SHORT:
                flags.append(f"{SHORT[short]}={value}")
        else:
            rest.append(word)
    return Split(tuple(flags), tuple(rest))


def _next(waiting: object, name: str) -> str:
    value: str | None = next(waiting, None)  # type: ignore[call-overload]
    if value is None:
        raise FlagError(f"{name} needs a value; write for example {name}=VALUE")
    return value
