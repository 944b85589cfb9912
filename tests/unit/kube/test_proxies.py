"""Which proxy leads to a server: the words of NO_PROXY and the rest as Go reads them."""

from __future__ import annotations

import pytest

from bandwidth_kube import proxies
from bandwidth_kube.credentials.access import Access, NoConnectionError

P = "http://proxy.example.com:3128"


@pytest.mark.parametrize(
    ("server", "excepted", "direct"),
    [
        ("https://api.example.com:6443", "", False),
        ("https://api.example.com:6443", "*", True),
        ("https://api.example.com:6443", "api.example.com", True),
        ("https://api.example.com:6443", "API.Example.COM", True),
        ("https://api.example.com:6443", "example.com", True),
        ("https://api.example.com:6443", ".example.com", True),
        ("https://api.example.com:6443", "*.example.com", True),
        ("https://example.com:6443", ".example.com", False),
        ("https://notexample.com:6443", "example.com", False),
        ("https://api.example.com:6443", "api.example.com:443", False),
        ("https://api.example.com:6443", "api.example.com:6443", True),
        ("https://api.example.com", "api.example.com:443", True),
        ("https://api.example.com:6443", " other.org , api.example.com", True),
        ("https://192.0.2.7:6443", "192.0.2.7", True),
        ("https://192.0.2.7:6443", "192.0.2.0/24", True),
        ("https://192.0.2.7:6443", "192.0.3.0/24", False),
        ("https://192.0.2.7:6443", "192.0.2.7:6443", True),
        ("https://192.0.2.7:6443", "2.7", False),
        ("https://192.0.2.7:6443", "nonsense/99", False),
        ("https://[2001:db8::1]:6443", "2001:db8::1", True),
        ("https://[2001:db8::1]:6443", "2001:db8:0::1", True),
        ("https://[2001:db8::1]:6443", "[2001:db8::1]:6443", True),
        ("https://[2001:db8::1]:6443", "[2001:db8::1]:443", False),
        ("https://[2001:db8::1]:6443", "2001:db8::/32", True),
        ("https://127.0.0.1:6443", "", True),
        ("https://127.3.2.1:6443", "", True),
        ("https://[::1]:6443", "", True),
        ("https://localhost:6443", "", True),
    ],
)
def test_servers_that_are_reached_directly(server: str, excepted: str, direct: bool) -> None:
    """Those that NO_PROXY covers, and those on this machine; by whichever of its names it is set."""
    for name in ("NO_PROXY", "no_proxy"):
        found = proxies.choose(Access(server), {"HTTPS_PROXY": P, name: excepted})
        assert (found is None) is direct
        named = proxies.choose(Access(server, proxy_url=P), {name: excepted})
        assert named is not None


def test_the_variable_of_the_scheme() -> None:
    """http and https each have their own; ALL_PROXY is none that kubectl heeds; capitals come first."""
    choose = proxies.choose
    assert choose(Access("http://a.b"), {"HTTPS_PROXY": P, "ALL_PROXY": P}) is None
    assert choose(Access("https://a.b"), {"HTTP_PROXY": P, "all_proxy": P}) is None
    for name in ("http_proxy", "HTTP_PROXY"):
        assert choose(Access("http://a.b"), {name: P}) == proxies.Proxy(P)
    assert choose(Access("https://a.b"), {"https_proxy": "http://other", "HTTPS_PROXY": P}) == proxies.Proxy(P)
    assert choose(Access("https://a.b"), {"https_proxy": P, "HTTPS_PROXY": ""}) == proxies.Proxy(P)


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ("proxy.example.com", "http://proxy.example.com:80"),
        ("proxy.example.com:8080/", "http://proxy.example.com:8080"),
        ("HTTP://proxy", "http://proxy:80"),
        ("https://proxy", "https://proxy:443"),
        ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
    ],
)
def test_a_proxy_as_people_write_it(said: str, url: str) -> None:
    """Without a scheme it is http; without a port it is that of the scheme."""
    assert proxies.choose(Access("https://a.b", proxy_url=said), {}) == proxies.Proxy(url)


def test_who_we_are_at_a_proxy() -> None:
    """A user and a password are taken out of the URL, and stand in nothing that is printed."""
    found = proxies.choose(Access("https://a.b", proxy_url="http://user:p%40ss@proxy:1"), {})
    assert found == proxies.Proxy("http://proxy:1", {"proxy-authorization": "Basic dXNlcjpwQHNz"})
    assert "dXNl" not in repr(found)
    assert "p%40ss" not in repr(Access("https://a.b", proxy_url="http://user:p%40ss@proxy:1"))


@pytest.mark.parametrize(
    "url", ["socks5://u:hidden@proxy:1080", "ftp://hidden", "http://", "http://[::1", "http://a:b:c"]
)
def test_what_is_no_proxy(url: str) -> None:
    """It is an error that says where it stands, and not what a password is."""
    with pytest.raises(NoConnectionError, match="HTTPS_PROXY") as caught:
        proxies.choose(Access("https://a.b"), {"HTTPS_PROXY": url})
    assert "hidden" not in str(caught.value)


def test_the_service_of_a_cluster_is_reached_directly() -> None:
    """No proxy leads to its address; to a name that was given to a pod instead, one may."""
    environment = {"HTTPS_PROXY": P}
    for server in ("https://10.96.0.1:443", "https://[fd00::1]:443"):
        assert proxies.choose(Access(server, in_cluster=True), environment) is None
        assert proxies.choose(Access(server), environment) is not None
    assert proxies.choose(Access("https://api.example.com", in_cluster=True), environment) is not None
