"""Signatures by cosign with one key: of images and chart in the registry, of what each is made of, of the checksums.

Nothing is sent to a transparency log: a release can be made and verified without the internet.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Sequence

from bandwidth_release import archives, command
from bandwidth_release.version import Registry

SUMS, SUMS_SIGNATURE, PUBLIC_KEY = "SHA256SUMS", "SHA256SUMS.sigstore.json", "cosign.pub"
# No signing configuration is fetched, and none of what it would name is asked.
_ALONE = ("--use-signing-config=false", "--tlog-upload=false", "--yes")


class Signer:
    """Signs with a private key: a file, or what cosign takes for one (`env://NAME`, the name of a key in a KMS)."""

    def __init__(self, cosign: pathlib.Path, key: str, registry: Registry) -> None:
        self._cosign = cosign
        self._key = key
        self._insecure = ("--allow-http-registry",) if registry.is_loopback else ()

    def sign(self, references: Iterable[str]) -> None:
        """Sign what is in the registry, each named by its digest, and of an index all that it holds."""
        for reference in references:
            self._run("sign", "--recursive", *_ALONE, *self._insecure, "--key", self._key, reference)

    def attest(self, reference: str, materials: pathlib.Path) -> None:
        """Attach the bill of materials of an image to it, signed."""
        words = ("--type", "cyclonedx", "--predicate", str(materials))
        self._run("attest", *_ALONE, *self._insecure, "--key", self._key, *words, reference)

    def finish(self, dist: pathlib.Path) -> None:
        """Write the checksums of all that is in `dist`, their signature, and the public key."""
        (dist / PUBLIC_KEY).write_text(self._run("public-key", "--key", self._key))
        names = sorted(path.name for path in dist.iterdir())
        (dist / SUMS).write_text("".join(f"{archives.sha256(dist / name)}  {name}\n" for name in names))
        bundle = ("--bundle", str(dist / SUMS_SIGNATURE))
        self._run("sign-blob", *_ALONE, "--key", self._key, *bundle, str(dist / SUMS))
        (dist / SUMS_SIGNATURE).chmod(0o644)  # cosign keeps it for its owner alone

    def _run(self, *words: str) -> str:
        return command.run([self._cosign, *words], environment=_password())


def key_for_loopback(cosign: pathlib.Path, folder: pathlib.Path) -> str:
    """A key made once, without a password: for a registry that only this machine can reach."""
    key = folder / "cosign.key"
    if not key.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command.told(f"making a key pair for this machine, {key}")
        command.run([cosign, "generate-key-pair"], folder=folder, environment={"COSIGN_PASSWORD": ""})
        key.chmod(0o600)
    return str(key)


def _password() -> dict[str, str]:
    """What cosign would ask for at a terminal; a key without a password has the empty one."""
    return {} if "COSIGN_PASSWORD" in os.environ else {"COSIGN_PASSWORD": ""}


def verifications(registry: Registry, references: Sequence[str]) -> list[str]:
    """The commands by which anybody verifies a release, with the public key at hand."""
    plain = " --allow-http-registry" if registry.is_loopback else ""
    verify = f"cosign verify --key {PUBLIC_KEY} --insecure-ignore-tlog{plain}"
    blob = f"cosign verify-blob --key {PUBLIC_KEY} --insecure-ignore-tlog --bundle {SUMS_SIGNATURE} {SUMS}"
    return [*(f"{verify} {reference}" for reference in references), blob, f"sha256sum --check {SUMS}"]
