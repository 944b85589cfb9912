"""Manifests saved by programs as people use them, while the agent follows the directory."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import threading
from collections.abc import Callable

import pytest

from bandwidth_agent.kernel import model
from bandwidth_api import names
from bandwidth_lab import node
from kernel.programs.conftest import Host

forked_programs = pytest.fixture(autouse=True, scope="module")(node.forked_programs)

pytestmark = pytest.mark.root

CLIENT = "203.0.113.10"


def text(rate: int) -> str:
    return json.dumps(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.LIMIT_KIND,
            "metadata": {"name": "mail"},
            "spec": {"clients": [CLIENT], "ttlSeconds": 36000, "egress": {"rate": f"{rate}Mbit"}},
        }
    )


def shell(command: str) -> Callable[[pathlib.Path, int], None]:
    """A save by a command: $f is the manifest, $n the new rate, $new a whole file with it elsewhere."""

    def save(path: pathlib.Path, rate: int) -> None:
        new = path.parent.parent / "new.yaml"
        new.write_text(text(rate))
        env = {**os.environ, "f": str(path), "n": str(rate), "new": str(new)}
        subprocess.run(["sh", "-ec", command], env=env, check=True, capture_output=True, timeout=60)

    return save


def emacs(path: pathlib.Path, rate: int) -> None:
    """Away with the old file, the new one is written and put on the disk."""
    path.rename(path.with_name("mail.yaml~"))
    with path.open("x") as file:
        file.write(text(rate))
        file.flush()
        os.fsync(file.fileno())


SAVES = {
    "emacs": emacs,
    "sed -i": shell('sed -i "s/[0-9]*Mbit/${n}Mbit/" "$f"'),
    "perl -i": shell('perl -i -pe "s/[0-9]+Mbit/${n}Mbit/" "$f"'),
    "cp": shell('cp "$new" "$f"'),
    "cp --remove-destination": shell('cp --remove-destination "$new" "$f"'),
    "install": shell('install -m 0644 "$new" "$f"'),
    "unlink, a pause, create": shell('rm "$f"; sleep 0.2; cat "$new" > "$f"'),
    "unlink, create, a pause": shell('rm "$f"; { head -c 60 "$new"; sleep 0.9; tail -c +61 "$new"; } > "$f"'),
    "git checkout": shell(
        'cd "$(dirname "$f")"; [ -d .git ] || git init -q; cp "$new" "$f.new"; cp "$f" "$f.old"; git add mail.yaml'
        " && git -c user.name=a -c user.email=a@b commit -qm old --allow-empty && git branch -f old"
        ' && git hash-object -w "$new" > blob && git update-index --cacheinfo 100644,$(cat blob),mail.yaml'
        " && git -c user.name=a -c user.email=a@b commit -qm new && git checkout -qf HEAD -- mail.yaml"
        " && rm mail.yaml && git checkout -q HEAD -- mail.yaml"
    ),
}


@pytest.mark.parametrize("name", SAVES)
def test_a_save_never_lifts_the_limit(host: Host, name: str) -> None:
    """Over several saves the client is in a class at each moment, and the end of its limit stays where it was."""
    path = host.manifests / "mail.yaml"
    path.write_text(text(5))
    host.start("--resync", "600")
    host.until_rate(CLIENT, 5_000_000)
    (until,) = ends(host.kernel())
    rates: set[int | None] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            rates.add(host.rate_of(CLIENT))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for rate in (6, 7, 8):
            SAVES[name](path, rate)
            host.until_rate(CLIENT, rate * 1_000_000)
    finally:
        stop.set()
        watching.join()
    assert rates <= {5_000_000, 6_000_000, 7_000_000, 8_000_000}
    assert ends(host.kernel()) == {until}
    assert "KeptPrevious" not in host.log.read_text()
    path.unlink()
    assert host.until_rate(CLIENT, None) < 1.5
    assert host.stop() == 0


def ends(state: model.State) -> set[str]:
    """What the comments in the kernel say about the end of limits."""
    return {entry.comment.partition("until=")[2] for ipset in state.sets.values() for entry in ipset.entries.values()}


def test_a_pass_that_is_made_once_heeds_a_deletion(host: Host) -> None:
    """`run --once` after a file was deleted lifts its limits in that one pass."""
    host.limit("mail", [CLIENT], "5Mbit")
    host.once()
    host.lift("mail")
    assert host.once()["limits"]["desired"] == 0
    assert host.rate_of(CLIENT) is None
