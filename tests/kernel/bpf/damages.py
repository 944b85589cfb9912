"""What others may do to our names and maps in a bpf file system, one by one."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

from bandwidth_agent.kernel.linux.bpf import maps, system_call

Damage = Callable[[pathlib.Path], None]  # is told where the file system is


def forgotten(pattern: str) -> Damage:
    def damage(folder: pathlib.Path) -> None:
        for path in folder.glob(f"client-bandwidth/*/{pattern}"):
            path.unlink()

    return damage


def without_directory(folder: pathlib.Path) -> None:
    shutil.rmtree(folder / "client-bandwidth")


@contextlib.contextmanager
def opened(folder: pathlib.Path, kind: str) -> Iterator[maps.Map]:
    (path,) = folder.glob(f"client-bandwidth/*/{kind}")
    with contextlib.closing(maps.Map.open(kind, str(path))) as made:
        yield made


def emptied(kind: str) -> Damage:
    def damage(folder: pathlib.Path) -> None:
        with opened(folder, kind) as there:
            keys, values = there.read()
            assert there.delete(keys) == {} if kind in ("v4", "v6") else there.put(keys, bytes(len(values))) == {}

    return damage


def changed(kind: str) -> Damage:
    """To classes, names and tables that there are not."""

    def damage(folder: pathlib.Path) -> None:
        with opened(folder, kind) as there:
            keys, values = there.read()
            assert there.put(keys, b"\x77\x66\0\0" * (len(values) // 4)) == {}

    return damage


def replaced(name: str) -> Damage:
    """By a map of another kind, as another version may have it."""

    def damage(folder: pathlib.Path) -> None:
        (path,) = folder.glob(f"client-bandwidth/*/{name}")
        path.unlink()
        descriptor = system_call.create_map(2, 4, 8, 4, 0, "other")
        system_call.pin(descriptor, str(path))
        os.close(descriptor)

    return damage


DAMAGES: dict[str, Damage] = {
    "the name of the addresses": forgotten("v4"),
    "the name of the addresses of IPv6": forgotten("v6"),
    "the name of the ports": forgotten("ports"),
    "the name of the names": forgotten("names"),
    "the names of programs": forgotten("program-*"),
    "the link, where there is one": forgotten("link-*"),
    "the names of all maps": forgotten("[npv][!r]*"),
    "all names of programs and links": forgotten("*-[0-9]*"),
    "the directory": without_directory,
    "another map of addresses": replaced("v4"),
    "another map of names": replaced("names"),
    "the addresses": emptied("v4"),
    "the ports": emptied("ports"),
    "the table of names": emptied("names"),
    "other classes": changed("v4"),
    "other tables for ports": changed("ports"),
    "other names": changed("names"),
}
