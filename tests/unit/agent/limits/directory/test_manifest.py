"""The text of manifests as values: what kubectl reads, and nothing that hurts."""

from __future__ import annotations

import contextlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.limits.directory import manifest

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co"]), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12
)


def read(text: str) -> list[object]:
    return [d.value for chunk in manifest.split(text) for d in manifest.read_yaml(chunk)]


@given(VALUES)
def test_what_yaml_writes_is_read_back(value: object) -> None:
    """Any plain data comes back as it was."""
    assert read(yaml.safe_dump(value, allow_unicode=True, default_style='"')) == [value]


def _one_line(value: object) -> bool:
    return not set("\u2028\u2029") & set(json.dumps(value, ensure_ascii=False))


@given(VALUES.filter(_one_line))  # to YAML 1.1, unlike JSON, these two break the line
def test_json_is_read_the_same_by_both_readers(value: object) -> None:
    """A JSON file may be called .yaml, as kubectl allows."""
    text = json.dumps(value, ensure_ascii=False)
    assert [d.value for d in manifest.read_json(text)] == [value] == read(text)


@given(st.lists(VALUES, max_size=4), st.booleans())
def test_cut_documents_are_those_of_the_whole(values: list[object], explicit: bool) -> None:
    """Cutting at the markers changes neither the documents nor their number."""
    text = yaml.safe_dump_all(values, allow_unicode=True, explicit_start=explicit, default_style='"')
    assert read(text) == values == list(yaml.safe_load_all(text))


@given(st.text(max_size=60) | st.lists(st.sampled_from("-:[]{}&*!|>'\"%#\n a1"), max_size=40).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but UnreadableError comes out, whatever is put in."""
    with contextlib.suppress(manifest.UnreadableError):
        read(manifest.decode(text.encode("utf-8", "surrogatepass")))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01", "2026-01-01"),
        ("on", True),
        ("0x1f", 31),
        ("010", 8),
        ("0o10", 8),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("~", None),
        ("!!str 5", "5"),
        ("5M", "5M"),
        ("-", "-"),
        (".5", 0.5),
        ("'5'", "5"),
    ],
)
def test_plain_scalars_are_read_as_kubectl_reads_them(text: str, value: object) -> None:
    """Dates and the digits of an IPv6 address stay text; the rest is YAML 1.1."""
    [found] = read(f"- {text}\n" if text != "-" else "['-']")
    assert found == [value]
    assert type(found[0]) is type(value)  # type: ignore[index]


def test_merge_keys_and_aliases_are_understood() -> None:
    """`<<` brings in what is not written itself; of several, the first counts."""
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 0}\n"
    [found] = read(text)
    assert found == {"a": {"x": 1, "y": 1}, "b": {"y": 2, "z": 2}, "c": {"x": 0, "y": 1, "z": 2}}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", 3),
        ("a: 1\n---\nb: [\n", 4),
        ("---\na: 1\n---\nb: 2\nb: 3\n", 5),
        ("a: !!python/object:os.system x\n", 1),
        ("? [a]\n: b\n", 1),
        ("a: 'x\n\n\n", 4),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int) -> None:
    """Lines count from the beginning of the file, not of the document."""
    with pytest.raises(manifest.UnreadableError) as caught:
        read(text)
    assert caught.value.line == line


@pytest.mark.parametrize("piece", ["[", "- ", "{a: ", "- [", "? "])
def test_deep_nesting_is_refused(piece: str) -> None:
    """libyaml's binding recurses in C and would end the process."""
    with pytest.raises(manifest.UnreadableError):
        read(piece * 50_000)


def test_aliases_that_explode_are_refused() -> None:
    """A kilobyte of aliases may stand for more than the memory holds."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(manifest.UnreadableError, match="aliases"):
        read("\n".join(lines))


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": NaN}', "[" * 100_000, "{", "9" * 5000, ""])
def test_bad_json_is_refused(text: str) -> None:
    """The JSON reader is as strict as the YAML reader."""
    with pytest.raises(manifest.UnreadableError):
        manifest.read_json(text)


def test_directives_leave_the_text_whole() -> None:
    """A directive belongs to the marker behind it."""
    assert read("%YAML 1.1\n---\na: 1\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


def test_a_marker_inside_of_text_is_none() -> None:
    """Only a line that begins with three hyphens and a space cuts."""
    assert read("a: |\n  ---\n  x\nb: ---x\n") == [{"a": "---\nx\n", "b": "---x"}]
