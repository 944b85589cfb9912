"""Credentials that a program gives: how often it is asked."""

from __future__ import annotations

import pathlib
import stat
import sys

import pytest

from bandwidth_kube import connection
from unit.clock import Clock
from unit.kube.test_connection import bearer, source, written


def giver(tmp_path: pathlib.Path, expires: str = "") -> tuple[pathlib.Path, pathlib.Path]:
    """A kubeconfig whose credentials come from a program, and the file where that counts its calls."""
    calls = tmp_path / "calls"
    program = tmp_path / "give"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        f"calls = open({str(calls)!r}, 'a+'); calls.write('x'); calls.flush(); calls.seek(0)\n"
        "assert json.loads(os.environ['KUBERNETES_EXEC_INFO'])['kind'] == 'ExecCredential'\n"
        "status = {'token': os.environ['PREFIX'] + sys.argv[1] + str(len(calls.read()))}\n"
        f"status |= {{'expirationTimestamp': {expires!r}}} if {expires!r} else {{}}\n"
        "version = 'client.authentication.k8s.io/v1'\n"
        "print(json.dumps({'apiVersion': version, 'kind': 'ExecCredential', 'status': status}))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    how = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "./give",
        "args": ["token-"],
        "env": [{"name": "PREFIX", "value": "a-"}],
    }
    return written(tmp_path / "k", {"exec": how}), calls


def test_a_program_gives_the_token(tmp_path: pathlib.Path) -> None:
    """It is asked once, not at every request, and again when the server refused what it gave."""
    path, calls = giver(tmp_path)
    found = connection.load(path)
    assert [bearer(found) for _ in range(3)] == ["Bearer a-token-1"] * 3
    found.refused()
    assert bearer(found) == "Bearer a-token-2"
    assert calls.read_text() == "xx"


def test_a_program_is_asked_again_when_its_token_ends(tmp_path: pathlib.Path) -> None:
    """By the time that it said."""
    path, _ = giver(tmp_path, "1970-01-12T13:46:50Z")
    clock = Clock(1_000_000.0)
    found = connection.Connection(source(path), clock)
    assert bearer(found) == "Bearer a-token-1"
    clock.now += 9
    assert bearer(found) == "Bearer a-token-1"
    clock.now += 1
    assert bearer(found) == "Bearer a-token-2"


@pytest.mark.parametrize("command", ["nowhere", "false"])
def test_a_program_that_gives_none_is_reported(tmp_path: pathlib.Path, command: str) -> None:
    """One that is not there, and one that fails."""
    how = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command}}
    with pytest.raises(connection.NoConnectionError, match="gave no credential") as caught:
        connection.load(written(tmp_path / "k", how))
    assert "hidden" not in str(caught.value)
