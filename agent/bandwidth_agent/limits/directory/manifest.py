"""Parses the text of a manifest file into documents: YAML or JSON as kubectl reads it, within bounds.

Pure: text in, values out; contains nothing about limits. The text is split at its document markers first, so that one
broken document does not hide the others and an unchanged one is not parsed again.

What differs from PyYAML's loaders, and why:
- a key that is written twice is an error, because its author may rely on the value that would be lost;
- dates and sexagesimal numbers (`1:2:3:4`, a valid start of an IPv6 address) stay text, as in kubectl;
- nesting and the expansion of aliases are bounded: libyaml's binding ends the process on deep nesting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import yaml
from yaml._yaml import CParser

MAX_DEPTH = 64
ALIAS_ALLOWANCE = 1000  # nodes that aliases may add beyond one for each character of the text

_MARKER = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)

# What a plain scalar is, by its text: the part of YAML 1.1 that kubectl understands.
_CONSTANTS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)$")
_BASED = re.compile(r"[-+]?0(b[01_]+|o?[0-7_]+|x[0-9a-fA-F_]+)$")
_FLOAT = re.compile(r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))([eE][-+]?[0-9]+)?$")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$")
_MAYBE_NUMBER = frozenset("0123456789+-.")

_PLAIN, _TEXT, _MAP, _SEQUENCE = "plain", "text", "map", "sequence"
_TAGS = {
    "tag:yaml.org,2002:str": _TEXT,
    "tag:yaml.org,2002:map": _MAP,
    "tag:yaml.org,2002:seq": _SEQUENCE,
    **dict.fromkeys((f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "null")), _PLAIN),
}


class UnreadableError(ValueError):
    """A document cannot be read; the message says why. Caught in this package."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line  # of the file, from 1; 0: no certain one


class Chunk(NamedTuple):
    """The text of one document."""

    line: int  # of the file, where the text begins, from 1
    text: str


class Document(NamedTuple):
    line: int
    value: object


def decode(data: bytes) -> str:
    """Return the text of a file; raises UnreadableError if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"it is not UTF-8 text (byte {error.start})") from None


def split(text: str) -> list[Chunk]:
    """Split YAML at its document markers; a marker at the start of a line cannot be anything else, not even quoted.

    Text with directives is not split, because a directive comes before the marker of its document.
    """
    if _DIRECTIVE.search(text):
        return [Chunk(1, text)]
    chunks, line, start = [], 1, 0
    for marker in _MARKER.finditer(text):
        if marker.start() > start:
            chunks.append(Chunk(line, text[start : marker.start()]))
        line += text.count("\n", start, marker.start())
        start = marker.start()
    chunks.append(Chunk(line, text[start:]))
    return chunks


def read_yaml(chunk: Chunk) -> list[Document]:
    """Return the documents of a chunk, nearly always one; none for comments alone. Raises UnreadableError."""
    try:
        return list(_documents(chunk))
    except yaml.MarkedYAMLError as error:
        line = _line(error.problem_mark or error.context_mark, chunk)
        raise UnreadableError(f"no YAML: {error.problem or error.context}", line) from None
    except yaml.YAMLError as error:
        raise UnreadableError(f"no YAML: {' '.join(str(error).split())}", chunk.line) from None


def read_json(text: str) -> list[Document]:
    """Return the one document of a JSON file. Raises UnreadableError."""
    try:
        return [Document(1, json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse))]
    except json.JSONDecodeError as error:
        raise UnreadableError(f"no JSON: {error.msg}, column {error.colno}", error.lineno) from None
    except RecursionError:
        raise UnreadableError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except UnreadableError:
        raise
    except ValueError:
        raise UnreadableError("a number has thousands of digits") from None


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UnreadableError(f"the key {twice!r} is written twice")
    return value


def _refuse(constant: str) -> object:
    raise UnreadableError(f"{constant} is not JSON")


class _Composer(CParser):
    """libyaml's parser with a faster resolver than PyYAML's, and with a bound on nesting."""

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        self._depth = 0

    def resolve(self, kind: type, _value: str, implicit: tuple[bool, bool]) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _TEXT
        return _MAP if kind is yaml.MappingNode else _SEQUENCE

    def descend_resolver(self, _parent: yaml.Node, _index: object) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {MAX_DEPTH} levels")

    def ascend_resolver(self) -> None:
        self._depth -= 1


def _documents(chunk: Chunk) -> Iterator[Document]:
    composer = _Composer(chunk.text)
    while composer.check_node():
        node = composer.get_node()
        if node is None:
            continue
        yield Document(chunk.line + node.start_mark.line, _Values(chunk).value(node))


def _line(mark: yaml.Mark | None, chunk: Chunk) -> int:
    return chunk.line if mark is None else chunk.line + int(mark.line)


class _Values:
    """Turns YAML nodes into plain values, of a bounded number, in which expanded aliases count too."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._budget = len(chunk.text) + ALIAS_ALLOWANCE
        self._depth = 0

    def value(self, node: yaml.Node) -> object:
        self._budget -= 1
        self._depth += 1
        if self._budget < 0 or self._depth > MAX_DEPTH:
            raise UnreadableError("its aliases (*name) expand to too much", self._chunk.line)
        value = self._converted(node)
        self._depth -= 1
        return value

    def _converted(self, node: yaml.Node) -> object:
        tag = _TAGS.get(node.tag, node.tag)
        if tag == _PLAIN and isinstance(node, yaml.ScalarNode):
            return self._plain(node)
        if tag == _TEXT and isinstance(node, yaml.ScalarNode):
            return node.value
        if tag == _SEQUENCE and isinstance(node, yaml.SequenceNode):
            return [self.value(item) for item in node.value]
        if tag == _MAP and isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        raise UnreadableError(f"the tag {node.tag} is not understood here", _line(node.start_mark, self._chunk))

    def _mapping(self, node: yaml.MappingNode) -> dict[str, object]:
        value: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise UnreadableError("a key must be plain text", _line(key_node.start_mark, self._chunk))
            if key == "<<" and key_node.tag == _PLAIN:
                merged |= self._merge(value_node)
            elif key in value:
                raise UnreadableError(f"the key {key!r} is written twice", _line(key_node.start_mark, self._chunk))
            else:
                value[key] = self.value(value_node)
        return merged | value if merged else value

    def _merge(self, node: yaml.Node) -> dict[str, object]:
        """Return the fields that `<<:` merges in; of several mappings the first one wins."""
        merged: dict[str, object] = {}
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = self.value(source)
            if not isinstance(value, dict):
                raise UnreadableError("only a mapping can be merged by <<", _line(source.start_mark, self._chunk))
            merged = value | merged
        return merged

    def _plain(self, node: yaml.ScalarNode) -> object:
        text: str = node.value
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in _MAYBE_NUMBER:
            return text
        try:
            if _INTEGER.match(text):
                return int(text.replace("_", ""))
            if _BASED.match(text):
                return _based(text.replace("_", ""))
            if _FLOAT.match(text):
                return float(text.replace("_", ""))
        except ValueError:
            raise UnreadableError("a number has thousands of digits", _line(node.start_mark, self._chunk)) from None
        if _SPECIAL_FLOAT.match(text):
            return float(text.replace(".", ""))
        return text


def _based(text: str) -> int:
    """Parse a binary, octal (0o17 and the older 017) or hexadecimal number."""
    digits = text.lstrip("+-")
    number = int(digits, 0) if digits[1] in "box" else int(digits, 8)
    return -number if text.startswith("-") else number
