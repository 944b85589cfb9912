"""A collection of the API server: how it is read, what was read of it, and who receives the progress of reading."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from bandwidth_kube import client

T = TypeVar("T")
Object = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Collection(Generic[T]):
    """What is read. `decode` takes an object and the value that it had before, None if there is none.

    It should return the same value for an unchanged object, and may raise ValueError only if nothing may be concluded
    from the object."""

    name: str  # for logs and metrics
    path: str
    decode: Callable[[Object, T | None], T]
    query: Mapping[str, str] = dataclasses.field(default_factory=dict)
    accept: str = client.JSON
    accept_watch: str = client.JSON
    # The server ends a watch after about so long. It brings a bookmark 2 s before that, and once a minute.
    watch_seconds: int = 50
    silence_seconds: float = 57.0  # a watch that brings nothing for so long is frozen
    forbidden_seconds: float = 0.0  # where reading it is not allowed, it is tried again after so long at most
    absent_seconds: float = 0.0  # likewise where the server does not know the kind
    most: int = 0  # objects that are kept; more are left out, and listed again when a watch ends. 0: any number


@dataclasses.dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """A whole collection at one resource version."""

    items: Mapping[str, T]  # by name
    resource_version: str


class Listener(Protocol):
    """Receives the events of the reader's thread, in that thread."""

    def alive(self, name: str) -> None:
        """The thread is alive; called regularly."""

    def heard(self, name: str) -> None:
        """The API server sent something of this collection, if only a bookmark."""

    def listed(self, name: str) -> None:
        """A list was read completely."""

    def trouble(self, name: str, error: client.ApiError) -> None:
        """A list or a watch failed."""

    def crashed(self, name: str, error: BaseException) -> None:
        """The thread ended by an error of this program."""
