"""Lists and writes go by urllib3, watches by the session that kopf has: both know the same of the connection.

Each test runs by either way, against a real server with TLS.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import pathlib
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import aiohttp
import pytest

from bandwidth_kube import client, connection
from bandwidth_kube.credentials.kubeconfig import Kubeconfig
from bandwidth_operator.cache import session
from machine.kube.authority import OVER, USUAL_CA, USUAL_LEAF, Authority
from machine.kube.servers import proxying, serving

PATH = "/apis/clientbandwidth.io/v1alpha1/clientbandwidthlimits"


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def later(self) -> None:
        """So much that files are looked at again."""
        self.now += 2.0


class Way(Protocol):
    """A way of asking; it keeps its connections from one request to the next."""

    def ask(self) -> None:
        """One request; raises RefusedByUsError if the server is not believed, or was not reached."""

    def close(self) -> None: ...


class NotReachedError(Exception):
    """A request did not get an answer that is one."""


class Lists:
    """As lists and writes go."""

    def __init__(self, where: connection.Connection) -> None:
        self._api = client.Client(where, "test")

    def ask(self) -> None:
        try:
            self._api.request("GET", PATH)
        except client.ApiError as error:
            raise NotReachedError(str(error)) from error

    def close(self) -> None:
        self._api.close()


class Watches:
    """As kopf's requests go."""

    def __init__(self, where: connection.Connection) -> None:
        self._runner = asyncio.Runner()
        self._session = self._runner.run(self._made(where))
        self.heard: list[str] = []

    async def _made(self, where: connection.Connection) -> session.Session:
        return session.Session(where, "test", lambda path, *_: self.heard.append(path))

    def ask(self) -> None:
        self._runner.run(self._ask())

    async def _ask(self) -> None:
        try:
            found = await self._session.request("get", f"{session.SERVER}{PATH}?watch=true")
            async with found:
                if found.status != 200:
                    raise NotReachedError(str(found.status))
                await found.json()
        except aiohttp.ClientError as error:
            raise NotReachedError(str(error)) from error
        assert self.heard[-1] == PATH

    def close(self) -> None:
        self._runner.run(self._session.close())
        self._runner.close()


@pytest.fixture(params=[Lists, Watches])
def way(request: pytest.FixtureRequest) -> Iterator[Callable[[connection.Connection], Way]]:
    """Makes ways of one kind, and closes them."""
    with contextlib.ExitStack() as stack:

        def made(where: connection.Connection) -> Way:
            found: Way = request.param(where)
            stack.callback(found.close)
            return found

        yield made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Authority:
    """The usual certificate of a server here."""
    return authority.issue("server", "IP:127.0.0.1,IP:::1")


