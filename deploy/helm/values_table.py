"""The values of the chart as tables in Markdown, made from the comments of values.yaml and the types of its schema.

    python deploy/helm/values_table.py PAGE    # "chart": the README of the chart; "docs": docs/reference/values.md

A comment above a key is its description; one above a block describes the block. Reads the chart, writes to stdout.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

CHART = pathlib.Path(__file__).parent / "client-bandwidth-operator"

HEADS = {
    "chart": """\
# client-bandwidth-operator

Slows one client down instead of blocking it, on every node of a Kubernetes cluster: somebody takes too much of an
uplink, and blocking a paying customer would be wrong. You write who may have how much, until when and why; within a
second the Linux kernel of every node slows exactly that client and no other one.

```yaml
apiVersion: clientbandwidth.io/v1alpha1
kind: ClientBandwidthLimit
metadata:
  name: mail-loop
spec:
  clients: [203.0.113.10, "2001:db8:7::/48"]
  egress:
    rate: 5Mbit
  ttlSeconds: 86400
  reason: mailbox sync loop, ticket 4711
```

It needs Kubernetes 1.31 or newer and Linux nodes. There is one installation per cluster, in a namespace of any name.
`helm test` says whether every node answers; `helm uninstall` first has every node remove what is ours from its kernel.

## Values

A value that is not here, or is of the wrong form, is refused with its name.
""",
    "docs": """\
# Values of the chart

Every value of the Helm chart, with its default. A value that is not here, or is of the wrong form, is refused with its
name. What to set before it matters: [install](../install.md#what-to-set-before-it-matters).
""",
}


class Row(NamedTuple):
    """One value: its path, its types by the schema, its default as YAML in one line, and what it does."""

    path: str
    types: str
    default: str
    description: str


class Block(NamedTuple):
    """A heading, the description below it, and its values; `title` is the first part of their paths, or ""."""

    title: str
    description: str
    rows: list[Row]


def comment_above(lines: list[str], number: int) -> str:
    """The comment that ends right above a line, as one paragraph."""
    found: list[str] = []
    indent = len(lines[number]) - len(lines[number].lstrip())
    while number and lines[number - 1].startswith(" " * indent + "#"):
        number -= 1
        found.insert(0, lines[number].strip().lstrip("#").strip())
    return " ".join(found)


def default_of(node: yaml.Node) -> str:
    """A default in one line: as it is written, or where that takes several lines as one would write it in one."""
    first, last = node.start_mark, node.end_mark
    if first.line == last.line:
        return first.buffer[first.pointer : last.pointer]
    text = yaml.safe_dump(yaml.safe_load(yaml.serialize(node)), default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n")


def types_of(rules: dict[str, Any]) -> str:
    """The types that a schema allows, for people."""
    found = rules.get("type") or [each.get("type", "") for each in rules.get("anyOf") or rules.get("oneOf") or ()]
    names = [found] if isinstance(found, str) else list(dict.fromkeys(found))
    if "enum" in rules and not names:
        names = ["string"]
    return " or ".join("list" if name == "array" else name for name in names)


def rows(node: yaml.MappingNode, lines: list[str], rules: dict[str, Any], path: str, above: str = "") -> Iterator[Row]:
    """The values of one mapping; `above` describes the block that they are in, and stands before the first."""
    for number, (key, value) in enumerate(node.value):
        name, below = f"{path}{key.value}", rules["properties"][key.value]
        said = comment_above(lines, key.start_mark.line)
        if isinstance(value, yaml.MappingNode) and "properties" in below and key.value != "resources":
            yield from rows(value, lines, below, f"{name}.", said)
            continue
        description = said or below["description"]
        yield Row(name, types_of(below), default_of(value), description if number else f"{above} {description}".strip())


def blocks(text: str, schema: dict[str, Any]) -> list[Block]:
    """All values in the order of values.yaml: those without a block of their own first."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise TypeError("values.yaml holds no mapping")
    lines, alone, found = text.splitlines(), Block("", "", []), []
    for key, value in root.value:
        rules = schema["properties"][key.value]
        if isinstance(value, yaml.MappingNode):
            said = comment_above(lines, key.start_mark.line)
            found.append(Block(key.value, said, list(rows(value, lines, rules, f"{key.value}."))))
        else:
            single = yaml.MappingNode(root.tag, [(key, value)], root.start_mark, root.end_mark)
            alone.rows.extend(rows(single, lines, schema, ""))
    return [alone, *found]


def prose(text: str, kind: str) -> str:
    """A description as it stands in a page or a cell of a table; in the documentation with links to its pages."""
    text = text.replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"docs/([\w-]+\.md)", r"[docs/\1](../\1)", text) if kind == "docs" else text


def page(kind: str) -> str:
    """The whole page, "chart" or "docs"."""
    text, schema = (CHART / "values.yaml").read_text(), json.loads((CHART / "values.schema.json").read_text())
    parts = [HEADS[kind]]
    for block in blocks(text, schema):
        if block.title:
            parts.append(f"{'###' if kind == 'chart' else '##'} {block.title}\n")
        if block.description:
            parts.append(f"{prose(block.description, kind)}\n")
        table = ["| value | type | default | what it does |", "|---|---|---|---|"]
        for row in block.rows:
            default = f"`{row.default}`".replace("|", "\\|")
            table.append(f"| `{row.path}` | {row.types} | {default} | {prose(row.description, kind)} |")
        parts.append("\n".join(table) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1]))
