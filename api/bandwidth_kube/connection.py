"""Where the API server is and who we are there: the service account of a pod, or a kubeconfig file.

Owns when credentials are read again: whenever a file that they come from is another than before, when one expires, and
after the server refused one. Owns no connection; never prints a credential.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import ssl
import threading
import time
from collections.abc import Callable
from typing import Protocol

ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOOK_SECONDS = 1.0  # files are looked at no more often than this


class NoConnectionError(Exception):
    """No API server is configured, or what is configured cannot be used; the message says what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """What TLS needs. `certificate` and `key` are PEM, for a client that is known by its certificate."""

    ca: str = ""  # PEM; "": what this machine trusts
    verify: bool = True
    server_name: str | None = None  # the name in the server's certificate, where it is not that of the address
    certificate: str = dataclasses.field(default="", repr=False)
    key: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """An API server and our credentials there, as they are at one time."""

    server: str
    trust: Trust = Trust()
    token: str = dataclasses.field(default="", repr=False)
    files: tuple[pathlib.Path, ...] = ()  # what it was read from
    expires_at: float | None = None  # seconds since the epoch; None: when the files change


class Source(Protocol):
    """A place that credentials are read from."""

    def __call__(self, *, anew: bool) -> Access:
        """Read it. `anew`: the server refused what was given last. Raises NoConnectionError."""


class Connection:
    """An API server and how to speak to it. May be used by several threads."""

    def __init__(self, source: Source, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._access = source(anew=False)
        self._stamps = _stamps(self._access.files)
        self._looked_at = clock()
        self._refused = False

    @property
    def server(self) -> str:
        return self._access.server

    @property
    def server_name(self) -> str | None:
        """The name that the server's certificate must carry, where it is not that of the address."""
        return self._access.trust.server_name

    @property
    def trust(self) -> Trust:
        """What TLS needs now; equal to what it was before as long as nothing changed."""
        return self._current().trust

    def headers(self) -> dict[str, str]:
        """The authorization header with the token of now; empty where a client certificate speaks for us."""
        token = self._current().token
        return {"authorization": f"Bearer {token}"} if token else {}

    def refused(self) -> None:
        """The server did not accept who we are: read the credentials again before the next request."""
        with self._lock:
            self._refused = True

    def tls(self) -> ssl.SSLContext | None:
        """The TLS settings of now; None for plain HTTP. Raises NoConnectionError for what is no certificate."""
        if not self.server.startswith("https:"):
            return None
        trust = self.trust
        try:
            context = ssl.create_default_context(cadata=trust.ca or None)
            if not trust.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if trust.certificate:
                _present(context, trust)
        except (ssl.SSLError, ValueError) as error:
            raise NoConnectionError(f"the certificates for {self.server} cannot be used: {error}") from error
        return context

    def _current(self) -> Access:
        with self._lock:
            now = self._clock()
            over = self._access.expires_at is not None and now >= self._access.expires_at
            due = not 0.0 <= now - self._looked_at < LOOK_SECONDS
            if not (over or due or self._refused):
                return self._access
            self._looked_at = now
            stamps = _stamps(self._access.files)
            if over or self._refused or stamps != self._stamps:
                try:
                    self._access = self._source(anew=self._refused or over)
                except NoConnectionError:
                    return self._access  # half written, most likely; looked at again soon
                self._stamps, self._refused = stamps, False
            return self._access


def load(kubeconfig: pathlib.Path | None) -> Connection:
    """The connection of a kubeconfig file; without one that of the pod we are in, then that of KUBECONFIG."""
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return Connection(_account)
    from bandwidth_kube import kubeconfig as files  # and with it YAML, which no pod needs

    named = [pathlib.Path(path) for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    if kubeconfig is None and not named:
        raise NoConnectionError("not in a cluster and no kubeconfig; name one with --kubeconfig or in KUBECONFIG")
    return Connection(files.Kubeconfig(named if kubeconfig is None else [kubeconfig]))


def _account(*, anew: bool) -> Access:
    """The service account of the pod that we are in."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token, ca = ACCOUNT / "token", ACCOUNT / "ca.crt"
    try:
        return Access(
            server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
            trust=Trust(ca=ca.read_text()),
            token=token.read_text().strip(),
            files=(token, ca),
        )
    except (OSError, ValueError) as error:
        raise NoConnectionError(
            f"the service account of this pod cannot be used: {error}; is automountServiceAccountToken off?"
        ) from error


def _present(context: ssl.SSLContext, trust: Trust) -> None:
    """Load our certificate. ssl takes only files; this one is in memory and gone at once."""
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, f"{trust.certificate}\n{trust.key}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _stamps(files: tuple[pathlib.Path, ...]) -> tuple[object, ...]:
    """What tells whether files are others than before."""
    found: list[object] = []
    for path in files:
        try:
            known = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((known.st_mtime_ns, known.st_ino, known.st_size))
    return tuple(found)