class Config:
    """A kubeconfig that a test writes, and may write again."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = folder / "kubeconfig"
        self.clock = Clock()
        self.environment: dict[str, str] = {}

    def write(self, user: dict[str, Any] | None = None, **cluster: Any) -> None:
        document = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {key.replace("_", "-"): value for key, value in cluster.items()}}],
            "users": [{"name": "u", "user": user or {"token": "one"}}],
        }
        self.path.write_text(json.dumps(document))

    def connection(self) -> connection.Connection:
        return connection.Connection(Kubeconfig([self.path]), self.clock, self.environment)


@pytest.fixture
def config(tmp_path: pathlib.Path) -> Config:
    return Config(tmp_path)


Ways = Callable[[connection.Connection], Way]


# ── where the server is ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("end", ["", "/", "//"])
def test_a_server_below_a_path(way: Ways, config: Config, authority: Authority, own: Authority, end: str) -> None:
    """The path of the URL stands before that of every request, with or without a slash at its end."""
    with serving(own) as server:
        config.write(
            server=f"{server.url}/k8s/clusters/c-m-1%2Fa{end}", certificate_authority=str(authority.certificate)
        )
        way(config.connection()).ask()
        assert server.arrived[0].path == f"/k8s/clusters/c-m-1%2Fa{PATH}"


def test_an_ipv6_address(way: Ways, config: Config, authority: Authority, own: Authority) -> None:
    """It is dialled without its brackets and found in the certificate."""
    with serving(own, host="::1") as server:
        config.write(server=server.url, certificate_authority=str(authority.certificate))
        way(config.connection()).ask()
        assert len(server.arrived) == 1


def test_the_name_in_the_certificate(way: Ways, config: Config, authority: Authority) -> None:
    """`tls-server-name` is what is looked for there, and nothing else is accepted then."""
    with serving(authority.issue("named", "DNS:kubernetes.example.com")) as server:
        config.write(server=server.url, certificate_authority=str(authority.certificate))
        with pytest.raises(NotReachedError, match=r"127\.0\.0\.1"):
            way(config.connection()).ask()
        config.write(
            server=server.url,
            certificate_authority=str(authority.certificate),
            tls_server_name="kubernetes.example.com",
        )
        way(config.connection()).ask()
    with serving(authority.issue("other", "IP:127.0.0.1")) as server:
        config.write(
            server=server.url,
            certificate_authority=str(authority.certificate),
            tls_server_name="kubernetes.example.com",
        )
        with pytest.raises(NotReachedError, match=r"kubernetes\.example\.com"):
            way(config.connection()).ask()


def test_a_server_that_moves(way: Ways, config: Config, authority: Authority, own: Authority) -> None:
    """Another URL in the kubeconfig is where the next request goes."""
    with serving(own) as first, serving(own) as second:
        config.write(server=first.url, certificate_authority=str(authority.certificate))
        asking = way(config.connection())
        asking.ask()
        config.write(server=f"{second.url}/below", certificate_authority=str(authority.certificate))
        config.clock.later()
        asking.ask()
        assert (len(first.arrived), [each.path for each in second.arrived]) == (1, [f"/below{PATH}"])


# ── what is believed ───────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_believed(way: Ways, config: Config, tmp_path: pathlib.Path) -> None:
    """Another authority's certificate, one that is over, one for another address, and a name that is no SAN."""
    authority = Authority(tmp_path / "one", "one")
    other = Authority(tmp_path / "other", "other")
    shown = [
        other.issue("of-another"),
        authority.issue("over", valid=OVER),
        authority.issue("elsewhere", "IP:127.0.0.2"),
        authority.issue("127.0.0.1", ""),
    ]
    for each in shown:
        with serving(each) as server:
            config.write(server=server.url, certificate_authority=str(authority.certificate))
            with pytest.raises(NotReachedError):
                way(config.connection()).ask()
            assert server.arrived == []


def test_no_look_at_the_certificate(way: Ways, config: Config, tmp_path: pathlib.Path) -> None:
    """`insecure-skip-tls-verify` accepts any."""
    with serving(Authority(tmp_path / "any", "any").issue("leaf", "DNS:nowhere")) as server:
        config.write(server=server.url, insecure_skip_tls_verify=True)
        way(config.connection()).ask()
        assert len(server.arrived) == 1


