"""The one description of how to reach the API server, for every kind of request: address, TLS, proxy, credentials.

    sources   ──▶ Connection.current() ──▶ Current: server, headers, tls, server_name, proxy
    service account, kubeconfig                │
                                               ├── bandwidth_kube.client   lists, writes, the agent's watches (urllib3)
                                               └── kopf's session          the operator's watches (aiohttp)

Owns when credentials are read again: when a file that they come from has changed, shortly before they expire, and
after the server refused them. Credentials that cannot be read or used change nothing; they are read again soon. A
program that issues credentials runs in a thread of its own, and no request waits long for it.
Opens no connection; never prints a credential. Every request calls `current()` again.
"""

from __future__ import annotations

import os
import pathlib
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bandwidth_kube import proxies
from bandwidth_kube.credentials import certificates
from bandwidth_kube.credentials.access import Access, NoConnectionError, Source, Trust

__all__ = ["Access", "Connection", "Current", "NoConnectionError", "Source", "Trust", "load"]

ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOOK_SECONDS = 1.0  # files are looked at no more often than this
EARLY_SECONDS = 60.0  # before its end a credential is renewed, or …
EARLY_PART = 0.05  # … this part of its life before, if that is less
WAIT_SECONDS = 3.0  # for a program that renews a credential which cannot be used any more; after a failure of it
# no request waits for the next attempt, since a server may take an old credential for longer than it was given for
AGAIN_SECONDS = 10.0  # a program that gave nothing, or was just run, is not run again before this


class Current(NamedTuple):
    """What one request needs. `tls` is the same object as before while nothing about TLS has changed."""

    server: str  # URL without a slash at its end; it may have a path, which stands before that of every request
    headers: Mapping[str, str]  # authorization; empty where a client certificate speaks for us
    tls: ssl.SSLContext | None  # None for plain HTTP
    server_name: str | None  # for TLS, where the server's certificate has another name than the address
    proxy: proxies.Proxy | None
    proxy_tls: ssl.SSLContext | None  # for a proxy that is spoken to with TLS; None for another, and without one


