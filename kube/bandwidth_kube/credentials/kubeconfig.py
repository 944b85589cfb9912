"""Reads kubeconfig files as kubectl does: the server, whom to trust, and our credentials.

Owns what of them becomes an `Access`, and that no text of such a file gets into a message, because it may be a
credential. A field that is not supported and that would change who we are is an error.
"""

from __future__ import annotations

import base64
import binascii
import pathlib
import urllib.parse
from collections.abc import Sequence
from typing import Any, NamedTuple

from bandwidth_kube.credentials import auth_provider, credential_program
from bandwidth_kube.credentials.access import Access, NoConnectionError, Trust

FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
IMPERSONATION = ("as", "as-uid", "as-groups", "as-user-extra")
EXTENSION = f"{credential_program.GROUP}/exec"  # what a cluster hands to the program that gives credentials

Json = dict[str, Any]


class _WrongError(ValueError):
    """Something is wrong in a file; the message contains no credential."""


class _Section(NamedTuple):
    """One named part of a file, and the directory that its paths are relative to."""

    value: Json
    home: pathlib.Path


class Kubeconfig:
    """A source of credentials: the current context of one or several kubeconfig files."""

    def __init__(self, paths: Sequence[pathlib.Path]) -> None:
        self._paths = tuple(paths)

    def __call__(self, *, renew: bool) -> Access:
        names = ", ".join(str(path) for path in self._paths)
        try:
            return self._read()
        except ModuleNotFoundError as error:
            raise NoConnectionError(
                f"the kubeconfig {names} cannot be read without the Python package {error.name}; install"
                " client-bandwidth-operator[kubeconfig]"
            ) from error
        except Exception as error:  # YAML has a dozen kinds, and words of the file in most of them
            explained = isinstance(error, (_WrongError, NoConnectionError, OSError))
            why = str(error) if explained else type(error).__name__
            raise NoConnectionError(
                f"the kubeconfig {names} cannot be used: {why}; kubectl --kubeconfig … config view shows what is in it"
            ) from None

    def _read(self) -> Access:
        files = [path for path in self._paths if path.exists()]
        if not files:
            raise _WrongError("there is no such file")
        documents = [_Section(_document(path), path.absolute().parent) for path in files]
        current = next((str(d.value["current-context"]) for d in documents if d.value.get("current-context")), "")
        if not current:
            raise _WrongError("it has no current-context")
        context = _named(documents, "context", current).value
        cluster = _named(documents, "cluster", str(context.get("cluster") or ""))
        name = str(context.get("user") or "")
        user = _named(documents, "user", name) if name else _Section({}, cluster.home)
        return _access(cluster, user, files)


def _document(path: pathlib.Path) -> Json:
    import yaml  # no pod needs it

    found = yaml.load(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    if not isinstance(found, dict):
        raise _WrongError(f"{path} is no kubeconfig")
    return found


def _named(documents: Sequence[_Section], kind: str, name: str) -> _Section:
    """Return the first cluster, user or context of this name."""
    for document in documents:
        for each in document.value.get(f"{kind}s") or ():
            if isinstance(each, dict) and each.get("name") == name and isinstance(each.get(kind) or {}, dict):
                return _Section(each.get(kind) or {}, document.home)
    raise _WrongError(f"it has no {kind} of the name that is asked for")


def _access(cluster: _Section, user: _Section, files: Sequence[pathlib.Path]) -> Access:
    refused = [key for key in IMPERSONATION if user.value.get(key)]
    if refused:
        raise _WrongError(f"{refused[0]} is not supported")
    verify = cluster.value.get("insecure-skip-tls-verify") is not True
    ca = _data(cluster, "certificate-authority")
    given = _credential(cluster, user)
    trust = Trust(
        ca=ca,
        verify=verify,
        server_name=_word(cluster, "tls-server-name") or None,
        certificate=given.certificate,
        key=given.key,
    )
    return Access(
        server=_server(_word(cluster, "server"), tls=bool(ca or given.certificate or not verify)),
        trust=trust,
        token=given.token,
        files=(*files, *_files(cluster), *_files(user)),
        expires_at=given.expires_at,
        proxy_url=_word(cluster, "proxy-url"),
        slow=bool({"exec", "auth-provider"} & {key for key, value in user.value.items() if value}),
    )


def _server(url: str, *, tls: bool) -> str:
    """Return the URL of the server, with the scheme that kubectl adds where there is none."""
    url = url if "://" in url else f"{'https' if tls else 'http'}://{url}"
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme.lower() not in ("http", "https"):
        raise _WrongError("server is no URL like https://192.0.2.1:6443")
    return f"{parts.scheme.lower()}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _credential(cluster: _Section, user: _Section) -> credential_program.Credential:
    """Return our credentials: those in the file, and only without them those of a program, as kubectl does."""
    certificate, key = _data(user, "client-certificate"), _data(user, "client-key")
    token = _token(user)
    if not token and (user.value.get("username") or user.value.get("password")):
        raise _WrongError("a password is not supported; use a token, a client certificate or exec")
    if (token or certificate) or not (user.value.get("exec") or user.value.get("auth-provider")):
        return credential_program.Credential(token, certificate, key)
    if user.value.get("exec"):
        config = user.value["exec"]
        if not isinstance(config, dict):
            raise _WrongError("exec is no mapping")
        return credential_program.run(credential_program.read(config, user.home, _for_program(cluster)))
    return auth_provider.read(user.value["auth-provider"])


def _token(user: _Section) -> str:
    path = _path(user, "tokenFile")
    if path is None:
        return _word(user, "token").strip()
    try:
        token = path.read_text().strip()
    except OSError:
        token = _word(user, "token").strip()
        if not token:
            raise
    return token


def _for_program(cluster: _Section) -> Json:
    """Return the description of the cluster for a program that asks for it."""
    known: Json = {"server": _word(cluster, "server"), "insecure-skip-tls-verify": False}
    for key in ("tls-server-name", "insecure-skip-tls-verify", "proxy-url", "disable-compression"):
        if cluster.value.get(key):
            known[key] = cluster.value[key]
    ca = _data(cluster, "certificate-authority")
    if ca:
        known["certificate-authority-data"] = base64.b64encode(ca.encode()).decode()
    for each in cluster.value.get("extensions") or ():
        if isinstance(each, dict) and each.get("name") == EXTENSION:
            known["config"] = each.get("extension")
    return known


def _word(section: _Section, key: str) -> str:
    value = section.value.get(key)
    if value is not None and not isinstance(value, str):
        raise _WrongError(f"{key} is no text")
    return value or ""


def _path(section: _Section, key: str) -> pathlib.Path | None:
    word = _word(section, key)
    return section.home / word if word else None


def _files(section: _Section) -> list[pathlib.Path]:
    """Return the files that a cluster or a user names."""
    return [path for path in (_path(section, key) for key in FILES) if path is not None]


def _data(section: _Section, key: str) -> str:
    """Return the PEM text that is in the file itself, or else in the file that it names."""
    inline = _word(section, f"{key}-data")
    if inline:
        try:
            data = base64.b64decode("".join(inline.split()), validate=True)
        except (binascii.Error, ValueError):
            raise _WrongError(f"{key}-data is not base64") from None
    else:
        path = _path(section, key)
        data = path.read_bytes() if path is not None else b""
        if path is not None and not data.strip():
            raise _WrongError(f"{key}: the file {path} is empty")
    return data.decode(errors="replace")
