"""Argo CD's health checks of limits and policies, run as Argo CD runs it: Lua 5.1, the object in the global `obj`.

Argo CD opens the libraries package, base, table and a part of os. Here only base is left, so that a script which needs
more fails.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from lupa import lua51

from bandwidth_api import names

ARGO_CD = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "gitops" / "argo-cd"
LIBRARIES = ("string", "table", "math", "io", "os", "debug", "coroutine", "package", "require", "python", "bit", "jit")


def script(kind: str) -> pathlib.Path:
    """The script for a kind of objects, beside its cases."""
    return ARGO_CD / kind / "health.lua"


class HealthCheck:
    """Called with an object of its kind, returns its health and the message."""

    def __init__(self, kind: str = names.LIMIT_KIND) -> None:
        self._runtime = lua51.LuaRuntime(register_eval=False, register_builtins=False, unpack_returned_tuples=True)
        known = self._runtime.globals()
        for library in LIBRARIES:
            known[library] = None
        self._runtime.execute('getmetatable("").__index = nil')
        self._check = self._runtime.eval(f"function(given) obj = given; {script(kind).read_text()}\nend")

    def __call__(self, item: Mapping[str, Any]) -> tuple[str, str]:
        found = self._check(self._runtime.table_from(item, recursive=True))
        return found["status"], found["message"]
