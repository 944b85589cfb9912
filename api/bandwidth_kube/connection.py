"""Where the API server is and who we are there: a kubeconfig file, or the service account of a pod.

Owns no connection; never prints a credential.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import ssl
from typing import Any

from kubernetes import client, config


class NoConnectionError(Exception):
    """No API server is configured, or what is configured cannot be used; the message says what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """An API server and how to speak to it. Credentials are read when asked for, because they are renewed."""

    configuration: Any  # kubernetes.client.Configuration, whose attributes have no types

    @property
    def server(self) -> str:
        return str(self.configuration.host).rstrip("/")

    def headers(self) -> dict[str, str]:
        """The authorization header with the token of now; empty where a client certificate speaks for us."""
        setting = self.configuration.auth_settings().get("BearerToken")
        return {"authorization": str(setting["value"])} if setting and setting.get("value") else {}

    def tls(self) -> ssl.SSLContext | None:
        """The TLS settings; None for plain HTTP."""
        if not self.server.startswith("https:"):
            return None
        context = ssl.create_default_context(cafile=self.configuration.ssl_ca_cert)
        if not self.configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.configuration.cert_file:
            context.load_cert_chain(self.configuration.cert_file, self.configuration.key_file)
        return context

    @property
    def server_name(self) -> str | None:
        """The name that the server's certificate must carry, where it is not that of the address."""
        name = getattr(self.configuration, "tls_server_name", None)
        return str(name) if name else None


def load(kubeconfig: pathlib.Path | None) -> Connection:
    """The connection of a kubeconfig file; without one that of the pod we are in, then that of KUBECONFIG."""
    configuration = client.Configuration()
    try:
        if kubeconfig is not None:
            config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig), client_configuration=configuration, persist_config=False
            )
        elif "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        elif os.environ.get("KUBECONFIG"):
            config.load_kube_config(  # type: ignore[no-untyped-call]
                client_configuration=configuration, persist_config=False
            )
        else:
            raise NoConnectionError("not in a cluster and no kubeconfig; name one with --kubeconfig or in KUBECONFIG")
    except (config.ConfigException, OSError) as error:
        source = f"the kubeconfig {kubeconfig}" if kubeconfig else "the configuration"
        raise NoConnectionError(f"{source} cannot be used: {error}") from error
    return Connection(configuration)
