"""Credentials: where they come from, and when they are read again."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import ssl
from typing import Any

import pytest

from bandwidth_kube import connection
from unit.clock import Clock

SERVER = "https://127.0.0.1:6443"

# Made once with openssl; valid for a century, for no server.
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUNDhgoEa44dKiRQRcoz7i/Ysb61YwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyMjIyNDYwNloYDzIxMjYxMDI5MjI0
NjA2WjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAQQ3G0upDLGoO2Yv1VeY8I0u7ehh4E78BSkVE96LOIHMA8J68LopRtTVybwImBj
/GRakMQE7llJahdVXao9wAR3o1MwUTAdBgNVHQ4EFgQUs0aYmodSIBwfJRLmfTpS
PXh9MAcwHwYDVR0jBBgwFoAUs0aYmodSIBwfJRLmfTpSPXh9MAcwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiAq0cHvN6WRJSNcpT8/kpGsxmcJS4SV
gPAJ8umFBRhUQAIhANL6NIv3Ba4779YMZ5abL+xtn2GSpNEVq86JsdHA3l7x
-----END CERTIFICATE-----
"""
_KIND = "PRIVATE KEY"
KEY = f"""-----BEGIN {_KIND}-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgEnOzFSpdqDLHAZNt
zQAK9iY6LHxkmK2ORYDQMLwLUYahRANCAAQQ3G0upDLGoO2Yv1VeY8I0u7ehh4E7
8BSkVE96LOIHMA8J68LopRtTVybwImBj/GRakMQE7llJahdVXao9wAR3
-----END {_KIND}-----
"""


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def written(path: pathlib.Path, user: dict[str, Any], **cluster: Any) -> pathlib.Path:
    """A kubeconfig with one user."""
    document = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": SERVER, **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(document))
    return path


def bearer(of: connection.Connection) -> str:
    return of.headers().get("authorization", "")


# ── kubeconfig files ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_and_an_authority_in_the_file(tmp_path: pathlib.Path) -> None:
    """The server, the authority and the token are those of the current context."""
    path = written(tmp_path / "k", {"token": "secret"}, **{"certificate-authority-data": encoded(CERTIFICATE)})
    found = connection.load(path)
    assert found.server == SERVER
    assert bearer(found) == "Bearer secret"
    assert found.trust.ca == CERTIFICATE
    context = found.tls()
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


def test_paths_begin_at_the_directory_of_the_file(tmp_path: pathlib.Path) -> None:
    """Files named in it need not be absolute."""
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    (tmp_path / "t").write_text("of-the-file\n")
    user = {"tokenFile": "t"}
    found = connection.load(written(tmp_path / "k", user, **{"certificate-authority": "ca.pem"}))
    assert bearer(found) == "Bearer of-the-file"
    assert found.trust.ca == CERTIFICATE


def test_a_client_certificate_speaks_for_us(tmp_path: pathlib.Path) -> None:
    """And no token is sent."""
    user = {"client-certificate-data": encoded(CERTIFICATE), "client-key-data": encoded(KEY)}
    found = connection.load(written(tmp_path / "k", user))
    assert found.headers() == {}
    assert found.tls() is not None


def test_the_words_of_a_cluster(tmp_path: pathlib.Path) -> None:
    """A server that is not to be verified, and one whose certificate has another name."""
    careless = connection.load(written(tmp_path / "k", {}, **{"insecure-skip-tls-verify": True})).tls()
    assert careless is not None
    assert careless.verify_mode is ssl.CERT_NONE
    assert connection.load(written(tmp_path / "k", {}, **{"tls-server-name": "kubernetes"})).server_name == "kubernetes"


def test_a_plain_server_needs_no_tls(tmp_path: pathlib.Path) -> None:
    """As behind `kubectl proxy`."""
    found = connection.load(written(tmp_path / "k", {}, server="http://127.0.0.1:8001/"))
    assert (found.server, found.tls()) == ("http://127.0.0.1:8001", None)


def test_several_files_are_merged_as_kubectl_does(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that names something decides; one that is not there is passed over."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    (tmp_path / "first").write_text(json.dumps({"users": [{"name": "u", "user": {"token": "first"}}]}))
    second = written(tmp_path / "second", {"token": "second"})
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'first'}:{tmp_path / 'nowhere'}:{second}")
    assert bearer(connection.load(None)) == "Bearer first"


