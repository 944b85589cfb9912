"""The text of a release: what changed, how it is installed, what it consists of and how that is verified. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bandwidth_release.stamps import Image
from bandwidth_release.version import Registry, Version

_TEXT = """\
# client-bandwidth-operator {version}

{changes}
## Install

    {install}

Or without Helm, with the install.yaml of this release:

    kubectl apply --server-side -f install.yaml

## What it consists of

| what | where |
|---|---|
{rows}

## Verify

With the public key of the project, whose copy is `cosign.pub` (compare the two), in the folder of these files:

{verify}
"""


def text(
    version: Version, changes: str, registry: Registry, images: Mapping[str, Image], verifications: Sequence[str]
) -> str:
    """The notes as Markdown; `images` has the chart too."""
    rows = [f"| {name} | `{image.repository}@{image.digest}` |" for name, image in images.items()]
    return _TEXT.format(
        version=version.text,
        changes=changes,
        install=install(version, registry),
        rows="\n".join(rows),
        verify="\n".join(f"    {line}" for line in verifications),
    )


def install(version: Version, registry: Registry) -> str:
    """The one command that installs the chart of a release."""
    plain = " --plain-http" if registry.is_loopback else ""
    chart = f"oci://{registry.charts}/client-bandwidth-operator --version {version.text}"
    return f"helm install client-bandwidth {chart}{plain} --namespace client-bandwidth --create-namespace --wait"
