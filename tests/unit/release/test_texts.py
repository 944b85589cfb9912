"""What a release says of itself: its notes, the manifest for krew, the ways to verify it, and what it refuses."""

from __future__ import annotations

import yaml

from bandwidth_release import notes, packages, signing, version
from bandwidth_release.stamps import Image

OF = version.parsed("1.2.3")
SUM = "f" * 64


def test_krew_finds_the_archive() -> None:
    """The manifest leads to the archive below the address of the downloads, and names its checksum."""
    text = packages.krew(
        OF.text, "https://git.example.com/a/b/releases/download/v1.2.3/", "kubectl-cbl-1.2.3.tar.gz", SUM
    )
    manifest = yaml.safe_load(text)
    assert manifest["metadata"]["name"] == "cbl"
    assert manifest["spec"]["version"] == "v1.2.3"
    assert manifest["spec"]["homepage"] == "https://git.example.com/a/b"
    assert len(manifest["spec"]["shortDescription"]) <= 50
    (platform,) = manifest["spec"]["platforms"]
    assert platform["uri"] == "https://git.example.com/a/b/releases/download/v1.2.3/kubectl-cbl-1.2.3.tar.gz"
    assert platform["sha256"] == SUM
    assert platform["bin"] == "kubectl-cbl"


def test_the_notes_have_what_changed_and_how_to_get_it() -> None:
    """With the digests, and without options that only a registry of this machine needs."""
    registry = version.registry("ghcr.io/example")
    images = {"operator": Image(registry.image("operator"), f"sha256:{SUM}")}
    verified = signing.verifications(registry, [f"{images['operator'].repository}@{images['operator'].digest}"])
    text = notes.text(OF, "- Changed.\n", registry, images, verified)
    assert "- Changed." in text
    assert f"`ghcr.io/example/client-bandwidth-operator@sha256:{SUM}`" in text
    assert "oci://ghcr.io/example/charts/client-bandwidth-operator --version 1.2.3 --namespace" in text
    image = f"ghcr.io/example/client-bandwidth-operator@sha256:{SUM}"
    assert f"cosign verify --key cosign.pub --insecure-ignore-tlog {image}" in text
    assert "http" not in text.replace("https", "")


def test_what_is_on_this_machine_is_reached_without_tls() -> None:
    """The commands that are shown work as they are."""
    registry = version.registry("localhost:5000")
    assert "--plain-http" in notes.install(OF, registry)
    assert all(
        "--allow-http-registry" in line
        for line in signing.verifications(registry, ["a@b"])
        if line.startswith("cosign verify ")
    )
