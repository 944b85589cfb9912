"""The lock file of iptables: open to all as kubelet makes it, missing, no file, a link, held, read-only."""

from __future__ import annotations

import json
import shlex

import pytest

from bandwidth_lab import Network
from bandwidth_lab.node import Node

pytestmark = pytest.mark.root

LOCK = "/run/xtables.lock"
# As nobody, so long that the agent meets it; closed before the shell that started it ends.
HELD = f"setpriv --reuid=65534 --regid=65534 --clear-groups flock {LOCK} sleep 60 >/dev/null 2>&1 & sleep 1"


def once(node: Node, backend: str, before: str, after: str = "true") -> tuple[dict[str, object], str]:
    """One pass with a /run of its own, prepared by a shell; its report, and what the shell printed afterwards."""
    command = shlex.join(node.command("run", "--once", "-o", "json", "--iptables-backend", backend))
    script = f"mount -t tmpfs none /run\n{before}\n{command}\n{after} >&2\nkill %1 2>/dev/null"
    done = node.namespace.run(["unshare", "--mount", "bash", "-c", script], check=False, timeout=60)
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize("mode", ["644", "666", "640", "600"])
def test_a_lock_file_that_others_could_hold_is_taken_back(
    network: Network, node: Node, backend: str, mode: str
) -> None:
    """Whatever its mode was, afterwards only root can open it, and the limit is in force."""
    node.limit("slow", [network.clients[0].address4], "4Mbit")
    report, printed = once(node, backend, f"touch {LOCK}; chmod {mode} {LOCK}", f"stat -c %a:%u {LOCK}")
    assert report["limits"]["programmed"] == 1  # type: ignore[index]
    assert printed.splitlines()[-1] == "600:0"


STRANGE = {
    "a link to a file": f"touch /run/real; chmod 644 /run/real; ln -s /run/real {LOCK}",
    "another's file": f"touch {LOCK}; chmod 644 {LOCK}; chown 65534 {LOCK}",
    "a pipe": f"mkfifo -m 644 {LOCK}",
}


@pytest.mark.parametrize("what", STRANGE)
def test_what_is_not_the_file_that_kubelet_makes_stays(network: Network, node: Node, what: str) -> None:
    """A file of another user, what a link leads to, and what is no file keep their mode; nothing hangs."""
    node.limit("slow", [network.clients[0].address4], "4Mbit")
    report, printed = once(node, "nft", STRANGE[what], f"stat -L -c %a {LOCK}")
    assert report["limits"]["programmed"] == 1  # type: ignore[index]
    assert printed.splitlines()[-1] == "644"


BROKEN = {
    "a directory": (f"mkdir {LOCK}", "is no file: remove it"),
    "a link to nothing": (f"ln -s /run/not/there {LOCK}", "a link to nothing"),
    "read-only": ("mount -o remount,ro /run", "touch /run/xtables.lock"),
    "held": (f"touch {LOCK}; chmod 644 {LOCK}; {HELD}", "flock"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_lock_that_cannot_be_taken_is_named(network: Network, node: Node, what: str) -> None:
    """Each limit says what is wrong with the lock and what to do, or which process holds it."""
    node.limit("slow", [network.clients[0].address4], "4Mbit")
    before, says = BROKEN[what]
    report, _ = once(node, "legacy", before)
    (failing,) = report["failing"]  # type: ignore[misc]
    assert failing["reason"] == "KernelRefused"  # type: ignore[index]
    assert says in failing["message"]  # type: ignore[index]
    assert LOCK in failing["message"]  # type: ignore[index]


@pytest.mark.parametrize("what", ["a directory", "a link to nothing", "held"])
def test_the_other_back_end_needs_no_lock(network: Network, node: Node, what: str) -> None:
    """With iptables-nft the state of that file does not matter."""
    node.limit("slow", [network.clients[0].address4], "4Mbit")
    report, _ = once(node, "nft", BROKEN[what][0])
    assert report["limits"]["programmed"] == 1  # type: ignore[index]
