"""The version of a release and the registry that it goes to, as they are given. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-rc\.(0|[1-9]\d*))?")
_REGISTRY = re.compile(
    r"(?P<host>\[[0-9a-f:]+\]|[a-zA-Z0-9][a-zA-Z0-9.-]*)(:(?P<port>\d{1,5}))?(?P<path>(/[a-z0-9]+([._-]+[a-z0-9]+)*)*)"
)


class InvalidError(ValueError):
    """What was given cannot be used; the message says what can."""


class Version(NamedTuple):
    """A version as Semantic Versioning has it: what images, chart and plugin bear."""

    text: str

    @property
    def is_candidate(self) -> bool:
        """Whether it is one to try, which has no section in the changelog yet."""
        return "-" in self.text

    @property
    def python(self) -> str:
        """The same, as the names of Python's packages have it."""
        return self.text.replace("-rc.", "rc")


class Registry(NamedTuple):
    """A registry and the path below it, such as `ghcr.io/example`."""

    host: str
    text: str

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine: then, and only then, it is spoken to without TLS."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"

    def image(self, program: str) -> str:
        """Where the image of `operator` or `agent` is."""
        return f"{self.text}/client-bandwidth-{program}"

    @property
    def charts(self) -> str:
        """Below what the chart is, which brings its own name along."""
        return f"{self.text}/charts"


def parsed(text: str) -> Version:
    """A version such as 1.2.3 or 1.2.3-rc.1."""
    if not _VERSION.fullmatch(text):
        raise InvalidError(f"VERSION={text!r} is none; it is as 1.2.3, or 1.2.3-rc.1 for one to try")
    return Version(text)


def registry(text: str) -> Registry:
    """A registry such as localhost:5000 or ghcr.io/example, without a scheme."""
    found = _REGISTRY.fullmatch(text.rstrip("/"))
    if not found or not ("." in found["host"] or ":" in text or found["host"] == "localhost"):
        raise InvalidError(f"REGISTRY={text!r} is none; it is as localhost:5000 or registry.example.com/team")
    return Registry(found["host"], found[0])
