"""What was read of the nodes' reports, with the time of each, and what goes wrong with reading.

Owns no request: `answering` starts the readers. May be used by several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_kube import client
from bandwidth_kube.collection import Reading
from bandwidth_operator.traffic.answers import Heard

log = structlog.get_logger(__name__)


class Reports:
    """The last report of each node. `woken` is called for each new one."""

    def __init__(self, woken: Callable[[], object], monotonic: Callable[[], float]) -> None:
        self._woken = woken
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._heard: dict[str, Heard] = {}

    def take(self, reading: Reading[Traffic | None]) -> None:
        """Take all reports; one that is the same object as before is not new.

        What the first reading brings may be old: its node writes a new one soon or never.
        """
        now = self._monotonic()
        with self._lock:
            before = self._heard
            self._heard = {
                name: before[name] if name in before and before[name].traffic is traffic else Heard(traffic, now)
                for name, traffic in reading.items.items()
                if traffic is not None
            }
        self._woken()

    def heard(self) -> list[Heard]:
        with self._lock:
            return list(self._heard.values())


class Listener:
    """Logs the first of a row of failures, and nothing of what goes well."""

    def __init__(self, consequence: str) -> None:
        self._consequence = consequence
        self._logged = ""

    def alive(self, name: str) -> None:
        """A sign of life; a thread that reads questions may sleep as long as it likes."""

    def heard(self, name: str) -> None:
        self._logged = ""

    def listed(self, name: str) -> None:
        """Nothing is counted."""

    def trouble(self, name: str, error: client.ApiError) -> None:
        word = str(error.status) if isinstance(error, client.RefusedError) else "unreachable"
        if word == self._logged:
            return
        self._logged = word
        if word == "404":
            log.info(f"{self._consequence}: this cluster does not have their kind; apply deploy/crds")
        elif word == "403":
            log.info(f"{self._consequence}: the operator may not read them; apply the roles of this version")
        else:
            log.warning("reading broke off and is begun again", collection=name, error=str(error))

    def crashed(self, name: str, error: BaseException) -> None:
        log.error(self._consequence, thread=name, error=repr(error))
