"""kubeconfig files, as the library `kubernetes` reads them: the server, what to trust, and who we are.

Owns what of it becomes an `Access`, and that no words of such a file stand in a message: they may be a credential. What
the library would pass over, so that one speaks as somebody else than meant, is told.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from bandwidth_kube.connection import Access, NoConnectionError, Trust

FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
IMPERSONATION = ("as", "as-uid", "as-groups", "as-user-extra")
BEARER = "Bearer "


class Kubeconfig:
    """A source of credentials."""

    def __init__(self, paths: Sequence[pathlib.Path]) -> None:
        self._paths = tuple(paths)

    def __call__(self, *, anew: bool) -> Access:
        names = ", ".join(str(path) for path in self._paths)
        try:
            return self._read()
        except ModuleNotFoundError as error:
            raise NoConnectionError(
                f"the kubeconfig {names} cannot be read without the Python package kubernetes; install"
                " client-bandwidth-operator[kubeconfig]"
            ) from error
        except Exception as error:  # the library has a dozen kinds, and words of the file in most of them
            why = str(error) if isinstance(error, (_WrongError, OSError)) else type(error).__name__
            raise NoConnectionError(
                f"the kubeconfig {names} cannot be used: {why}; kubectl --kubeconfig … config view shows what is in it"
            ) from None

    def _read(self) -> Access:
        import kubernetes.config.kube_config  # 20 MiB, which no pod needs

        library: Any = kubernetes.config.kube_config
        files = [path for path in self._paths if path.exists()]
        if not files:
            raise _WrongError("there is no such file")
        merged = library.KubeConfigMerger(os.pathsep.join(str(path.absolute()) for path in files)).config
        loader = library.KubeConfigLoader(merged, config_base_path=None)  # each file its own directory
        context = merged["contexts"].get_with_name(loader.current_context["name"])["context"]
        cluster = merged["clusters"].get_with_name(context["cluster"])["cluster"]
        user = _user(merged, context)
        told = [key for key in IMPERSONATION if user and user.safe_get(key)]
        if told or cluster.safe_get("proxy-url"):
            raise _WrongError(f"{told[0] if told else 'proxy-url'} is not supported")
        found: Any = SimpleNamespace(api_key={}, host="", ssl_ca_cert=None, cert_file=None, key_file=None)
        found.verify_ssl, found.tls_server_name = True, None
        loader.load_and_set(found)  # logs what a credential program complained of, and goes on as nobody
        token = str(found.api_key.get("BearerToken") or "")
        if token and not token.startswith(BEARER):
            raise _WrongError("a password is not supported; use a token, a client certificate or exec")
        if user and not (token or found.cert_file) and {"exec", "auth-provider"} & set(user.value):
            raise _WrongError("the program that it names gave no credential")
        expiry = getattr(loader, "expiry", None)
        return Access(
            server=str(found.host).rstrip("/"),
            trust=Trust(
                ca=_text(found.ssl_ca_cert),
                verify=found.verify_ssl,
                server_name=found.tls_server_name or None,
                certificate=_text(found.cert_file),
                key=_text(found.key_file),
            ),
            token=token.removeprefix(BEARER).strip(),
            files=(*files, *_files(cluster), *(_files(user) if user else ())),
            expires_at=None if expiry is None else expiry.timestamp(),
        )


class _WrongError(ValueError):
    """Something is wrong in a file; the message names no credential."""


def _user(merged: Any, context: Any) -> Any:
    """The user of a context, as the library finds it; None where there is none."""
    name = context.safe_get("user")
    found = merged["users"].get_with_name(name, safe=True) if name and merged.safe_get("users") else None
    return found["user"] if found and found.safe_get("user") else None


def _files(section: Any) -> list[pathlib.Path]:
    """The files that a cluster or a user names, relative to the file that it stands in."""
    home = pathlib.Path(section.path or "").parent
    return [home / str(section.value[key]) for key in FILES if section.value.get(key)]


def _text(path: str | None) -> str:
    return pathlib.Path(path).read_text() if path else ""
