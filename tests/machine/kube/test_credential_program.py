"""Programs that give credentials, as clouds ship them and as they go wrong; kubectl accepts the good ones alike."""

from __future__ import annotations

import json
import os
import pathlib
import threading
import time
from typing import Any

import pytest

from bandwidth_kube import connection
from bandwidth_kube.credentials import credential_program
from bandwidth_kube.credentials.kubeconfig import Kubeconfig
from unit.clock import Clock

V1 = "client.authentication.k8s.io/v1"
LONG_SECONDS = 8.0


def answer(version: str = V1, kind: str = "ExecCredential", **status: Any) -> str:
    """What such a program prints; `bearer` is the token in it."""
    told = {{"bearer": "token"}.get(key, key): value for key, value in status.items()}
    return json.dumps({"apiVersion": version, "kind": kind, "status": told})


class Config:
    """A kubeconfig whose user is known by a program, a shell script here."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.clock = Clock(1_000_000.0)

    def program(self, script: str) -> None:
        path = self.folder / "give"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def connection(self, **said: Any) -> connection.Connection:
        how = {"apiVersion": V1, "command": "./give", "interactiveMode": "Never"} | said
        cluster = {
            "server": "https://192.0.2.1:6443",
            "certificate-authority-data": "",
            "tls-server-name": "kubernetes",
        }
        extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "mine"}}
        document = {
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": cluster | {"extensions": [extension]}}],
            "users": [{"name": "it", "user": {"exec": how}}],
        }
        path = self.folder / "kubeconfig"
        path.write_text(json.dumps(document))
        return connection.Connection(Kubeconfig([path]), self.clock, {})


@pytest.fixture
def config(tmp_path: pathlib.Path) -> Config:
    return Config(tmp_path)


GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "a token": (f"echo '{answer(bearer='t')}'", {}),
    "nulls, hints and unknown words": (
        f"echo '{answer(bearer='t', expirationTimestamp=None)}'",
        {"args": None, "env": None, "installHint": "install it", "unknown": 1},
    ),
    "warnings beside it": (f"echo 'WARNING: Python 3.8 is old' >&2; echo '{answer(bearer='t')}'", {}),
    "a time in UTC": (f"echo '{answer(bearer='t', expirationTimestamp='2099-01-01T00:00:00Z')}'", {}),
    "a time with a fraction and an offset": (
        f"echo '{answer(bearer='t', expirationTimestamp='2099-01-01T00:00:00.123456789+02:00')}'",
        {},
    ),
    "the version before": (
        f"echo '{answer('client.authentication.k8s.io/v1beta1', bearer='t')}'",
        {"apiVersion": "client.authentication.k8s.io/v1beta1", "interactiveMode": "IfAvailable"},
    ),
    "spaces around the token": (f"echo '{answer(bearer=' t ')}'", {}),
    "arguments and variables": (
        f"[ \"$1 $WHO\" = 'a b' ] && echo '{answer(bearer='t')}'",
        {"args": ["a"], "env": [{"name": "WHO", "value": "b"}]},
    ),
    "the cluster": (
        'echo "$KUBERNETES_EXEC_INFO" | grep -q \'"server": "https://192.0.2.1:6443"\' || exit 3\n'
        'echo "$KUBERNETES_EXEC_INFO" | grep -q \'"audience": "mine"\' || exit 4\n'
        'echo "$KUBERNETES_EXEC_INFO" | grep -q \'"tls-server-name": "kubernetes"\' || exit 5\n'
        f"echo '{answer(bearer='t')}'",
        {"provideClusterInfo": True},
    ),
    "no terminal and no input": (f"[ -t 0 ] && exit 3; read word && exit 4; echo '{answer(bearer='t')}'", {}),
    "a child that goes on": (f"sleep 20 & echo '{answer(bearer='t')}'", {}),
    "an answer over several lines": (f"echo '{answer(bearer='t')}' | sed 's/,/,\\n/g'", {}),
}


@pytest.mark.parametrize("name", GOOD)
def test_programs_that_give_a_token(config: Config, name: str) -> None:
    """However they are called, and whatever else they say."""
    script, said = GOOD[name]
    config.program(script)
    assert config.connection(**said).headers() == {"authorization": "Bearer t"}


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "not installed": (
        "true",
        {"command": "no-such-plugin", "installHint": "Install it: see https://example.com"},
        "no-such-plugin gave no credential: it cannot be run: No such file.*Install it: see https://example.com",
    ),
    "fails": ("echo 'ERROR: reauthentication needed' >&2; exit 1", {}, "ended with 1: ERROR: reauthentication needed"),
    "fails with brackets": ("printf '(\\n  no account\\n)\\n' >&2; exit 1", {}, r"ended with 1: \( no account \)"),
    "fails with colours": ("printf '\\033[31mred\\033[0m\\n' >&2; exit 1", {}, r"ended with 1: \[31mred"),
    "fails with much": ("yes 'no ' | head -c 100000 >&2; exit 1", {}, "ended with 1: .*no no"),
    "is killed": ("kill -9 $$", {}, "ended with -9"),
    "says nothing": ("true", {}, "no ExecCredential"),
    "says something else": ("echo hello", {}, "no ExecCredential"),
    "says null": ("echo null", {}, "no ExecCredential"),
    "says depth": ("yes '[' | head -100000 | tr -d '\\n'", {}, "no ExecCredential"),
    "never ends its answer": ("yes; sleep 300", {}, "within"),
    "another version": (
        f"echo '{answer('client.authentication.k8s.io/v1beta1', bearer='t')}'",
        {},
        "no ExecCredential",
    ),
    "another kind": (f"echo '{answer(kind='Pod', bearer='t')}'", {}, "no ExecCredential"),
    "no token": (f"echo '{answer(bearer='')}'", {}, "neither a token nor a certificate"),
    "half a certificate": (f"echo '{answer(clientCertificateData='x')}'", {}, "neither a token nor a certificate"),
    "a token that is none": (f"echo '{answer(bearer=[1])}'", {}, "no ExecCredential"),
    "a time that is none": (f"echo '{answer(bearer='t', expirationTimestamp='soon')}'", {}, "no ExecCredential"),
    "no command": ("true", {"command": None}, "exec names no command"),
    "an old version": ("true", {"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "exec.apiVersion"),
    "a person": ("true", {"interactiveMode": "Always"}, "no person"),
    "odd arguments": ("true", {"args": "a"}, "must be lists"),
    "hangs": ("sleep 300", {}, "within 1 s"),
}


@pytest.mark.parametrize("name", BAD)
def test_programs_that_give_none(config: Config, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the program and what it said, and comes in time."""
    monkeypatch.setattr(
        credential_program.run, "__defaults__", (1.0 if name in ("hangs", "never ends its answer") else 10.0,)
    )
    script, said, why = BAD[name]
    config.program(script)
    began = time.monotonic()
    with pytest.raises(connection.NoConnectionError, match=why) as caught:
        config.connection(**said)
    assert time.monotonic() - began < LONG_SECONDS
    assert len(str(caught.value)) < 1000


