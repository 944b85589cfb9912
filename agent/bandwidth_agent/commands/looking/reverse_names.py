"""The name of an address, asked for once and for a bounded time."""

from __future__ import annotations

import socket
import threading

from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from bandwidth_sight.source import SourceError

PATIENCE_SECONDS = 2.0
NAME_MAX = 253
_WAITING_MAX = 4  # questions that a resolver may still be busy with


class Resolver:
    """Asks in threads of its own: nobody waits for a resolver longer than `PATIENCE_SECONDS`."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._waiting = threading.Semaphore(_WAITING_MAX)

    def name_of(self, client: Prefix) -> str:
        """Return the name of an address. Raises SourceError when there is none, or no answer in time."""
        text = addresses.write(client)
        if not self._waiting.acquire(blocking=False):
            raise SourceError("the resolver still has not answered earlier questions; try again later")
        answers: list[str] = []
        failures: list[int] = []
        asking = threading.Thread(target=self._ask, args=(text, answers, failures), name="name", daemon=True)
        try:
            asking.start()
        except RuntimeError as error:
            self._waiting.release()
            raise SourceError(f"the name of {text} cannot be asked for: {error}") from None
        asking.join(self._patience_seconds)
        if asking.is_alive():
            raise SourceError(f"no answer about {text} within {self._patience_seconds:g} s")
        if failures and failures[0] != socket.EAI_NONAME:
            raise SourceError(f"the resolver of this host does not say whether {text} has a name")
        if not answers:
            raise SourceError(f"{text} has no name")
        return answers[0]

    def _ask(self, text: str, answers: list[str], failures: list[int]) -> None:
        try:
            answers.append(socket.getnameinfo((text, 0), socket.NI_NAMEREQD)[0][:NAME_MAX])
        except UnicodeError:
            pass  # no name that one could show
        except OSError as error:
            failures.append(error.errno or 0)
        finally:
            self._waiting.release()
