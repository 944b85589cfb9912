"""What an image is made of, as CycloneDX JSON on stdout: its Python distributions, its Debian packages, its Python.

Runs inside the image that it describes, with the standard library only. The same contents give the same bytes.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import platform
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

Component = dict[str, Any]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://clientbandwidth.io/sbom")
_LONG_LICENCE = 64  # a License field may hold the whole text


def python_distributions(folder: str) -> Iterator[Component]:
    """One component for each distribution installed in a folder."""
    for distribution in importlib.metadata.distributions(path=[folder]):
        metadata, name = distribution.metadata, distribution.metadata["Name"]
        component = {
            "type": "library",
            "name": name,
            "version": distribution.version,
            "purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{distribution.version}",
        }
        if expression := metadata.get("License-Expression"):
            component["licenses"] = [{"expression": expression}]
        elif (named := metadata.get("License")) and len(named) <= _LONG_LICENCE:
            component["licenses"] = [{"license": {"name": named}}]
        yield component


def debian_packages() -> Iterator[Component]:
    """One component for each installed Debian package; none on another system."""
    if shutil.which("dpkg-query") is None:
        return
    release = platform.freedesktop_os_release()
    distro = f"{release['ID']}-{release.get('VERSION_ID', 'unstable')}"
    form = "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n"
    listed = subprocess.run(["dpkg-query", "-W", "-f", form], check=True, capture_output=True, text=True, timeout=60)
    for line in listed.stdout.splitlines():
        status, name, version, architecture = line.split("\t")
        if status.startswith("ii"):
            place = f"pkg:deb/{release['ID']}/{name}@{version.replace('+', '%2B')}"
            purl = f"{place}?arch={architecture}&distro={distro}"
            yield {"type": "library", "name": name, "version": version, "purl": purl}


def interpreter() -> Component:
    """The Python that runs the programs, which may come from the base and not from a package."""
    version = platform.python_version()
    return {"type": "platform", "name": "python", "version": version, "purl": f"pkg:generic/python@{version}"}


def document(image: str, version: str, created: str, folder: str) -> dict[str, Any]:
    """The whole document; `created` is an RFC 3339 time, given so that a build can be repeated."""
    components = sorted(
        [interpreter(), *python_distributions(folder), *debian_packages()], key=lambda one: str(one["purl"])
    )
    for component in components:
        component["bom-ref"] = component["purl"]
    serial = uuid.uuid5(_NAMESPACE, json.dumps([image, version, components], sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "component": {"type": "container", "bom-ref": image, "name": image, "version": version},
        },
        "components": components,
    }


def main(image: str, version: str, created: str, folder: str) -> int:
    """Print the document."""
    if not pathlib.Path(folder).is_dir():
        sys.stderr.write(f"{folder} is no folder of Python distributions\n")
        return 1
    json.dump(document(image, version, created, folder), sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
