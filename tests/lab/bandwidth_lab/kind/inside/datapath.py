"""The eBPF datapath of one node of a kind cluster, until it is asked to end. Usage: datapath.py FILE READY

FILE is an `ebpf_cluster.Cluster`, READY a file that is made when the datapath works; NODE_NAME in the environment says
which node this is. Needs the node's network, all capabilities, the modules of the laboratory that it imports beside it,
and the agent's own for netlink. Like the datapaths that it stands for, it mounts the BPF file system.
"""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable

from bandwidth_lab import ebpf_cluster

BPF = "/sys/fs/bpf"
_ROUTES = pathlib.Path("/proc/net/route")
_libc = ctypes.CDLL(None, use_errno=True)


class Here:
    """The network namespace of this process."""

    def call(self, function: Callable[[], int], /) -> int:
        return function()


def device_of(address: str) -> str:
    """The interface by which a route leads to this one IPv4 address."""
    wanted = f"{struct.unpack('=I', socket.inet_aton(address))[0]:08X}"
    routes = (line.split() for line in _ROUTES.read_text().splitlines()[1:])
    return next(words[0] for words in routes if words[1] == wanted)


def mount_bpf() -> None:
    """Mount the BPF file system, unless it is there."""
    if any(line.split()[1] == BPF for line in pathlib.Path("/proc/mounts").read_text().splitlines() if " bpf " in line):
        return
    if _libc.mount(b"bpf", BPF.encode(), b"bpf", 0, b"mode=0700"):
        raise OSError(ctypes.get_errno(), f"mount {BPF}")


def main() -> None:
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    node, (description, ready) = os.environ["NODE_NAME"], map(pathlib.Path, sys.argv[1:])
    cluster = ebpf_cluster.Cluster.read(json.loads(description.read_text()))
    pods = {one.node_port: device_of(one.pod[4]) for one in cluster.services if one.node == node}
    mount_bpf()
    with ebpf_cluster.attached(Here(), cluster, node, pods):
        ready.touch()
        print("attached", pods, flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
