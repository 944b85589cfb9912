"""Modules that call themselves pure are: nothing that they import, however far down, does I/O or reads a clock."""

from __future__ import annotations

import ast
import functools
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("api", "kube", "runtime", "sight", "agent", "operator", "cli", "pages")
IMPURE = (
    *(
        "asyncio",
        "fcntl",
        "http.client",
        "http.server",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "select",
    ),
    *(
        "selectors",
        "shutil",
        "signal",
        "socket",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "urllib.request",
    ),
    *("aiohttp", "inotify_simple", "kopf", "kubernetes", "prometheus_client", "pyroute2", "structlog", "urllib3"),
)
# Of these modules only a part is used, which is pure.
ALLOWED = {
    ("bandwidth_api.address_text", "socket"),  # writes and reads addresses in a tenth of the time that ipaddress takes
    ("bandwidth_runtime.web.bounded_set", "socket"),  # the same
    # Numbers that the author of a limit cannot guess; what is found does not depend on them.
    ("bandwidth_api.compiler.overlap.port_strips", "secrets"),
    ("bandwidth_operator.leader.agenda", "bandwidth_runtime.clock"),  # Steps, which compares readings
    ("bandwidth_agent.kernel.linux.rtnl.filter_marks", "bandwidth_agent.kernel.netlink"),  # decoders of attributes
    ("bandwidth_agent.kernel.linux.packet.tally", "bandwidth_agent.kernel.linux.packet.ring"),  # the form of a frame
    ("bandwidth_agent.kernel.linux.bpf.table_keys", "bandwidth_agent.kernel.linux.bpf.maps"),  # sizes
    (
        "bandwidth_agent.limits.directory.filesystem.settling",
        "bandwidth_agent.limits.directory.filesystem.files",
    ),  # a type
}


@functools.cache
def modules() -> dict[str, pathlib.Path]:
    """All modules by their names."""
    return {
        ".".join(path.relative_to(ROOT / folder).with_suffix("").parts).removesuffix(".__init__"): path
        for folder in FOLDERS
        for path in (ROOT / folder).glob("bandwidth_*/**/*.py")
    }


@functools.cache
def imports(module: str) -> frozenset[str]:
    """What a module imports: whole names of modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return frozenset(found)


def within(name: str, module: str) -> bool:
    """Whether a name is a module, or something in it."""
    return name == module or name.startswith(f"{module}.")


def impure(module: str) -> Iterator[str]:
    """The ways by which a module comes to I/O or to a clock, each with all modules on it."""
    seen, left = {module}, [(module,)]
    while left:
        way = left.pop()
        for name in sorted(imports(way[-1])):
            if any(within(name, allowed) for module, allowed in ALLOWED if module == way[-1]):
                continue
            if name in modules() and name not in seen:
                seen.add(name)
                left.append((*way, name))
            elif any(within(name, each) for each in IMPURE):
                yield " → ".join((*way, name))


def pure() -> list[str]:
    """The modules that say of themselves that they are pure."""
    first = {
        name: (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
        for name, path in modules().items()
    }
    return sorted(name for name, text in first.items() if re.search(r"\bPure\b", text))


@pytest.mark.parametrize("module", pure())
def test_what_is_called_pure_is(module: str) -> None:
    """Its docstring says "Pure", and no way leads from it to a file, a socket, a thread or a clock."""
    assert list(impure(module)) == []


def test_no_exception_is_left_over() -> None:
    """What is allowed is still imported, so that the list of exceptions is not longer than needed."""
    assert all(name in imports(module) for module, name in ALLOWED)
