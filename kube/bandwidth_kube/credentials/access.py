"""The values that every source of credentials returns: the API server, its TLS settings, and our credentials.

Owns these types only; reads nothing, and imports none of the modules that do.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Protocol


class NoConnectionError(Exception):
    """No API server is configured, or what is configured cannot be used; the message has what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """What TLS needs. `certificate` and `key` are PEM, for a client that identifies itself by a certificate."""

    ca: str = ""  # PEM, perhaps with other text between the certificates; "": what this machine trusts
    verify: bool = True
    server_name: str | None = None  # the name in the server's certificate, where it is not that of the address
    certificate: str = dataclasses.field(default="", repr=False)
    key: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """An API server and our credentials there, at one time."""

    server: str  # URL without a slash at its end; it may have a path
    trust: Trust = Trust()
    token: str = dataclasses.field(default="", repr=False)
    files: tuple[pathlib.Path, ...] = ()  # what it was read from
    expires_at: float | None = None  # seconds since the epoch; None: when the files change
    proxy_url: str = dataclasses.field(default="", repr=False)  # it may hold a password; "": none is named
    in_cluster: bool = False  # the server is the service of the cluster that we are in: no proxy leads there
    slow: bool = False  # to read it again a program is run


class Source(Protocol):
    """A place that credentials are read from, such as a kubeconfig or a service account."""

    def __call__(self, *, renew: bool) -> Access:
        """Read the credentials; `renew`: the server refused those of the last call. Raises NoConnectionError."""
