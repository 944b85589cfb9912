"""Addresses to listen on: how they are written."""

from __future__ import annotations

import argparse

import pytest

from bandwidth_runtime import arguments
from bandwidth_runtime.web.address import Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9732", Address("127.0.0.1", 9732)),
        (":8080", Address("", 8080)),
        ("[::]:8080", Address("::", 8080)),
        ("[::1]:0", Address("::1", 0)),
        ("[fe80::1%eth0]:1", Address("fe80::1%eth0", 1)),
        ("localhost:65535", Address("localhost", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: Address) -> None:
    """IPv6 in brackets, nothing for every address."""
    assert arguments.address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "9100",
            "::1:9100",
            "h:99999",
            "h:",
            "h:-1",
            "[::1]",
            "[::1:9100",
            "::1]:9100",
            "[[::1]]:1",
            "[h]:1",
            "[]:1",
        ),
        *("h:٣", "h:1 ", "a b:1", "http://h:1", "h\n:1", "[1.2.3.4]:80"),
    ],
)
def test_what_is_no_address_is_refused_with_the_forms_that_are(text: str) -> None:
    """A mistyped option is an error of the command line, not of a socket."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"HOST:PORT|no IPv6 address|name of a host"):
        arguments.address(text)
