"""A program that has imported all of itself, and is forked for each start: a file to run, not to import.

    template.py PROGRAM DESCRIPTOR MODULE IMPORTED…

PROGRAM is the path under which users call it, MODULE the one whose `main` it is; with "-" that of the file PROGRAM.
Each request comes through the socket of that descriptor, with the files of the standard streams and, last, of a network
namespace; the answer is a process number. What was started is no child of this process, but of the one that asked,
which is its subreaper. Ends with the socket.
"""

from __future__ import annotations

import array
import ctypes
import faulthandler
import gc
import importlib.util
import json
import os
import signal
import socket
import sys
import time
import types
from typing import Any

_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000
_MS_REC, _MS_SLAVE, _MNT_DETACH = 0x4000, 0x80000, 2
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_REQUEST_BYTES = 1 << 17
_STREAMS = 3

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Serve requests until the socket is closed; in a fork, what the program returns."""
    path, descriptor, module, *imported = sys.argv[1:]
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type] # as the program does before it imports the others
    program = _loaded(path) if module == "-" else importlib.import_module(module)
    for name in imported:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that a collection in a fork copies no page of what all forks have
    with socket.socket(fileno=int(descriptor)) as connection:
        while True:
            text, files = _received(connection)
            if not text:
                return 0
            request = json.loads(text)
            between = os.fork()
            if between == 0:
                between = os.getpid()
                if os.fork():
                    os._exit(0)
                _become(request, files, connection, between)
                sys.argv[:] = [path, *request["words"]]
                code: int = program.main(request["words"])
                return code
            os.waitpid(between, 0)
            for file in files:
                os.close(file)


def _loaded(path: str) -> types.ModuleType:
    specification = importlib.util.spec_from_file_location("program", path)
    assert specification is not None
    assert specification.loader is not None
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    return loaded


def _received(connection: socket.socket) -> tuple[bytes, list[int]]:
    room = (_STREAMS + 1) * array.array("i").itemsize
    text, controls, _, _ = connection.recvmsg(_REQUEST_BYTES, socket.CMSG_SPACE(room))
    files = array.array("i")
    for _, _, content in controls:
        files.frombytes(content)
    return text, list(files)


def _become(request: dict[str, Any], files: list[int], connection: socket.socket, between: int) -> None:
    """In the fork: all that a start of the program would have made of it."""
    os.setsid()
    while os.getppid() == between:
        time.sleep(0.0005)  # until the subreaper is its parent
    if request["dies_with_parent"]:
        _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    _libc.prctl(_PR_SET_NAME, os.path.basename(sys.argv[1]).encode(), 0, 0, 0)
    for number in range(_STREAMS):
        os.dup2(files[number], number)
    _open_streams()
    if len(files) > _STREAMS:
        _enter(files[_STREAMS])
    for file in files:
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if os.environ.get("PYTHONFAULTHANDLER"):
        faulthandler.enable()
    connection.send(str(os.getpid()).encode())
    connection.close()


def _open_streams() -> None:
    """As the interpreter does for what the descriptors are now: a pipe is not written as a file is."""
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def _enter(namespace: int) -> None:
    """What `ip netns exec` does: the network namespace, and a /sys that shows its interfaces."""
    _checked(_libc.setns(namespace, _CLONE_NEWNET))
    _checked(_libc.unshare(_CLONE_NEWNS))
    _checked(_libc.mount(b"", b"/", b"none", _MS_SLAVE | _MS_REC, None))
    _libc.umount2(b"/sys", _MNT_DETACH)
    _checked(_libc.mount(b"template", b"/sys", b"sysfs", 0, None))


def _checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    sys.exit(main())
