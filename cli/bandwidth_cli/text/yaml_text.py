"""JSON values as YAML, as `kubectl -o yaml` writes them. Writes only: nothing here reads YAML. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# What YAML 1.1 and 1.2 read as text without quotes, and nothing else of the same form.
_PLAIN = re.compile(
    r"[A-Za-z_/][A-Za-z0-9_./@%+-]*(?: [A-Za-z0-9_./@%+(-][A-Za-z0-9_./@%+(),;-]*)*"
    r"|[0-9]{1,6}(?:\.[0-9]{1,3})?[kKmMgG]bit"  # a rate
)
_NOT_TEXT = frozenset(["y", "n", "yes", "no", "true", "false", "on", "off", "null"])


def lines(value: Any) -> list[str]:
    """Return the lines of one document."""
    return list(_block(value, ""))


def _block(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _entry(f"{indent}{_scalar(str(key))}:", item, indent)
    elif isinstance(value, list) and value:
        for item in value:
            first, *rest = _block(item, f"{indent}  ")
            yield f"{indent}- {first[len(indent) + 2 :]}" if _nested(item) else f"{indent}- {_scalar(item)}"
            yield from rest
    else:
        yield f"{indent}{_scalar(value)}"


def _entry(head: str, item: Any, indent: str) -> Iterator[str]:
    if not _nested(item):
        yield f"{head} {_scalar(item)}"
        return
    yield head
    yield from _block(item, indent if isinstance(item, list) else f"{indent}  ")


def _nested(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
