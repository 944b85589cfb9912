"""The pool of connections to an API server, always made with its current certificates and proxy.

Owns which connections are used after these have changed; `client` owns what is sent over them, and what an answer
means. May be used by several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import urllib3

from bandwidth_kube.connection import Connection, Current
from bandwidth_kube.transport import deadline

ATTEMPTS = 4  # of sending one request, while nothing of it was sent: other certificates were found meanwhile


class Pool:
    def __init__(self, connection: Connection, connections: int, manager: Callable[..., urllib3.PoolManager]) -> None:
        self._connection = connection
        self._connections = connections
        self._manager = manager
        self._lock = threading.Lock()
        self._made_for: tuple[object, ...] = ()
        self._pool = self._pool_for(connection.current())

    def close(self) -> None:
        """Close all connections; a request under way fails."""
        self._pool.clear()

    def send(
        self, method: str, path: str, payload: bytes | None, headers: Mapping[str, str], timeout: urllib3.Timeout
    ) -> urllib3.BaseHTTPResponse:
        """Send a request with the current credentials; return the answer with its body unread.

        Raises urllib3's errors, OSError, NoConnectionError.
        """
        for left in reversed(range(ATTEMPTS)):
            now = self._connection.current()
            try:
                return self._pool_for(now).request(
                    method,
                    now.server + path,
                    body=payload,
                    headers={**headers, **now.headers},
                    timeout=timeout,
                    preload_content=False,
                )
            except urllib3.exceptions.ClosedPoolError:
                if not left:
                    raise
            except (urllib3.exceptions.SSLError, urllib3.exceptions.ProxyError) as error:
                if not self._connection.disbelieved(now, error) or not left:
                    raise
        raise AssertionError("unreachable")

    def _pool_for(self, now: Current) -> urllib3.PoolManager:
        """Return the pool for the current certificates and proxy; requests over an older pool end normally."""
        made_for = (now.tls, now.server_name, now.proxy)
        with self._lock:
            if made_for != self._made_for:
                old = self._pool if self._made_for else None
                self._pool, self._made_for = self._new_pool(now), made_for
                if old is not None:
                    old.clear()  # those that wait for a request; one under way is not among them
            return self._pool

    def _new_pool(self, now: Current) -> urllib3.PoolManager:
        keywords: dict[str, Any] = {
            "num_pools": 1,
            "maxsize": self._connections,
            "retries": False,
            "socket_options": deadline.KEEPALIVE,
        }
        if now.tls is not None:
            keywords |= {"ssl_context": now.tls, "server_hostname": now.server_name}
        if now.proxy is None:
            return deadline.use(self._manager(**keywords))
        through = urllib3.ProxyManager(
            now.proxy.url, proxy_headers=now.proxy.headers, proxy_ssl_context=now.proxy_tls, **keywords
        )
        return deadline.use(through)
