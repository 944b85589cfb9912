"""kubectl's flags among the words of a call."""

from __future__ import annotations

import pytest

from bandwidth_cli.kubectl import global_flags


@pytest.mark.parametrize(
    ("words", "flags", "rest"),
    [
        (["top"], [], ["top"]),
        (["--context", "prod", "top"], ["--context=prod"], ["top"]),
        (["top", "--context=prod"], ["--context=prod"], ["top"]),
        (["who", "--as", "bob", "203.0.113.7", "--as-group=dev", "--as-group", "ops"],
         ["--as=bob", "--as-group=dev", "--as-group=ops"], ["who", "203.0.113.7"]),
        (["list", "-s", "https://h:1", "-v6"], ["--server=https://h:1", "--v=6"], ["list"]),
        (["list", "-v=6"], ["--v=6"], ["list"]),
        (["list", "--insecure-skip-tls-verify"], ["--insecure-skip-tls-verify"], ["list"]),
        (["list", "--insecure-skip-tls-verify=false"], ["--insecure-skip-tls-verify=false"], ["list"]),
        (["list", "-n", "mail"], [], ["list"]),
        (["list", "-nmail"], [], ["list"]),
        (["-n=mail", "list"], [], ["list"]),
        (["list", "--namespace", "mail", "-A"], [], ["list"]),
        (["list", "--namespace=mail", "--all-namespaces"], [], ["list"]),
        (["slow", "--name", "x", "--no", "-o", "json", "-y"], [], ["slow", "--name", "x", "--no", "-o", "json", "-y"]),
        (["list", "--", "--context", "x"], [], ["list", "--", "--context", "x"]),
        (["list", "--token", "--odd"], ["--token=--odd"], ["list"]),
    ],
)  # fmt: skip
def test_flags_are_found_wherever_they_stand(words: list[str], flags: list[str], rest: list[str]) -> None:
    """They keep their order and value, a namespace is passed over, and all other words are ours."""
    split = global_flags.split(words)
    assert list(split.flags) == flags
    assert list(split.rest) == rest


@pytest.mark.parametrize("words", [["list", "--context"], ["list", "-n"], ["list", "-s"], ["--namespace"]])
def test_a_flag_without_its_value_is_an_error(words: list[str]) -> None:
    """The message names the flag."""
    with pytest.raises(global_flags.FlagError, match=words[-1]):
        global_flags.split(words)


def test_verbosity_and_presence_are_seen() -> None:
    """A flag counts in both of its forms."""
    assert global_flags.split(["-v", "8"]).verbose
    assert not global_flags.split(["--vmodule=x=1"]).verbose
    assert global_flags.split(["--request-timeout", "1s"]).has("--request-timeout")
    assert not global_flags.split(["--request-timeout-not"]).has("--request-timeout")
