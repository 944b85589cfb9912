"""The `auth-provider` of a kubeconfig (gcp, oidc), as the library `kubernetes` reads it.

Has no login of its own; the library is imported for this alone.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bandwidth_kube.credentials.access import NoConnectionError
from bandwidth_kube.credentials.credential_program import Credential

BEARER = "Bearer "


def read(provider: object) -> Credential:
    """Return a provider's token. Raises NoConnectionError, and ModuleNotFoundError without the library."""
    import kubernetes.config.kube_config  # 20 MiB

    library: Any = kubernetes.config.kube_config
    loader = library.KubeConfigLoader(
        {
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {"server": "https://localhost"}}],
            "users": [{"name": "it", "user": {"auth-provider": provider}}],
        }
    )
    found: Any = SimpleNamespace(api_key={}, host="", ssl_ca_cert=None, cert_file=None, key_file=None)
    found.verify_ssl, found.tls_server_name = True, None
    loader.load_and_set(found)
    token = str(found.api_key.get("BearerToken") or "")
    if not token.startswith(BEARER):
        raise NoConnectionError("its auth-provider gave no credential; use exec, as kubectl does now")
    expiry = getattr(loader, "expiry", None)
    return Credential(
        token.removeprefix(BEARER).strip(), expires_at=None if expiry is None else float(expiry.timestamp())
    )
