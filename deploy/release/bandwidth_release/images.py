"""Both images of a release: built by deploy/images/build, brought into a form without times, and pushed."""

from __future__ import annotations

import datetime
import hashlib
import pathlib
import platform
import shutil
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bandwidth_release import command, layout
from bandwidth_release.source import Source
from bandwidth_release.version import Registry

PROGRAMS = ("operator", "agent")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as Python's platform.machine() and OCI name them


class Built(NamedTuple):
    """An image in the layout: its index, and the digest of each architecture's manifest."""

    folder: pathlib.Path
    digest: str
    by_architecture: Mapping[str, str]


def own_architecture() -> str:
    """That of this machine."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def build(
    source: Source,
    architectures: Sequence[str],
    tools: Mapping[str, str],
    cache: pathlib.Path,
    work: pathlib.Path,
    dist: pathlib.Path,
) -> dict[str, Built]:
    """Both images as OCI layouts below `work`, and what each is made of in `dist`.

    `tools` is the environment of deploy/images/build, `cache` has layers from earlier releases.
    """
    layouts = {name: layout.Layout(work / "layout" / name, cache) for name in PROGRAMS}
    digests: dict[str, dict[str, str]] = {name: {} for name in PROGRAMS}
    for architecture in architectures:
        command.told(f"building both images for {architecture}")
        tag = f"release-{source.version.text}-{architecture}"
        environment = {
            **tools,
            "IMAGE_TAG": tag,
            "IMAGE_CREATED": source.created,
            "IMAGE_REVISION": source.commit,
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        }
        if architecture != own_architecture():
            environment["IMAGE_PLATFORM"] = f"linux/{architecture}"
        command.run(["deploy/images/build"], folder=source.folder, environment=environment)
        base = datetime.datetime.fromisoformat((source.folder / "build/images/base-created").read_text().strip())
        times = layout.Times(source.time, int(base.timestamp()))
        for name in PROGRAMS:
            image = f"client-bandwidth-{name}:{tag}"
            saved = work / f"{name}-{architecture}.tar"
            command.run(["docker", "save", "-o", saved, image])
            digests[name][architecture] = str(layouts[name].add(saved, times)["digest"])
            saved.unlink()
            command.run(["docker", "rmi", image])
            listed = source.folder / f"build/client-bandwidth-{name}.cdx.json"
            shutil.copyfile(listed, dist / materials(name, source.version.text, architecture))
    annotations = {
        "org.opencontainers.image.version": source.version.text,
        "org.opencontainers.image.revision": source.commit,
        "org.opencontainers.image.created": source.created,
    }
    return {
        name: Built(one.folder, one.finish(source.version.text, annotations), digests[name])
        for name, one in layouts.items()
    }


def materials(name: str, version: str, architecture: str) -> str:
    """The file that says what an image is made of."""
    return f"client-bandwidth-{name}-{version}-{architecture}.cdx.json"


def push(image: Built, registry: Registry, name: str, tag: str) -> None:
    """Bring an image to its place under a tag. One that is there already is never replaced by another."""
    reference = f"docker://{registry.image(name)}:{tag}"
    if not registry.is_loopback and (there := _digest_there(reference)) not in ("", image.digest):
        raise command.ReleaseError(
            f"{reference} is there already, with other contents ({there}); a released version is never replaced"
        )
    insecure = ["--dest-tls-verify=false"] if registry.is_loopback else []
    # A machine that has a policy for what may be pulled need not have one for what is pushed.
    words = ["skopeo", "--insecure-policy", "copy", "--all", "--preserve-digests", *insecure]
    command.run([*words, f"oci:{image.folder}:{tag}", reference])


def _digest_there(reference: str) -> str:
    """The digest of what a registry has under a tag; empty where it has nothing."""
    try:
        listed = command.run(["skopeo", "inspect", "--raw", reference])
    except command.ReleaseError as error:
        if any(word in str(error) for word in ("manifest unknown", "name unknown", "not found", "404")):
            return ""
        raise
    return f"sha256:{hashlib.sha256(listed.encode()).hexdigest()}"
