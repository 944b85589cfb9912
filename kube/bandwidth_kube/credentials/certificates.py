"""Makes the TLS settings of a connection from PEM text.

Owns which authorities are accepted: those that Go, and so kubectl, accepts. Each certificate of a bundle counts by
itself, with any text around it; an authority need not be a root, and need not have the extensions that Python requires
since 3.13. Reads no file and opens no connection.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import ssl
from collections import Counter

from bandwidth_kube.credentials.access import NoConnectionError, Trust
from bandwidth_kube.transport import deadline

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")


SIGNATURE_FAILURE = 7  # X509_V_ERR_CERT_SIGNATURE_FAILURE


def context(trust: Trust, server: str, turn: int = 0) -> ssl.SSLContext:
    """Return the TLS settings for a server. Raises NoConnectionError for an invalid certificate or a key without it.

    Of several authorities with one name OpenSSL may try only the first, where Go tries all; `turn` is the place of the
    one to put first.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.sslsocket_class = deadline.TlsSocket
    made.set_alpn_protocols(["http/1.1"])
    made.hostname_checks_common_name = False
    made.verify_flags = (made.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    if not trust.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    elif trust.ca:
        if not _believe(made, trust.ca, turn):
            raise NoConnectionError(
                f"the certificate authority for {server} holds no certificate that can be read; it must be PEM, a file"
                " with -----BEGIN CERTIFICATE----- in it"
            )
    else:
        made.load_default_certs()
    if trust.certificate:
        _present(made, trust, server)
    return made


def turns(trust: Trust) -> int:
    """Return the largest number of authorities that share a name: the number of turns that may be needed."""
    return max(_places(_certificates(trust.ca)).values(), default=0) + 1 if trust.verify else 1


def is_of_another_authority(error: BaseException | None) -> bool:
    """Return whether a handshake failed because an authority of the right name but with another key was tried."""
    while error is not None:
        code = getattr(error, "verify_code", None)  # of ssl.SSLCertVerificationError, but not of all that are one
        if code is not None:
            return bool(code == SIGNATURE_FAILURE)
        error = error.__cause__ or error.__context__
    return False


def _believe(made: ssl.SSLContext, bundle: str, turn: int) -> int:
    """Trust the certificates of a bundle; return how many there are."""
    found = _certificates(bundle)
    places = _places(found)
    size = max(places.values(), default=0) + 1
    for each in sorted(found, key=lambda data: (places.get(data, 0) - turn) % size):
        made.load_verify_locations(cadata=each)
    return len(found)


def _certificates(bundle: str) -> list[bytes]:
    """Return the certificates of a bundle, each once; other text is ignored."""
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found: dict[bytes, None] = {}
    for block in _BLOCK.finditer(bundle):
        try:
            data = base64.b64decode("".join(block[1].split()), validate=True)
            probe.load_verify_locations(cadata=data)
        except (ssl.SSLError, binascii.Error, ValueError):
            continue
        found[data] = None
    return list(found)


def _places(found: list[bytes]) -> dict[bytes, int]:
    """Return for each authority how many of the same name come before it."""
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for each in found:
        probe.load_verify_locations(cadata=each)
    names: dict[bytes, object] = {
        data: decoded["subject"]
        for data, decoded in zip(probe.get_ca_certs(True), probe.get_ca_certs(False), strict=True)
    }
    seen: Counter[object] = Counter()
    places = {}
    for each in found:
        if each in names:
            places[each] = seen[names[each]]
            seen[names[each]] += 1
    return places


def _present(made: ssl.SSLContext, trust: Trust, server: str) -> None:
    """Load our own certificate through a file in memory, because `ssl` accepts only files."""
    if not trust.key:
        raise NoConnectionError(f"the client certificate for {server} cannot be used: there is no key with it")
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(f"{trust.certificate}\n{trust.key}\n".encode())
        file.flush()
        try:
            made.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise NoConnectionError(f"the client certificate for {server} cannot be used: {_why(error)}") from error


def _no_password() -> str:
    """Refuse an encrypted key; without this callback OpenSSL would ask for a password at the terminal."""
    raise ValueError("its key is encrypted, and there is no password for it; use a key that is not")


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else str(error)
