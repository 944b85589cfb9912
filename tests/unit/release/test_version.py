"""What may be given as VERSION and REGISTRY, and what is made of it."""

from __future__ import annotations

import pytest

from bandwidth_release import version


@pytest.mark.parametrize(
    ("text", "python", "candidate"), [("1.2.3", "1.2.3", False), ("0.10.0-rc.2", "0.10.0rc2", True)]
)
def test_a_version(text: str, python: str, candidate: bool) -> None:
    """It is written as it is given, but in the names of Python's packages."""
    parsed = version.parsed(text)
    assert (parsed.text, parsed.python, parsed.is_candidate) == (text, python, candidate)


@pytest.mark.parametrize(
    "text", ["", "1.2", "v1.2.3", "01.2.3", "1.2.3-beta", "1.2.3-rc1", "1.2.3+build", "dev", "1.2.3\n"]
)
def test_what_is_no_version(text: str) -> None:
    """Such a one is refused with what one looks like."""
    with pytest.raises(version.InvalidError, match=r"1\.2\.3"):
        version.parsed(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("localhost:5000", True),
        ("127.0.0.1:5000/team", True),
        ("[::1]:5000", True),
        ("ghcr.io/example", False),
        ("registry.example.com:443/a/b-c", False),
        ("localhost.example.com/team", False),
        ("10.0.0.1:5000", False),
    ],
)
def test_a_registry_without_tls_is_on_this_machine(text: str, loopback: bool) -> None:
    """No other one is spoken to without TLS."""
    assert version.registry(text).is_loopback is loopback


def test_where_things_are() -> None:
    """Images and chart lie below the registry's path, however it ends."""
    found = version.registry("ghcr.io/example/")
    assert found.image("agent") == "ghcr.io/example/client-bandwidth-agent"
    assert found.charts == "ghcr.io/example/charts"


@pytest.mark.parametrize(
    "text", ["", "example", "https://ghcr.io/example", "ghcr.io/Example", "ghcr.io/a b", "ghcr.io/a//b"]
)
def test_what_is_no_registry(text: str) -> None:
    """A name without a host, a scheme, capitals in the path are refused."""
    with pytest.raises(version.InvalidError, match="localhost:5000"):
        version.registry(text)
