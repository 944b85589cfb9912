"""Authorities and certificates of all sorts, made by openssl for a test; each is valid for nothing else."""

from __future__ import annotations

import pathlib
import subprocess

# What an authority usually says of itself, and what a server or a client says.
USUAL_CA = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign", "subjectKeyIdentifier=hash")
USUAL_LEAF = ("basicConstraints=CA:FALSE", "authorityKeyIdentifier=keyid")
OVER = ("20200101000000Z", "20210101000000Z")
LONG = ("20200101000000Z", "20991231000000Z")


class Authority:
    """A certificate with its key, and what it issues."""

    def __init__(
        self,
        folder: pathlib.Path,
        name: str,
        extensions: tuple[str, ...] = USUAL_CA,
        issuer: Authority | None = None,
        valid: tuple[str, str] = LONG,
        subject: str | None = None,
        key: pathlib.Path | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.certificate, self.key = folder / f"{name}.crt", key or folder / f"{name}.key"
        self._folder = folder
        request, wanted, database = (folder / f"{name}.{end}" for end in ("csr", "ext", "db"))
        keyed = ("-key", self.key) if key else ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        _openssl(
            "req", "-new", *keyed, "-nodes", "-keyout", self.key, "-out", request, "-subj", f"/CN={subject or name}"
        )
        database.mkdir(exist_ok=True)
        (database / "index").write_text("")
        wanted.write_text(
            "[ca]\ndefault_ca=it\n[it]\n"
            f"database={database}/index\nnew_certs_dir={database}\nrand_serial=yes\n"
            "default_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n[ext]\n"
            + "\n".join(extensions)
        )
        by = ("-cert", issuer.certificate, "-keyfile", issuer.key) if issuer else ("-selfsign", "-keyfile", self.key)
        named = ("-extensions", "ext") if extensions else ()
        start, end = valid
        _openssl(
            *("ca", "-batch", "-notext", "-config", wanted, "-in", request, "-out", self.certificate),
            *("-startdate", start, "-enddate", end, *named, *by),
        )

    @property
    def pem(self) -> str:
        return self.certificate.read_text()

    def issue(
        self, name: str, san: str = "IP:127.0.0.1", extensions: tuple[str, ...] = USUAL_LEAF, **more: tuple[str, str]
    ) -> Authority:
        """A certificate of a server or a client."""
        named = (f"subjectAltName={san}",) if san else ()
        return Authority(self._folder, name, (*extensions, *named), self, **more)


def _openssl(*words: str | pathlib.Path) -> None:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
