"""The pages of the operator over a real socket."""

from __future__ import annotations

import dataclasses
import threading

from bandwidth_lab import pages
from bandwidth_operator.commands import options, run
from bandwidth_operator.reporting import health
from bandwidth_operator.reporting.metrics import Metrics
from bandwidth_runtime.web.address import Address


def test_the_web_server_serves_three_paths() -> None:
    """And says so where there is nothing; no thread of it is left."""
    signs = health.Health()
    threads = set(threading.enumerate())
    chosen = dataclasses.replace(options.DEFAULTS, metrics_address=Address("127.0.0.1", 0))
    server = run.served(chosen, signs, Metrics())
    assert server is not None
    try:
        answers = {p: pages.get(f"127.0.0.1:{server.port}", p) for p in ("/healthz", "/readyz", "/metrics", "/")}
    finally:
        server.close()
    assert answers["/healthz"] == (200, "ok\n")
    assert answers["/readyz"] == (503, "the API server does not answer\n")
    assert "bandwidth_operator_leading 0.0" in answers["/metrics"][1]
    assert answers["/"][0] == 404
    for thread in set(threading.enumerate()) - threads:
        thread.join(30)  # the thread of the page ends by itself
    assert set(threading.enumerate()) <= threads