BUNDLES: dict[str, Callable[[bytes, bytes, bytes], bytes]] = {
    "several": lambda ours, other, over: other + ours,
    "comments that are no ASCII": lambda ours, other, over: "# Főtanúsítvány\n".encode() + ours + b"\xff\xfe",
    "another line end": lambda ours, other, over: (other + ours).replace(b"\n", b"\r\n"),
    "no line end at the end of each": lambda ours, other, over: other.strip() + ours.strip(),
    "a byte order mark": lambda ours, other, over: b"\xef\xbb\xbf" + ours,
    "spaces at line ends": lambda ours, other, over: ours.replace(b"\n", b" \n"),
    "something else behind it": lambda ours, other, over: ours + b"\x00\x01-----BEGIN junk\n",
    "half a certificate before it": lambda ours, other, over: other[:200] + b"\n" + ours,
    "half a certificate behind it": lambda ours, other, over: ours + other[:200],
    "one that is broken": lambda ours, other, over: other.replace(b"A", b"!") + other.replace(b"MII", b"AII") + ours,
    "a key": lambda ours, other, over: b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + ours,
    "one that is over": lambda ours, other, over: over + ours,
    "one that is over behind it": lambda ours, other, over: ours + over,
    "the same twice": lambda ours, other, over: ours + ours,
}


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("inline", [False, True])
def test_bundles_as_people_keep_them(
    way: Ways, config: Config, authority: Authority, own: Authority, tmp_path: pathlib.Path, name: str, inline: bool
) -> None:
    """The certificates of a bundle count, whatever stands around them, in a file or in the kubeconfig itself."""
    other = Authority(tmp_path / "other", "other")
    # What an authority's certificate is renewed to: the same name, the same key.
    over = Authority(tmp_path / "over", "over", valid=OVER, subject="authority", key=authority.key)
    data = BUNDLES[name](*(each.certificate.read_bytes() for each in (authority, other, over)))
    bundle = tmp_path / "bundle"
    bundle.write_bytes(data)
    with serving(own) as server:
        said: dict[str, str] = {"certificate_authority": str(bundle)}
        if inline:
            said = {"certificate_authority_data": base64.b64encode(data).decode()}
        config.write(server=server.url, **said)
        way(config.connection()).ask()
        assert len(server.arrived) == 1


# What Python's defaults refuse since 3.13, and Go does not.
LAX: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no key usage": (("basicConstraints=critical,CA:TRUE", "subjectKeyIdentifier=hash"), USUAL_LEAF),
    "constraints that are not critical": (("basicConstraints=CA:TRUE", "subjectKeyIdentifier=hash"), USUAL_LEAF),
    "no identifier of the subject's key": (("basicConstraints=critical,CA:TRUE", "subjectKeyIdentifier=none"), ()),
    "no identifier of the issuer's key": (USUAL_CA, ("basicConstraints=CA:FALSE", "authorityKeyIdentifier=none")),
}


@pytest.mark.parametrize("strict", [False, True], ids=["this Python", "as Python 3.13"])
@pytest.mark.parametrize("name", LAX)
def test_authorities_that_lack_extensions(
    way: Ways, config: Config, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str, strict: bool
) -> None:
    """They are accepted, as by Go, also where Python's own settings refuse them, as since 3.13."""
    if strict:
        defaults = ssl.create_default_context

        def as_later(*arguments: Any, **keywords: Any) -> ssl.SSLContext:
            made = defaults(*arguments, **keywords)
            made.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
            return made

        monkeypatch.setattr(ssl, "create_default_context", as_later)
    of_ca, of_leaf = LAX[name]
    lax = Authority(tmp_path / "lax", "lax", of_ca)
    with serving(lax.issue("leaf", extensions=of_leaf)) as server:
        config.write(server=server.url, certificate_authority=str(lax.certificate))
        way(config.connection()).ask()
        assert len(server.arrived) == 1


@pytest.mark.parametrize("signer", [0, 1, 2])
def test_authorities_of_one_name(way: Ways, config: Config, tmp_path: pathlib.Path, signer: int) -> None:
    """As an authority and its successors are usually called alike: each is tried, also for certificates that do not
    say by which key they were signed."""
    plain = ("basicConstraints=critical,CA:TRUE", "subjectKeyIdentifier=none")
    three = [Authority(tmp_path / f"ca-{n}", f"ca-{n}", plain, subject="kubernetes") for n in range(3)]
    bundle = tmp_path / "bundle"
    bundle.write_text("".join(each.pem for each in three))
    with serving(three[signer].issue("leaf", extensions=("authorityKeyIdentifier=none",))) as server:
        config.write(server=server.url, certificate_authority=str(bundle))
        asking = way(config.connection())
        for _ in range(2):
            with contextlib.suppress(NotReachedError):
                asking.ask()
        asking.ask()
        server.present(three[(signer + 1) % 3].issue("next", extensions=("authorityKeyIdentifier=none",)))
        for _ in range(3):
            with contextlib.suppress(NotReachedError):
                asking.ask()
        asking.ask()
        stranger = Authority(tmp_path / "stranger", "stranger", plain, subject="kubernetes")
        server.present(stranger.issue("of-a-stranger", extensions=("authorityKeyIdentifier=none",)))
        for _ in range(6):
            with pytest.raises(NotReachedError):
                asking.ask()
        server.present(three[signer].issue("again", extensions=("authorityKeyIdentifier=none",)))
        for _ in range(3):
            with contextlib.suppress(NotReachedError):
                asking.ask()
        asking.ask()