class Connection:
    """An API server, and the current credentials for it. May be used by several threads."""

    def __init__(
        self,
        source: Source,
        clock: Callable[[], float] = time.time,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Read the credentials; `environment` (os.environ) may name proxies. Raises NoConnectionError."""
        self._source = source
        self._turn = 0  # which of the authorities of one name is tried
        self._clock = clock
        self._environment = dict(os.environ) if environment is None else environment
        self._condition = threading.Condition()
        self._access = source(renew=False)
        self._current = self._made(self._access, None)
        self._read_at = self._looked_at = clock()
        self._stamps = _stamps(self._access.files)
        self._refused = False
        self._renewing = False
        self._failed = False  # the last attempt of a program
        self._wait_until = 0.0  # monotonic
        self._tried: tuple[object, ...] = ()  # the files as they were when a program was last run …
        self._again_at = 0.0  # … which is not done again before this while they stay so

    # ── for whoever makes a request ────────────────────────────────────────────────────────────────────────────

    def current(self) -> Current:
        """Return what a request needs now. Waits at most WAIT_SECONDS, once, while no credential is valid."""
        with self._condition:
            now = self._clock()
            if not 0.0 <= now - self._looked_at < LOOK_SECONDS or self._refused or self._is_over(now):
                self._look(now)
            if self._renewing and (self._refused or self._is_over(now)):
                self._condition.wait_for(lambda: not self._renewing, max(0.0, self._wait_until - time.monotonic()))
            return self._current

    def refused(self) -> None:
        """Report that the server refused our credentials: they are read again before the next request."""
        with self._condition:
            self._refused = True

    def disbelieved(self, used: Current, error: BaseException) -> bool:
        """After a failed handshake, return whether to try at once with another authority of the same name."""
        if not certificates.is_of_another_authority(error):
            return False
        with self._condition:
            if self._turn + 1 < certificates.turns(self._access.trust) and self._current.tls is used.tls:
                self._turn += 1
                self._current = self._made(self._access, None)
                return True
            again = self._current.tls is not used.tls  # another thread has seen to it
            self._turn = self._turn if again else -1  # all were tried; the next handshake begins with the first
            return again

    @property
    def server(self) -> str:
        return self._current.server

    @property
    def server_name(self) -> str | None:
        """The name that the server's certificate must have, if it is not that of the address."""
        return self._current.server_name

    @property
    def trust(self) -> Trust:
        """What TLS needs now; equal to the value before while nothing has changed."""
        self.current()
        return self._access.trust

    def headers(self) -> dict[str, str]:
        """Return the authorization header with the current token; empty where we use a client certificate."""
        return dict(self.current().headers)

    def tls(self) -> ssl.SSLContext | None:
        """Return the current TLS settings; None for plain HTTP."""
        return self.current().tls

    # ── reading again ──────────────────────────────────────────────────────────────────────────────────────────

    def _look(self, now: float) -> None:
        """Read the credentials again if there is a reason to; called with the lock held."""
        self._looked_at = now
        stamps = _stamps(self._access.files)
        if stamps != self._stamps or self._refused or self._is_ending(now):
            if not self._access.slow:
                self._read(stamps, renew=self._refused or self._is_ending(now))
            elif not self._renewing and (stamps != self._tried or not 0.0 <= self._again_at - now <= AGAIN_SECONDS):
                self._tried, self._again_at, self._renewing = stamps, now + AGAIN_SECONDS, True
                self._wait_until = 0.0 if self._failed else time.monotonic() + WAIT_SECONDS
                self._failed = True  # until it has not
                threading.Thread(target=self._renew, args=(stamps,), name="credentials", daemon=True).start()

    def _renew(self, stamps: tuple[object, ...]) -> None:
        """Run the program that issues credentials, in a thread of its own because it may take long."""
        try:
            self._read(stamps, renew=True)
        finally:
            with self._condition:
                self._renewing = False
                self._condition.notify_all()

    def _read(self, stamps: tuple[object, ...], *, renew: bool) -> None:
        try:
            access = self._source(renew=renew)
            current = self._made(access, self._current)
        except NoConnectionError:
            return  # half written, most likely; looked at again soon
        with self._condition:  # which may be held already
            self._take(access, current, stamps)

    def _take(self, access: Access, current: Current, stamps: tuple[object, ...]) -> None:
        self._access, self._current = access, current
        self._read_at, self._refused, self._failed = self._clock(), False, False
        # Files that are named now and were not before have not been looked at yet.
        self._stamps = stamps if len(stamps) == len(access.files) else _stamps(access.files)

    def _is_over(self, now: float) -> bool:
        return self._access.expires_at is not None and now >= self._access.expires_at

    def _is_ending(self, now: float) -> bool:
        end = self._access.expires_at
        return end is not None and now >= end - min(EARLY_SECONDS, EARLY_PART * max(0.0, end - self._read_at))

    def _made(self, access: Access, before: Current | None) -> Current:
        """Return what requests need, from an Access; raises NoConnectionError for unusable certificates."""
        proxy = proxies.choose(access, self._environment)
        tls, proxy_tls = access.server.startswith("https:"), proxy is not None and proxy.url.startswith("https:")
        context: ssl.SSLContext | None = None
        if tls or proxy_tls:
            if before is not None and access.trust == self._access.trust:
                context = before.tls or before.proxy_tls
            context = context or certificates.context(access.trust, access.server, max(0, self._turn))
        return Current(
            server=access.server.rstrip("/"),
            headers={"authorization": f"Bearer {access.token}"} if access.token else {},
            tls=context if tls else None,
            server_name=access.trust.server_name,
            proxy=proxy,
            proxy_tls=context if proxy_tls else None,
        )


def load(kubeconfig: pathlib.Path | None) -> Connection:
    """Return the connection of a kubeconfig file; without one that of our pod, else that of KUBECONFIG."""
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return Connection(_account)
    from bandwidth_kube.credentials.kubeconfig import Kubeconfig  # no pod needs it

    named = [pathlib.Path(path) for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    if kubeconfig is None and not named:
        raise NoConnectionError("not in a cluster and no kubeconfig; name one with --kubeconfig or in KUBECONFIG")
    return Connection(Kubeconfig(named if kubeconfig is None else [kubeconfig]))


def _account(*, renew: bool) -> Access:
    """Return the access of our pod's service account. Raises NoConnectionError."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token, ca = ACCOUNT / "token", ACCOUNT / "ca.crt"
    try:
        believed = ca.read_bytes().decode(errors="replace")
        if not believed.strip():
            raise ValueError(f"{ca} is empty")
        return Access(
            server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
            trust=Trust(ca=believed),
            token=token.read_text().strip(),
            files=(token, ca),
            in_cluster=True,
        )
    except (OSError, ValueError) as error:
        raise NoConnectionError(
            f"the service account of this pod cannot be used: {error}; is automountServiceAccountToken off?"
        ) from error


def _stamps(files: tuple[pathlib.Path, ...]) -> tuple[object, ...]:
    """Return for each file its time, inode and size, so that a change of any is noticed; None for a missing file."""
    found: list[object] = []
    for path in files:
        try:
            known = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((known.st_mtime_ns, known.st_ino, known.st_size))
    return tuple(found)
