"""Images and archives whose bytes follow from their contents, whenever and however docker made them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pathlib
import tarfile
from collections.abc import Sequence
from typing import Any

from bandwidth_release import archives, layout

TIMES = layout.Times(ours=2000, base=1000)
OURS = "opt/client-bandwidth/lib/module.py"


def layer(entries: Sequence[tuple[str, bytes | str, float]], **headers: str) -> bytes:
    """An uncompressed layer with files and, where the content is a text, hard links to what it names."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, content, time in entries:
            entry = tarfile.TarInfo(name)
            entry.mtime, entry.mode, entry.pax_headers = time, 0o640, dict(headers)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.LNKTYPE, content
                file.addfile(entry)
            else:
                entry.size = len(content)
                file.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def saved(path: pathlib.Path, layers: Sequence[bytes], **build: Any) -> pathlib.Path:
    """What `docker save` writes of an image that was built with these layers."""
    ids = [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]
    config = {
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "config": {"Env": ["A=B"], "Labels": {"org.opencontainers.image.title": "x", "other": "y"}, "Hostname": "h"},
        "rootfs": {"type": "layers", "diff_ids": ids},
        "history": [{"created_by": f"layer {n}", **build} for n in range(len(layers))]
        + [{"created_by": "ENV", "empty_layer": True, **build}],
        **build,
    }
    files = {f"blobs/sha256/{n}": one for n, one in enumerate(layers)}
    files["config"] = json.dumps(config).encode()
    files["manifest.json"] = json.dumps([{"Config": "config", "Layers": sorted(set(files) - {"config"})}]).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def entries(packed: pathlib.Path) -> list[tarfile.TarInfo]:
    with tarfile.open(packed) as archive:
        return archive.getmembers()


def test_a_layer_is_the_same_whenever_it_was_built(tmp_path: pathlib.Path) -> None:
    """What a build made has the time of the commit, of ours, or that of the base; what is older keeps its own."""
    digests = set()
    for moment in (5000.25, 7000.5):
        plain = layer(
            [("etc/old", b"o", 10), ("etc/new", b"n", moment), (OURS, b"m", moment), ("etc/link", "etc/new", moment)],
            atime=str(moment),
            **{"SCHILY.xattr.user.a": "kept"},
        )
        made = archives.rewritten(io.BytesIO(plain), tmp_path / "layer.tar.gz", TIMES.latest)
        digests.add((made.digest, made.diff_id))
    assert len(digests) == 1
    found = entries(tmp_path / "layer.tar.gz")
    assert [(one.name, one.mtime, one.mode) for one in found] == [
        ("etc/old", 10, 0o640),
        ("etc/new", 1000, 0o640),
        (OURS, 2000, 0o640),
        ("etc/link", 1000, 0o640),
    ]
    assert (found[-1].type, found[-1].linkname) == (tarfile.LNKTYPE, "etc/new")
    assert all(one.pax_headers == {"SCHILY.xattr.user.a": "kept"} for one in found)


def test_a_layer_says_what_it_is(tmp_path: pathlib.Path) -> None:
    """Its digest is that of the file, its diff id that of what is in it."""
    made = archives.rewritten(io.BytesIO(layer([("a", b"b", 1)])), tmp_path / "x", TIMES.latest)
    content = made.path.read_bytes()
    assert made.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert made.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(content)).hexdigest()}"
    assert made.size == len(content)


def test_an_image_is_the_same_whenever_it_was_built(tmp_path: pathlib.Path) -> None:
    """Times, containers and the version of docker leave no trace in the digest of its index."""
    digests = set()
    for moment, cache in ((5000, "one"), (6000, "two"), (6000, "two")):
        made = layout.Layout(tmp_path / "layout", tmp_path / cache)
        layers = [layer([("etc/new", b"n", moment)]), layer([(OURS, b"m", moment)])]
        made.add(saved(tmp_path / "saved", layers, created=f"at {moment}", container=str(moment)), TIMES)
        digests.add(made.finish("1.0.0", {"a": "b"}))
    assert len(digests) == 1


def test_a_layout_holds_what_it_names(tmp_path: pathlib.Path) -> None:
    """From the index to the layers each descriptor leads to a file of that size and digest."""
    made = layout.Layout(tmp_path / "layout", tmp_path / "cache")
    made.add(saved(tmp_path / "saved", [layer([("etc/a", b"a", 1)]), layer([(OURS, b"m", 1)])]), TIMES)
    digest = made.finish("1.0.0", {})

    def read(descriptor: dict[str, Any]) -> bytes:
        content = (tmp_path / "layout/blobs/sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes()
        assert hashlib.sha256(content).hexdigest() == descriptor["digest"].removeprefix("sha256:")
        assert len(content) == descriptor["size"]
        return content

    (top,) = json.loads((tmp_path / "layout/index.json").read_text())["manifests"]
    assert top["digest"] == digest
    (one,) = json.loads(read(top))["manifests"]
    assert one["platform"] == {"architecture": "arm64", "os": "linux", "variant": "v8"}
    manifest = json.loads(read(one))
    assert manifest["annotations"] == {"org.opencontainers.image.title": "x"}
    config = json.loads(read(manifest["config"]))
    assert config["config"] == {"Env": ["A=B"], "Labels": {"org.opencontainers.image.title": "x", "other": "y"}}
    plain = [gzip.decompress(read(descriptor)) for descriptor in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in plain]
    assert len(config["history"]) == len(plain) == 2


def test_the_layer_of_the_base_is_made_once(tmp_path: pathlib.Path) -> None:
    """A later commit takes it from the cache, with the digest that it had; what is ours is made anew."""
    layers = [layer([("etc/a", b"a", 5000)]), layer([(OURS, b"m", 5000)])]
    saved(tmp_path / "saved", layers)
    blobs = []
    for ours in (2000, 3000):
        made = layout.Layout(tmp_path / "layout", tmp_path / "cache")
        made.add(tmp_path / "saved", layout.Times(ours, 1000))
        blobs.append({path.name for path in (tmp_path / "layout/blobs/sha256").iterdir()})
    base = archives.rewritten(io.BytesIO(layers[0]), tmp_path / "base", TIMES.latest).digest.removeprefix("sha256:")
    assert base in blobs[0] & blobs[1]
    assert len(blobs[0] & blobs[1]) == 1


def test_an_archive_follows_from_its_files(tmp_path: pathlib.Path) -> None:
    """The order, the times and the owners of the chart's and the plugin's files are always the same."""
    program = tmp_path / "program"
    program.write_bytes(b"run")
    program.chmod(0o711)
    archives.packed({"b/program": program, "a": b"text"}, tmp_path / "one.tgz", 7)
    assert [(e.name, e.mtime, e.mode, e.uid, e.uname) for e in entries(tmp_path / "one.tgz")] == [
        ("a", 7, 0o644, 0, ""),
        ("b/program", 7, 0o755, 0, ""),
    ]
    with tarfile.open(tmp_path / "shuffled.tgz", "w:gz") as other:
        for name in ("b/program", "a"):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = 2, 99
            other.addfile(entry, io.BytesIO(b"xy"))
    archives.repacked(tmp_path / "shuffled.tgz", tmp_path / "again.tgz", 7)
    archives.packed({"a": b"xy", "b/program": b"xy"}, tmp_path / "expected.tgz", 7)
    assert (tmp_path / "again.tgz").read_bytes() == (tmp_path / "expected.tgz").read_bytes()
