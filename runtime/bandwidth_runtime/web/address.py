"""An address to listen at, as a value: for command lines, which need not load sockets."""

from __future__ import annotations

from typing import NamedTuple


class Address(NamedTuple):
    host: str  # "" for every address
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
