"""A bare Kubernetes API server with its etcd, on loopback, for tests and benchmarks: no kubelet, no controllers.

Owns the two processes and one directory. Neither outlives this process, not even when it is killed. etcd runs without
fsync: what it holds is worth nothing.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

BINARIES = ("etcd", "kube-apiserver", "kubectl")
READY_SECONDS = 90.0
STOP_SECONDS = 15.0
ADMIN = "admin"


class BinariesMissingError(RuntimeError):
    """The machine lacks the programs of a control plane; the message names how to install them."""


def binaries() -> Mapping[str, str]:
    """The paths of the programs, from KUBE_BINARIES (a directory) or PATH."""
    directory = os.environ.get("KUBE_BINARIES", "")
    search = os.pathsep.join(part for part in (directory, os.environ.get("PATH", "")) if part)
    found = {name: shutil.which(name, path=search) for name in BINARIES}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise BinariesMissingError(
            f"these tests need a real control plane, and {', '.join(missing)} is neither in"
            f" KUBE_BINARIES ({directory or 'not set'}) nor in PATH; set KUBE_BINARIES to a directory that holds"
            f" {', '.join(BINARIES)}"
        )
    return {name: path for name, path in found.items() if path is not None}


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    name: str
    token: str
    groups: tuple[str, ...] = ()


class ControlPlane:
    """One etcd and one API server. `stop_api` and `start_api` keep the address, the data and all credentials."""

    def __init__(self, directory: pathlib.Path, users: Sequence[User] = (), flags: Sequence[str] = ()) -> None:
        """`flags` are further ones of the API server."""
        self.directory = directory
        self._flags = tuple(flags)
        self._programs = binaries()
        self._users = (User(ADMIN, secrets.token_hex(16), ("system:masters",)), *users)
        self._etcd: subprocess.Popen[bytes] | None = None
        self._api: subprocess.Popen[bytes] | None = None
        self._etcd_port, self._peer_port, self.port = _free_ports(3)
        self.server = f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start both and return when the API server is ready."""
        self._write_credentials()
        self._start_etcd()
        self.start_api()

    def start_api(self) -> None:
        """Start the API server and return when it is ready."""
        key = self.directory / "service-account.key"
        self._api = self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.directory / 'certificates'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",  # as in every real cluster; it is kubeadm's default
            "--disable-admission-plugins=ServiceAccount",
            "--shutdown-delay-duration=0s",
            *self._flags,
        )
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready():
            if self._api.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the API server did not become ready:\n{self.log('kube-apiserver')[-3000:]}")
            time.sleep(0.1)

    def _start_etcd(self) -> None:
        self._etcd = self._spawn(
            "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{self._etcd_port}",
            f"--advertise-client-urls=http://127.0.0.1:{self._etcd_port}",
            f"--listen-peer-urls=http://127.0.0.1:{self._peer_port}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{self._peer_port}",
            f"--initial-cluster=default=http://127.0.0.1:{self._peer_port}",
            "--log-level=warn",
        )

    def back_up(self) -> None:
        """Keep a copy of everything that is stored, the place of an earlier one; all is down for a moment."""
        with self._down():
            shutil.rmtree(self.directory / "backup", ignore_errors=True)
            shutil.copytree(self.directory / "etcd", self.directory / "backup")

    def restore(self) -> None:
        """Go back to the copy: the versions of all objects too. All is down for a moment."""
        with self._down():
            shutil.rmtree(self.directory / "etcd")
            shutil.copytree(self.directory / "backup", self.directory / "etcd")

    @contextlib.contextmanager
    def _down(self) -> Iterator[None]:
        self.stop_api()
        if self._etcd is not None:
            _end(self._etcd, kill=False)
        yield
        self._start_etcd()
        self.start_api()

    def stop_api(self, *, kill: bool = True) -> None:
        """Stop the API server; etcd and everything in it stays. Returns when its port is closed."""
        if self._api is not None:
            _end(self._api, kill=kill)
            self._api = None

    def stop(self) -> None:
        """End both. The API server first: without its etcd it takes a minute and holds its port."""
        self.stop_api()
        if self._etcd is not None:
            _end(self._etcd, kill=True)
            self._etcd = None

    def log(self, program: str) -> str:
        """What a program printed so far."""
        path = self.directory / f"{program}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that run now: etcd and the API server."""
        return tuple(process.pid for process in (self._etcd, self._api) if process is not None)

    @property
    def ca_file(self) -> pathlib.Path:
        return self.directory / "certificates" / "apiserver.crt"

    def kubeconfig(self, user: str = ADMIN, *, token: str | None = None, server: str | None = None) -> pathlib.Path:
        """The path of a kubeconfig for a user of the token file, or for any bearer `token`.

        `server` names another address than the API server's own, such as that of a proxy before it.
        """
        bearer = token or next(u.token for u in self._users if u.name == user)
        path = self.directory / f"{user}-{secrets.token_hex(4)}.kubeconfig"
        cluster = {"server": server or self.server, "certificate-authority": str(self.ca_file)}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": user, "user": {"token": bearer}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
                    "current-context": "test",
                }
            )
        )
        path.chmod(0o600)
        return path

    def kubectl_command(self, *words: str, kubeconfig: pathlib.Path | None = None) -> list[str]:
        """The command that `kubectl` runs."""
        return [self._programs["kubectl"], f"--kubeconfig={kubeconfig or self._admin_kubeconfig()}", *words]

    def kubectl(
        self,
        *words: str,
        stdin: str | None = None,
        check: bool = True,
        kubeconfig: pathlib.Path | None = None,
        timeout_seconds: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl to its end, as the administrator unless another kubeconfig is given."""
        done = subprocess.run(
            self.kubectl_command(*words, kubeconfig=kubeconfig),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            env={"HOME": str(self.directory), "PATH": os.environ.get("PATH", "")},
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}")
        return done

    def agent_token(self, namespace: str, service_account: str, node: str, *, seconds: int = 3600) -> str:
        """A token of a service account bound to a Node, as a kubelet hands it to an agent's pod.

        The node name inside is what the admission policy for agents looks at.
        """
        node_object = json.loads(self.kubectl("get", "node", node, "-o", "json").stdout)
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "name": node,
                    "uid": node_object["metadata"]["uid"],
                },
            },
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        answer = self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(request))
        return str(json.loads(answer.stdout)["status"]["token"])

    def _admin_kubeconfig(self) -> pathlib.Path:
        path = self.directory / "kubectl.kubeconfig"
        if not path.exists():
            self.kubeconfig(ADMIN).rename(path)
        return path

    def _write_credentials(self) -> None:
        key = self.directory / "service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True, timeout=60)
        rows = [f'{u.token},{u.name},{u.name},"{",".join(u.groups)}"\n' for u in self._users]
        (self.directory / "tokens.csv").write_text("".join(rows))

    def _spawn(self, program: str, *flags: str) -> subprocess.Popen[bytes]:
        with open(self.directory / f"{program}.log", "ab") as log:
            return subprocess.Popen(
                # The kernel kills it with us, whatever becomes of us.
                ["setpriv", "--pdeathsig", "KILL", self._programs[program], *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )

    def _ready(self) -> bool:
        # The certificate is the server's own and not yet there at the first start: nothing secret is sent.
        context = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=context)
        try:
            connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {self._users[0].token}"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@contextlib.contextmanager
def running(users: Sequence[User] = (), flags: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """A control plane in a directory of its own; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="cbl-control-plane-") as name:
        plane = ControlPlane(pathlib.Path(name), users, flags)
        try:
            plane.start()
            yield plane
        finally:
            plane.stop()


def token_node(token: str) -> str:
    """The node name inside a bound token, for messages of tests."""
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["kubernetes.io"].get("node", {}).get("name", ""))


def _end(process: subprocess.Popen[bytes], *, kill: bool) -> None:
    if kill:
        process.kill()
    else:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
