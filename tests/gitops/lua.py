"""Argo CD's health check of a limit, run as Argo CD runs it: Lua 5.1, the object in the global `obj`.

Argo CD opens the libraries package, base, table and a part of os. Here only base is left, so that a script which needs
more fails.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from lupa import lua51

ARGO_CD = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "gitops" / "argo-cd"
SCRIPT = ARGO_CD / "ClientBandwidthLimit" / "health.lua"
LIBRARIES = ("string", "table", "math", "io", "os", "debug", "coroutine", "package", "require", "python", "bit", "jit")


class HealthCheck:
    """Called with an object, returns its health and the message."""

    def __init__(self) -> None:
        self._runtime = lua51.LuaRuntime(register_eval=False, register_builtins=False, unpack_returned_tuples=True)
        names = self._runtime.globals()
        for library in LIBRARIES:
            names[library] = None
        self._runtime.execute('getmetatable("").__index = nil')
        self._check = self._runtime.eval(f"function(given) obj = given; {SCRIPT.read_text()}\nend")

    def __call__(self, item: Mapping[str, Any]) -> tuple[str, str]:
        found = self._check(self._runtime.table_from(item, recursive=True))
        return found["status"], found["message"]