def test_nothing_of_a_program_is_left_behind(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither it nor what it started, when it is given up."""
    monkeypatch.setattr(credential_program.run, "__defaults__", (0.5,))
    config.program(f"sleep 300 & echo $! > {config.folder}/child; echo $$ > {config.folder}/itself; wait")
    with pytest.raises(connection.NoConnectionError):
        config.connection()
    for name in ("child", "itself"):
        number = int((config.folder / name).read_text())
        deadline = time.monotonic() + 20.0
        while pathlib.Path(f"/proc/{number}").exists() and _state(number) != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_an_answer_without_an_end_fills_no_memory(config: Config) -> None:
    """What a program writes beyond a megabyte goes nowhere, nor do its complaints."""
    config.program(f"yes 2>/dev/null; yes complaint >&2; echo done > {config.folder}/done; exit 1")
    with pytest.raises(connection.NoConnectionError, match="ended with 1"):
        config.connection()
    assert (config.folder / "done").exists()


def _state(number: int) -> str:
    try:
        return pathlib.Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def counted(config: Config, then: str) -> None:
    """A program whose first token is one for ten seconds, and which does something else from then on."""
    first = answer(bearer="one", expirationTimestamp="1970-01-12T13:46:50Z")
    config.program(
        f"echo >> {config.folder}/runs; [ $(wc -l < {config.folder}/runs) = 1 ] && echo '{first}' && exit\n{then}"
    )


def runs(config: Config) -> int:
    return len((config.folder / "runs").read_text())


def until_run(config: Config, times: int) -> None:
    """No request waits for a program whose last attempt failed; only this test does."""
    deadline = time.monotonic() + 20.0
    while runs(config) < times:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert runs(config) == times


def test_a_program_that_hangs_at_the_renewal_holds_nobody_up(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old token is used as long as it is valid, at once, and by all; then a request waits a bounded time."""
    monkeypatch.setattr(connection, "WAIT_SECONDS", 0.2)
    counted(config, f"exec 3<> {config.folder}/gate; read word <&3")
    os.mkfifo(config.folder / "gate")
    found = config.connection()
    config.clock.now += 9.8  # a moment before its end
    began = time.monotonic()
    assert [found.headers()["authorization"] for _ in range(100)] == ["Bearer one"] * 100
    config.clock.now += 1.0  # over: the one program that runs is waited for once, not by each request
    assert [found.headers()["authorization"] for _ in range(100)] == ["Bearer one"] * 100
    assert time.monotonic() - began < LONG_SECONDS
    until_run(config, 2)


def test_a_program_that_fails_at_the_renewal_is_run_again_after_a_while(config: Config) -> None:
    """Not for every request."""
    counted(config, "exit 1")
    found = config.connection()
    config.clock.now += 10.5
    for _ in range(20):
        found.headers()
    assert runs(config) == 2
    config.clock.now += connection.AGAIN_SECONDS + 1.0
    for _ in range(20):
        found.headers()
    until_run(config, 3)


def test_a_token_that_is_refused_again_and_again_is_no_storm_of_programs(config: Config) -> None:
    """A program is run for the first refusal, and not again before some seconds have passed."""
    config.program(f"echo >> {config.folder}/runs; echo '{answer(bearer='t')}'")
    found = config.connection()
    for _ in range(20):
        found.refused()
        found.headers()
    assert runs(config) == 2
    config.clock.now += connection.AGAIN_SECONDS + 1.0
    found.refused()
    found.headers()
    assert runs(config) == 3


def test_many_threads_have_one_renewal(config: Config) -> None:
    """All of them get the new token."""
    second = answer(bearer="two")
    counted(config, f"echo '{second}'")
    found = config.connection()
    config.clock.now += 11.0
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(found.headers()["authorization"])) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20.0)
    assert got == ["Bearer two"] * 8
    assert runs(config) == 2
