"""Reads what an API server answers: JSON objects, lists of named objects, lines; each of bounded size.

Owns the bounds on the bytes as received and as unpacked, and the accepted forms. Raises ValueError for everything
else, however deep or large; never sends anything.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any, NoReturn

import urllib3

Object = dict[str, Any]

_CHUNK_BYTES = 1 << 16
_GZIP = zlib.MAX_WBITS | 16


def body(answer: urllib3.BaseHTTPResponse, most: int) -> bytes:
    """Return the whole body, unpacked; for more than `most` bytes close the connection and raise ValueError."""
    try:
        return b"".join(_pieces(answer, most))
    except BaseException:
        answer.close()
        raise


def lines(answer: urllib3.BaseHTTPResponse, most: int) -> Iterator[bytes]:
    """Yield the lines of a stream, each of at most `most` bytes; an incomplete last line is ignored."""
    rest: list[bytes] = []
    held = 0
    while piece := answer.read1(_CHUNK_BYTES, decode_content=False):
        head, *others = piece.split(b"\n")
        rest.append(head)
        held += len(head)
        if held > most:
            raise ValueError(f"a line of more than {most} bytes")
        for other in others:
            if held:
                yield b"".join(rest)
            rest, held = [other], len(other)


def encoded(item: Object) -> bytes:
    return json.dumps(item, separators=(",", ":")).encode()


def decoded(data: bytes) -> Object:
    """Parse a JSON object; raises ValueError for everything else."""
    try:
        found = _DECODER.decode(data.decode())
    except RecursionError:
        raise ValueError("the answer is no JSON that anything of ours writes: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"the answer is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("the answer is JSON, but not an object")
    return found


def listed(answer: Object) -> tuple[list[Object], str, str, int | None]:
    """Return the items of a list, its resource version, the token of the next page ("" on the last), and how many
    objects follow (None where the server does not report it)."""
    metadata, items = answer.get("metadata"), answer.get("items")
    if "items" not in answer or not isinstance(items, (list, type(None))) or not isinstance(metadata, dict):
        raise ValueError("the answer is no list of objects")
    for item in items or ():
        if not isinstance(item, dict) or not _name(item):
            raise ValueError("the answer is a list with something in it that is no object with a name")
    version, more = metadata.get("resourceVersion") or "", metadata.get("continue") or ""
    if not isinstance(version, str) or not isinstance(more, str):
        raise ValueError("the answer is a list with a version that is no text")
    remaining = metadata.get("remainingItemCount", None if more else 0)
    return items or [], version, more, remaining if type(remaining) is int else None


def _name(item: Object) -> str:
    """Return the name of an object; "" if it has none."""
    metadata = item.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _pieces(answer: urllib3.BaseHTTPResponse, most: int) -> Iterator[bytes]:
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise ValueError(f"the answer is packed by {encoding!r}, which nobody asked for")
    unpacking = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
    size = 0
    while chunk := answer.read1(_CHUNK_BYTES, decode_content=False):
        try:
            piece = chunk if unpacking is None else unpacking.decompress(chunk, most - size + 1)
        except zlib.error as error:
            raise ValueError(f"the answer cannot be unpacked: {error}") from error
        size += len(piece)
        if size > most:
            raise ValueError(f"the answer has more than {most} bytes")
        yield piece
    if unpacking is not None and not unpacking.eof:
        raise ValueError("the answer cannot be unpacked: it is cut off")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


_DECODER = json.JSONDecoder(parse_constant=_no_number)
