"""kubeconfig files: the server, what to trust, and a token, a client certificate or a program that gives one of them.

Owns the form of these files as far as a client needs it, several of them merged as kubectl does: the first that names
something decides. What it does not know is told and not passed over, so that nobody speaks as somebody else than meant.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import os
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from bandwidth_kube.connection import Access, NoConnectionError, Trust

PROGRAM_SECONDS = 60.0
EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
# Ways of being somebody that we do not have.
UNKNOWN = ("auth-provider", "username", "password", "as", "as-uid", "as-groups", "as-user-extra")

Fields = Mapping[str, Any]


class Kubeconfig:
    """A source of credentials."""

    def __init__(self, paths: Sequence[pathlib.Path]) -> None:
        self._paths = tuple(paths)

    def __call__(self, *, anew: bool) -> Access:
        try:
            return self._read()
        except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
            names = ", ".join(str(path) for path in self._paths)
            # No words of the file in the message: they may be a credential.
            why = str(error) if isinstance(error, (OSError, _WrongError)) else type(error).__name__
            raise NoConnectionError(f"the kubeconfig {names} cannot be used: {why}") from error

    def _read(self) -> Access:
        files = [path for path in self._paths if path.exists() or len(self._paths) == 1]
        documents = [(path.absolute().parent, yaml.safe_load(path.read_bytes())) for path in files]
        chosen = next((d["current-context"] for _, d in documents if d.get("current-context")), None)
        if not chosen:
            raise _WrongError("it has no current-context")
        _, context = _named(documents, "context", chosen)
        cluster_home, cluster = _named(documents, "cluster", context["cluster"])
        user_home, user = _named(documents, "user", context["user"]) if context.get("user") else (None, {})
        if cluster.get("proxy-url"):
            raise _WrongError("proxy-url is not supported")
        for key in UNKNOWN:
            if user.get(key):
                raise _WrongError(f"{key} is not supported; use a token, a client certificate or exec")
        credential, expires_at = _credential(user_home, user, files)
        trust = Trust(
            ca=_text(cluster_home, cluster, "certificate-authority", files),
            verify=not cluster.get("insecure-skip-tls-verify"),
            server_name=cluster.get("tls-server-name") or None,
            certificate=credential.get("clientCertificateData", ""),
            key=credential.get("clientKeyData", ""),
        )
        server = str(cluster["server"]).rstrip("/")
        return Access(server, trust, credential.get("token", ""), tuple(files), expires_at)


class _WrongError(ValueError):
    """Something is wrong in a file; the message names no credential."""


def _named(documents: Sequence[tuple[pathlib.Path, Fields]], kind: str, name: str) -> tuple[pathlib.Path, Fields]:
    """The first item of this name, and the directory that its paths begin at."""
    for home, document in documents:
        for item in document.get(f"{kind}s") or ():
            if item["name"] == name:
                return home, item[kind] or {}
    raise _WrongError(f"it has no {kind} named {name!r}")


def _text(home: pathlib.Path | None, fields: Fields, key: str, files: list[pathlib.Path]) -> str:
    """What stands in the file named by `key`, or in `key`-data; noted in `files` if it came from one."""
    data = fields.get(f"{key}-data")
    if data:
        try:
            return base64.b64decode(data, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise _WrongError(f"{key}-data is no base64") from None
    if not fields.get(key):
        return ""
    path = (home or pathlib.Path()) / str(fields[key])
    files.append(path)
    return path.read_text()


def _credential(
    home: pathlib.Path | None, user: Fields, files: list[pathlib.Path]
) -> tuple[Mapping[str, str], float | None]:
    """A token, a certificate and its key, as far as there are any, and until when they hold."""
    found = {
        "clientCertificateData": _text(home, user, "client-certificate", files),
        "clientKeyData": _text(home, user, "client-key", files),
        "token": str(user.get("token") or ""),
    }
    if user.get("tokenFile"):
        path = (home or pathlib.Path()) / str(user["tokenFile"])
        files.append(path)
        found["token"] = path.read_text().strip()
    if user.get("exec"):
        given, expires_at = _asked(home, user["exec"])
        return found | given, expires_at
    return found, None


def _asked(home: pathlib.Path | None, how: Fields) -> tuple[dict[str, str], float | None]:
    """What a credential program prints."""
    version = how.get("apiVersion")
    if version not in EXEC_VERSIONS:
        raise _WrongError(f"exec of version {version!r} is not supported; {EXEC_VERSIONS[0]} is")
    command = str(how["command"])
    if os.sep in command and home is not None:
        command = str(home / command)
    question = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {item["name"]: item["value"] for item in how.get("env") or ()}
    try:
        done = subprocess.run(
            [command, *(str(word) for word in how.get("args") or ())],
            env={**os.environ, **environment, "KUBERNETES_EXEC_INFO": json.dumps(question)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=PROGRAM_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _WrongError(f"{command} did not answer within {PROGRAM_SECONDS:.0f} s") from None
    if done.returncode:
        raise _WrongError(f"{command} ended with {done.returncode}")
    status = json.loads(done.stdout)["status"]
    ends = status.get("expirationTimestamp")
    expires_at = datetime.datetime.fromisoformat(ends).timestamp() if ends else None
    wanted = ("token", "clientCertificateData", "clientKeyData")
    return {key: str(status[key]) for key in wanted if status.get(key)}, expires_at