def test_an_authority_that_is_no_root(way: Ways, config: Config, authority: Authority, tmp_path: pathlib.Path) -> None:
    """What is in the bundle is believed for itself: an intermediate authority, or the server's own certificate."""
    between = Authority(tmp_path / "between", "between", USUAL_CA, authority)
    leaf = between.issue("leaf")
    with serving(leaf) as server:
        for believed in (between, leaf):
            config.write(server=server.url, certificate_authority=str(believed.certificate))
            way(config.connection()).ask()
        assert len(server.arrived) == 2


# ── what is renewed ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_authority_is_renewed_without_an_outage(
    way: Ways, config: Config, authority: Authority, own: Authority, tmp_path: pathlib.Path
) -> None:
    """First both are in the file, then the server has the new certificate, then the old authority is gone."""
    new = Authority(tmp_path / "new", "new")
    bundle = tmp_path / "ca.crt"
    bundle.write_text(authority.pem)
    with serving(own) as server:
        config.write(server=server.url, certificate_authority="ca.crt")
        asking = way(config.connection())
        asking.ask()
        for text, shown in (
            (authority.pem + new.pem, own),
            (authority.pem + new.pem, new.issue("new-leaf")),
            (new.pem, None),
        ):
            bundle.write_text(text)
            if shown is not None:
                server.present(shown)
            config.clock.later()
            asking.ask()
        assert len(server.arrived) == 4
        server.present(own)
        with pytest.raises(NotReachedError):
            asking.ask()


@pytest.mark.parametrize("half", ["", "-----BEGIN CERTIFICATE-----\nMIIB", None])
def test_an_authority_that_is_half_written_changes_nothing(
    way: Ways, config: Config, authority: Authority, own: Authority, tmp_path: pathlib.Path, half: str | None
) -> None:
    """A file that is empty, cut or gone for a moment is looked at again; what was believed still is."""
    bundle = tmp_path / "ca.crt"
    bundle.write_text(authority.pem)
    with serving(own) as server:
        config.write(server=server.url, certificate_authority="ca.crt")
        asking = way(config.connection())
        asking.ask()
        bundle.unlink() if half is None else bundle.write_text(half)
        config.clock.later()
        asking.ask()
        assert len(server.arrived) == 2


def test_a_token_in_a_file_is_renewed(
    way: Ways, config: Config, authority: Authority, own: Authority, tmp_path: pathlib.Path
) -> None:
    """The next request has it; after a refusal at once."""
    token = tmp_path / "token"
    token.write_text("one\n")
    with serving(own) as server:
        config.write({"tokenFile": "token"}, server=server.url, certificate_authority=str(authority.certificate))
        asking = way(config.connection())
        asking.ask()
        token.write_text("two")
        config.clock.later()
        asking.ask()
        server.refused.add("two")
        with pytest.raises(NotReachedError):
            asking.ask()
        token.write_text("three")
        asking.ask()
        assert [each.authorization for each in server.arrived] == [
            f"Bearer {n}" for n in ("one", "two", "two", "three")
        ]


