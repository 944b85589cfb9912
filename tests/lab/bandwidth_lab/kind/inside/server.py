"""Sends to every client that connects, at the rate that it asks for. Usage: server.py PORT

The client's first line is a rate in bits per second of payload; zeros follow at that rate until it hangs up. What could
not be sent, because the client or the machine was slow, is sent later, but for no more than two seconds of it.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import time

TICK_SECONDS = 0.01
OVERDUE_SECONDS = 2.0
CHUNK = bytes(64 * 1024)


class Upload(socketserver.StreamRequestHandler):
    """One client."""

    def handle(self) -> None:
        bytes_per_second = float(self.rfile.readline() or 0) / 8
        if bytes_per_second <= 0:
            return
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due, before = 0.0, time.monotonic()
        try:
            while True:
                time.sleep(TICK_SECONDS)
                now = time.monotonic()
                due = min(due + (now - before) * bytes_per_second, OVERDUE_SECONDS * bytes_per_second)
                before = now
                while due >= 1:
                    due -= self.connection.send(CHUNK[: int(due)])
        except OSError:
            return


class Server(socketserver.ThreadingTCPServer):
    """Both families on one socket."""

    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


if __name__ == "__main__":
    with Server(("::", int(sys.argv[1])), Upload) as server:
        server.serve_forever()
