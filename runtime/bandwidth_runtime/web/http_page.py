"""Makes a page that takes time: in a thread of its own, once for all requests that wait for it.

Owns that thread. It uses at most about a fifth of a core, however many requests there are, because a page answers all
requests until REST times the time that it took have passed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from bandwidth_runtime.web.http_message import Answer, refusal

REST = 4.0
FAILED_REST_SECONDS = 1.0  # after a page that could not be made

log = structlog.get_logger("http")


class Page:
    """One page; `make` makes it and `made` is called after each time, both in the page's own thread."""

    def __init__(
        self,
        content_type: str,
        make: Callable[[], bytes],
        made: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._content_type = content_type
        self._make = make
        self._made = made
        self._monotonic = monotonic
        self._condition = threading.Condition()
        self._answer: Answer | None = None
        self._good_until = 0.0
        self._wanted = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="http-page", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Make no further page; does not wait for one that is being made."""
        with self._condition:
            self._closing = True
            self._answer = None
            self._condition.notify()

    def ask(self) -> Answer | None:
        """Return the page if it is recent enough; else None: it is being made, and `made` will be called."""
        with self._condition:
            if self._answer is not None and self._monotonic() < self._good_until:
                return self._answer
            self._answer = None
            if not self._wanted:
                self._wanted = True
                self._condition.notify()
            return None

    def take(self) -> Answer | None:
        """Return the last page that was made, for the requests that waited for it."""
        with self._condition:
            return self._answer

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._wanted and not self._closing:
                    self._condition.wait()
                if self._closing:
                    return
            began = self._monotonic()
            try:
                answer, rest = Answer(200, self._content_type, self._make()), 0.0
            except Exception:
                # The client gets the error; the process is not concerned.
                log.error("the page could not be made", exc_info=True)
                answer, rest = refusal(500, "the page could not be made; the log says why"), FAILED_REST_SECONDS
            ended = self._monotonic()
            with self._condition:
                self._answer, self._wanted = answer, False
                self._good_until = ended + max(rest, REST * (ended - began))
            self._made()
