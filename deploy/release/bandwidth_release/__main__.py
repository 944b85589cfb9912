"""`make release`: checks what is given, then makes a release step by step, and says what it made."""

from __future__ import annotations

import argparse
import http.client
import pathlib
import shutil
import sys
from collections.abc import Sequence

from bandwidth_release import charts, command, images, notes, packages, signing, source, version
from bandwidth_release.stamps import Image
from bandwidth_release.version import Registry, Version

ROOT = pathlib.Path(__file__).resolve().parents[3]
NEEDED = {
    "docker": "https://docs.docker.com/engine/install/",
    "git": "apt-get install git",
    "helm": "https://helm.sh/docs/intro/install/",
    "skopeo": "apt-get install skopeo, or https://github.com/containers/skopeo/blob/main/install.md",
}
_EXAMPLE = "make release REGISTRY=localhost:5000 VERSION=1.2.3"
_HELP = f"""\
Makes a release out of the last commit: leaves everything in dist/, and pushes both images and the chart.

    {_EXAMPLE}

Variables of make, and the options of this program:
"""
# Where nobody can fetch anything; such names never lead anywhere (RFC 2606).
_NO_DOWNLOADS = "https://example.invalid/client-bandwidth-operator"


def main(words: Sequence[str]) -> int:
    """0 when the release is made; 1 with the reason where it is not; 2 for what cannot be used."""
    given = parser().parse_args(words)
    try:
        registry, of = version.registry(given.registry), version.parsed(given.version)
    except version.InvalidError as wrong:
        sys.stderr.write(f"{wrong}\nFor example: {_EXAMPLE}\n")
        return 2
    try:
        dist = pathlib.Path(given.dist).resolve()
        make(registry, of, given, dist)
    except command.ReleaseError as error:
        sys.stderr.write(f"no release was made: {error}\n")
        return 1
    files = "\n".join(f"  {path.name}" for path in sorted(dist.iterdir()))
    command.told(f"made: {registry.text} has {of.text}, and {dist} has\n{files}\nto install it:")
    sys.stdout.write(f"  {notes.install(of, registry)}\n")
    return 0


def parser() -> argparse.ArgumentParser:
    """The options; each has a variable of make of the same name."""
    made = argparse.ArgumentParser(
        "make release", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--registry", metavar="REGISTRY", default="", help="such as localhost:5000 or ghcr.io/example")
    made.add_argument("--version", metavar="VERSION", default="", help="such as 1.2.3, or 1.2.3-rc.1 for one to try")
    made.add_argument(
        "--architectures",
        metavar="LIST",
        default=images.own_architecture(),
        help="amd64,arm64 or one of them (this machine's); each needs a base, and a foreign one QEMU",
    )
    made.add_argument(
        "--key",
        metavar="KEY",
        default="",
        help="the private key to sign with: a file, env://NAME, or what else cosign takes; its password is in "
        "COSIGN_PASSWORD. For a registry of this machine one is made where none is given",
    )
    made.add_argument(
        "--downloads", metavar="URL", default="", help="below which the files of dist/ will be found, for krew"
    )
    made.add_argument(
        "--no-deb", action="store_true", help="leave out the Debian packages, as is done where debhelper is not (DEB=0)"
    )
    made.add_argument("--dist", metavar="FOLDER", default=str(ROOT / "dist"), help="made anew (dist)")
    return made


def make(registry: Registry, of: Version, given: argparse.Namespace, dist: pathlib.Path) -> None:
    """Make all of it; `dist` is replaced when everything is there, and not before."""
    check(registry, given)
    cosign = pathlib.Path(command.run([ROOT / "tools/go-program", "cosign"]).strip())
    key = given.key or signing.key_for_loopback(cosign, ROOT / "build/release/key")
    work = source.clear(ROOT / "build/release/work")
    made = source.clear(ROOT / "build/release/dist")
    command.told(f"exporting the last commit as {of.text}")
    of_commit = source.exported(ROOT, work / "source", of)

    packages.python(of_commit, pathlib.Path(sys.executable), made)
    if not given.no_deb:
        packages.debian(of_commit, pathlib.Path(sys.executable), ROOT / "build/deb/wheels", made)
    packages.plugin(of_commit, given.downloads or _NO_DOWNLOADS, made)
    built = images.build(
        of_commit,
        given.architectures.split(","),
        {"IMAGE_PYTHON": sys.executable, "IMAGE_WHEELS": str(ROOT / "build/images/wheels")},
        ROOT / "build/release/layers",
        work,
        made,
    )
    for name, image in built.items():
        command.told(f"pushing {registry.image(name)}:{of.text}")
        images.push(image, registry, name, of.text)
    published = {name: Image(registry.image(name), image.digest) for name, image in built.items()}
    package = charts.build(of_commit, published, work, made)
    command.told(f"pushing the chart to {registry.charts}")
    published["chart"] = charts.push(package, registry)

    references = [f"{image.repository}@{image.digest}" for image in published.values()]
    verifications = signing.verifications(registry, references)
    (made / "RELEASE_NOTES.md").write_text(notes.text(of, of_commit.notes, registry, published, verifications))
    command.told("signing")
    signer = signing.Signer(cosign, key, registry)
    signer.sign(references)
    for name, image in built.items():
        for architecture, digest in image.by_architecture.items():
            materials = made / images.materials(name, of.text, architecture)
            signer.attest(f"{registry.image(name)}@{digest}", materials)
    signer.finish(made)
    shutil.rmtree(dist, ignore_errors=True)
    shutil.move(made, dist)


def check(registry: Registry, given: argparse.Namespace) -> None:
    """Raise with everything at once that would stop the release later."""
    wrong = command.missing(NEEDED)
    unknown = set(given.architectures.split(",")) - set(images.ARCHITECTURES.values())
    if unknown:
        wrong.append(f"ARCHITECTURES: {', '.join(sorted(unknown))} is neither amd64 nor arm64")
    if not registry.is_loopback:
        if not given.key:
            wrong.append(
                "KEY is needed for a registry that others reach: what all of it is signed with; `cosign "
                "generate-key-pair` makes one (docs/releasing.md)"
            )
    elif not answers(registry):
        wrong.append(
            f"no registry answers at {registry.text}; on Debian and Ubuntu `apt-get install docker-registry` brings "
            "one, with Docker `docker run -d -p 127.0.0.1:5000:5000 registry:2`"
        )
    command.fail_with(wrong)


def answers(registry: Registry) -> bool:
    """Whether a registry of this machine speaks, with or without asking who we are."""
    address = registry.text.partition("/")[0]
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 401)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