@pytest.mark.parametrize(
    ("user", "cluster", "says"),
    [
        ({"auth-provider": {"name": "unheard-of"}}, {}, "gave no credential"),
        ({"username": "admin", "password": "hidden"}, {}, "a password is not supported"),
        ({"as": "somebody"}, {}, "as is not supported"),
        ({}, {"proxy-url": "socks5://user:hidden@proxy:1080"}, "proxy-url names a proxy of the kind socks5"),
        ({}, {"proxy-url": "http://:hidden@"}, "proxy-url is not the URL of a proxy"),
        ({}, {"server": "https://:hidden@:6443"}, "server is no URL"),
        ({}, {"server": 7}, "server is no text"),
        ({}, {"certificate-authority-data": encoded("hidden")}, "no certificate that can be read"),
        ({"client-certificate-data": "%%hidden"}, {}, "cannot be used"),
        ({"tokenFile": "nowhere"}, {}, "nowhere"),
    ],
)
def test_what_is_not_known_is_told(
    tmp_path: pathlib.Path, user: dict[str, Any], cluster: dict[str, Any], says: str
) -> None:
    """The program never acts under another name than meant; and no credential stands in a message."""
    with pytest.raises(connection.NoConnectionError, match=says) as caught:
        connection.load(written(tmp_path / "k", user, **cluster))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "hidden: [", '{"current-context": "x"}', "\x00"])
def test_a_file_that_is_no_kubeconfig_is_told(tmp_path: pathlib.Path, text: str) -> None:
    """By its name, whatever it holds."""
    (tmp_path / "k").write_text(text)
    with pytest.raises(connection.NoConnectionError, match=str(tmp_path / "k")) as caught:
        connection.load(tmp_path / "k")
    assert "hidden" not in str(caught.value)


def test_without_any_configuration_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a pod, nor KUBECONFIG, nor a file."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(connection.NoConnectionError, match="--kubeconfig"):
        connection.load(None)


# ── tokens in files ────────────────────────────────────────────────────────────────────────────────────────────


def source(path: pathlib.Path) -> connection.Source:
    from bandwidth_kube.credentials import kubeconfig

    return kubeconfig.Kubeconfig([path])


# ── renewal ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_that_is_renewed_in_its_file_is_used(tmp_path: pathlib.Path) -> None:
    """Without a start, and without looking at the file at every request."""
    clock = Clock(1_000_000.0)
    path = written(tmp_path / "k", {"token": "first"})
    found = connection.Connection(source(path), clock)
    written(path, {"token": "second"})
    assert bearer(found) == "Bearer first"
    clock.now += 2
    assert bearer(found) == "Bearer second"


def test_after_a_refusal_the_token_is_read_at_once(tmp_path: pathlib.Path) -> None:
    """Whatever the time is."""
    path = written(tmp_path / "k", {"token": "first"})
    found = connection.Connection(source(path), Clock(1_000_000.0))
    written(path, {"token": "second"})
    found.refused()
    assert bearer(found) == "Bearer second"


def test_a_file_that_is_half_written_changes_nothing(tmp_path: pathlib.Path) -> None:
    """What was known is used until it can be read again."""
    clock = Clock(1_000_000.0)
    path = written(tmp_path / "k", {"token": "first"})
    found = connection.Connection(source(path), clock)
    path.write_text('{"current-con')
    clock.now += 2
    assert bearer(found) == "Bearer first"
    written(path, {"token": "second"})
    clock.now += 2
    assert bearer(found) == "Bearer second"


def test_the_account_of_a_pod(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server from the environment, token and authority from the mounted files, which are swapped by a link."""
    for number in (1, 2):
        (tmp_path / f"mount-{number}").mkdir()
        (tmp_path / f"mount-{number}" / "token").write_text(f"token-{number}")
        (tmp_path / f"mount-{number}" / "ca.crt").write_text(CERTIFICATE * number)
    account = tmp_path / "account"
    account.symlink_to("mount-1")
    monkeypatch.setattr(connection, "ACCOUNT", account)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "2001:db8::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    found = connection.load(None)
    assert found.server == "https://[2001:db8::1]:6443"
    assert bearer(found) == "Bearer token-1"
    before = found.trust
    (tmp_path / "new").symlink_to("mount-2")
    os.replace(tmp_path / "new", account)
    found.refused()
    assert bearer(found) == "Bearer token-2"
    assert found.trust != before


def test_a_pod_without_an_account_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what is most likely wrong."""
    monkeypatch.setattr(connection, "ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    with pytest.raises(connection.NoConnectionError, match="automountServiceAccountToken"):
        connection.load(None)


def test_no_credential_is_printed(tmp_path: pathlib.Path) -> None:
    """Not even by who prints everything."""
    found = connection.load(written(tmp_path / "k", {"token": "hidden", "client-key-data": encoded("hidden")}))
    assert "hidden" not in repr(found._access)
