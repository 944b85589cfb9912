"""An image as files: the OCI layout of what docker built, for one or several architectures, without a trace of when.

What docker writes of the build itself (times, container ids, its version) is left out, so that the same contents have
the same digest.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import pathlib
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

from bandwidth_release import archives

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_OURS = "opt/client-bandwidth"
_KEPT = ("Cmd", "Entrypoint", "Env", "Labels", "User", "WorkingDir")

Json = dict[str, Any]


class Times(NamedTuple):
    """Seconds since 1970 that nothing in an image is newer than: our files, and those of the base."""

    ours: int
    base: int

    def latest(self, path: str) -> int:
        """The time that a path in a layer has at most."""
        return self.ours if _is_ours(path) else self.base


class Layout:
    """A folder in the form of the OCI image layout, made anew."""

    def __init__(self, folder: pathlib.Path, cache: pathlib.Path) -> None:
        self.folder = folder
        self._cache = cache  # layers that were compressed before, by what they are made from
        self._blobs = folder / "blobs/sha256"
        shutil.rmtree(folder, ignore_errors=True)
        self._blobs.mkdir(parents=True)
        cache.mkdir(parents=True, exist_ok=True)
        self._manifests: list[Json] = []

    def add(self, saved: pathlib.Path, times: Times) -> Json:
        """Take the one image of an archive of `docker save`; its descriptor."""
        with tarfile.open(saved) as archive:
            (described,) = json.loads(_read(archive, "manifest.json"))
            config = json.loads(_read(archive, described["Config"]))
            ids = config["rootfs"]["diff_ids"]
            layers = [
                self._layer(archive, name, identity, times)
                for name, identity in zip(described["Layers"], ids, strict=True)
            ]
        written = self._json(_plain_config(config, layers, times.ours))
        manifest = self._json(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {"mediaType": _CONFIG, **written},
                "layers": [{"mediaType": _LAYER, "digest": one.digest, "size": one.size} for one in layers],
                "annotations": _annotations(config),
            }
        )
        platform = {key: config[key] for key in ("architecture", "os", "variant") if config.get(key)}
        descriptor = {"mediaType": _MANIFEST, **manifest, "platform": platform}
        self._manifests.append(descriptor)
        return descriptor

    def finish(self, tag: str, annotations: Mapping[str, str]) -> str:
        """Write the index of all that was added, under a tag; its digest."""
        index = self._json(
            {
                "schemaVersion": 2,
                "mediaType": _INDEX,
                "manifests": self._manifests,
                "annotations": dict(annotations),
            }
        )
        named = {"mediaType": _INDEX, **index, "annotations": {"org.opencontainers.image.ref.name": tag}}
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
        return str(index["digest"])

    def _layer(self, archive: tarfile.TarFile, name: str, identity: str, times: Times) -> archives.Layer:
        """A layer in the layout, made or taken from the cache: that of the base takes longest, and stays the same."""
        key = hashlib.sha256(f"{identity} {times.base}".encode()).hexdigest()[:32]
        kept, facts = self._cache / f"{key}.tar.gz", self._cache / f"{key}.json"
        known = json.loads(facts.read_text()) if facts.exists() else {}
        if known and known["ours"] in (None, times.ours):
            layer = archives.Layer(kept, known["diff_id"], known["digest"], kept.stat().st_size)
        else:
            facts.unlink(missing_ok=True)
            paths: set[str] = set()

            def latest(path: str) -> int:
                paths.add(path)
                return times.latest(path)

            with _open(archive, name) as source:
                layer = archives.rewritten(source, kept, latest)
            ours = times.ours if any(_is_ours(path) for path in paths) else None
            facts.write_text(json.dumps({"diff_id": layer.diff_id, "digest": layer.digest, "ours": ours}))
        blob = self._blobs / layer.digest.removeprefix("sha256:")
        if not blob.exists():
            shutil.copyfile(kept, blob)
        return layer

    def _json(self, document: Json) -> Json:
        content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        digest = hashlib.sha256(content).hexdigest()
        (self._blobs / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}


def _is_ours(path: str) -> bool:
    within = path.removeprefix("./")
    return within == _OURS or within.startswith(f"{_OURS}/")


def _plain_config(config: Json, layers: Sequence[archives.Layer], time: int) -> Json:
    """The configuration without what docker says of the build."""
    created = datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat().replace("+00:00", "Z")
    plain: Json = {key: config[key] for key in ("architecture", "os", "variant") if config.get(key)}
    plain["created"] = created
    plain["config"] = {key: value for key in _KEPT if (value := config["config"].get(key))}
    plain["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    told = [step for step in config.get("history", []) if not step.get("empty_layer")]
    plain["history"] = [{"created": created, "created_by": step.get("created_by", "")} for step in told]
    return plain


def _annotations(config: Json) -> dict[str, str]:
    """The labels in the words of OCI, which registries show."""
    labels = config["config"].get("Labels") or {}
    return {key: value for key, value in labels.items() if key.startswith("org.opencontainers.image.")}


def _open(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    if file is None:
        raise LookupError(f"the archive of docker save has no file {name}")
    return file


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    with _open(archive, name) as file:
        return file.read()