def test_a_client_certificate_is_renewed(
    way: Ways, config: Config, authority: Authority, own: Authority, tmp_path: pathlib.Path
) -> None:
    """It speaks for us; the renewed one on new connections."""
    first, second = authority.issue("client-one", ""), authority.issue("client-two", "")
    with serving(own, clients=authority) as server:
        for path, said in (("client.crt", first.pem), ("client.key", first.key.read_text())):
            (tmp_path / path).write_text(said)
        config.write(
            {"client-certificate": "client.crt", "client-key": "client.key"},
            server=server.url,
            certificate_authority=str(authority.certificate),
        )
        asking = way(config.connection())
        asking.ask()
        (tmp_path / "client.crt").write_text(second.pem)
        config.clock.later()
        asking.ask()  # certificate and key are of two pairs for a moment: the old pair is used
        (tmp_path / "client.key").write_text(second.key.read_text())
        config.clock.later()
        asking.ask()
        assert [each.client for each in server.arrived] == ["client-one", "client-one", "client-two"]


def test_a_program_that_gives_credentials(
    way: Ways, config: Config, authority: Authority, own: Authority, tmp_path: pathlib.Path
) -> None:
    """It is run once, and again after a refusal."""
    program = tmp_path / "give"
    status = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "%s"}}'
    program.write_text(f"#!/bin/sh\necho >> {tmp_path}/runs\nprintf '{status}' $(wc -l < {tmp_path}/runs)\n")
    program.chmod(0o755)
    with serving(own) as server:
        config.write(
            {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./give", "args": None}},
            server=server.url,
            certificate_authority=str(authority.certificate),
        )
        asking = way(config.connection())
        asking.ask()
        asking.ask()
        server.refused.add("1")
        with pytest.raises(NotReachedError):
            asking.ask()
        asking.ask()
        assert [each.authorization for each in server.arrived] == [f"Bearer {n}" for n in (1, 1, 1, 2)]


# ── proxies ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("proxy_tls", [False, True], ids=["plain proxy", "TLS proxy"])
def test_a_proxy_is_used(
    way: Ways, config: Config, authority: Authority, own: Authority, tls: bool, proxy_tls: bool
) -> None:
    """`proxy-url`, with a password, before a server with or without TLS."""
    with serving(own if tls else None) as server, proxying(own if proxy_tls else None) as proxy:
        url = proxy.url.replace("://", "://user:pass%20word@")
        config.write(server=server.url, certificate_authority=str(authority.certificate), proxy_url=url)
        way(config.connection()).ask()
        assert len(server.arrived) == 1
        target, who = proxy.asked[0]
        assert f"127.0.0.1:{server.port}" in target
        assert who == "user:pass word"


def test_a_proxy_and_another_name(way: Ways, config: Config, authority: Authority) -> None:
    """`tls-server-name` is that of the server, not of the proxy before it."""
    with serving(authority.issue("behind", "DNS:kubernetes.example.com")) as server, proxying() as proxy:
        config.write(
            server=server.url,
            certificate_authority=str(authority.certificate),
            proxy_url=proxy.url,
            tls_server_name="kubernetes.example.com",
        )
        way(config.connection()).ask()
        assert len(server.arrived) == len(proxy.asked) == 1


def test_a_proxy_of_the_environment(way: Ways, config: Config) -> None:
    """It is used for a name that NO_PROXY does not name; the proxy finds what is meant by it."""
    with serving() as server, proxying() as proxy:
        config.environment = {"HTTP_PROXY": proxy.url, "NO_PROXY": "example.org"}
        config.write(server=f"http://api.example.com:{server.port}")
        way(config.connection()).ask()
        assert len(server.arrived) == len(proxy.asked) == 1


def test_no_proxy_of_the_environment_for_this_machine(
    way: Ways, config: Config, authority: Authority, own: Authority
) -> None:
    """A server on loopback is reached directly, whatever the environment says of proxies and of authorities."""
    with serving(own) as server:
        config.environment = dict.fromkeys(
            ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"
        )
        config.write(server=server.url, certificate_authority=str(authority.certificate))
        way(config.connection()).ask()
        assert len(server.arrived) == 1
