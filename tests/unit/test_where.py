"""The pages for those who change the code name only places that exist: docs/where.md, the glossary, the rooms."""

from __future__ import annotations

import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("api", "kube", "runtime", "sight", "agent", "operator", "cli", "demo", "bench", "tests/lab")
ROWS = re.findall(r"^\| (….*?) \| (.*) \|$", (ROOT / "docs" / "where.md").read_text(), re.MULTILINE)
GLOSSARY = re.findall(
    r"^\| (.*?) \| (.*) \| (.*) \|$",
    (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Words\n")[2].partition("\n## ")[0],
    re.MULTILINE,
)[2:]


@functools.cache
def modules(*folders: str) -> tuple[pathlib.Path, ...]:
    return tuple(path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))


@functools.cache
def contents(module: pathlib.Path) -> tuple[str, frozenset[str]]:
    """The docstring of a module, and its classes, functions and constants."""
    tree = ast.parse(module.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return ast.get_docstring(tree) or "", frozenset(found)


def defined(path: pathlib.Path) -> set[str]:
    """The classes, functions and constants of a module, and of all modules of a folder."""
    if path.suffix not in ("", ".py"):
        return set()
    found: set[str] = set()
    for module in [path] if path.is_file() else sorted(path.rglob("*.py")):
        found |= contents(module)[1]
    return found


@pytest.mark.parametrize(("wish", "places"), ROWS, ids=[wish for wish, _ in ROWS])
def test_every_place_that_is_named_exists(wish: str, places: str) -> None:
    """Each line of docs/where.md leads to files and folders that exist, and to names that are defined there."""
    named = re.findall(r"`([^`]+)`(?: \(([^)]*)\))?", places)
    paths = [(ROOT / path, note) for path, note in named if "/" in path]
    assert paths, wish
    for path, note in paths:
        assert path.exists(), path
        assert set(re.findall(r"`(\w+)`", note)) <= defined(path), (path, note)


def test_the_page_answers_what_a_stranger_asks_first() -> None:
    """docs/where.md has ten lines or more."""
    assert len(ROWS) >= 10


@pytest.mark.parametrize(("word", "where"), [(word, where) for word, _, where in GLOSSARY])
def test_every_word_of_the_glossary_is_in_the_code(word: str, where: str) -> None:
    """The last column of the glossary names modules, and what they define."""
    for name in re.findall(r"`([^`]+)`", where):
        *module, last = name.split(".")
        candidates = [path for path in modules(*PACKAGES) if path.stem == (module[-1] if module else last)]
        candidates += [
            path.parent for path in modules(*PACKAGES) if path.parent.name == (module[-1] if module else last)
        ]
        assert candidates, (word, name)
        if module:
            assert any(last in defined(path) for path in candidates), (word, name)


def test_every_word_has_one_meaning() -> None:
    """No word is in the glossary twice, and the glossary is in the order of the alphabet."""
    words = [word.lower() for word, _, _ in GLOSSARY]
    assert words == sorted(set(words))
    assert len(words) >= 30


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_and_every_room_is_introduced(path: pathlib.Path) -> None:
    """Every module has a docstring, and that of a package begins with a whole sentence on one line."""
    text, _ = contents(path)
    assert text
    assert path.name != "__init__.py" or text.splitlines()[0].endswith(".")


ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
PROGRAMS = ("agent", "operator", "cli", "sight", "kube", "runtime", "api")


def test_the_architecture_lists_the_rooms_that_exist() -> None:
    """ARCHITECTURE.md has a row for each package, in the words of the package itself, and for no other."""
    listed = dict(re.findall(r"^\| `([a-z]+/bandwidth_[\w/]+)` \| (.*) \|$", ARCHITECTURE, re.MULTILINE))
    packages = [path for path in modules(*PROGRAMS) if path.name == "__init__.py"]
    texts = {path: contents(path)[0] for path in packages}
    assert listed == {str(path.parent.relative_to(ROOT)): text.splitlines()[0] for path, text in texts.items()}


def test_each_rule_of_the_architecture_has_a_test() -> None:
    """Below each rule of ARCHITECTURE.md stand the tests that hold it, which exist."""
    rules = ARCHITECTURE.partition("\n## Rules, each with a test\n")[2].partition("\n## ")[0].strip()
    for number, rule in enumerate(re.split(r"\n(?=\d+\. )", rules), 1):
        named = re.findall(r"`(tests/[\w./]+)` \(([^)]*)\)", rule.partition("\n   — ")[2])
        assert rule.startswith(f"{number}. ")
        assert named, rule
        for path, tests in named:
            assert set(re.findall(r"`(\w+)`", tests)) <= defined(ROOT / path), (path, tests)


def test_the_architecture_speaks_of_modules_that_exist() -> None:
    """Each module, room, function or file that ARCHITECTURE.md names in backquotes is in the code."""
    known = {path.stem for path in modules(*PROGRAMS)} | {path.parent.name for path in modules(*PROGRAMS)}
    known |= {name for folder in (*PROGRAMS, "tests") for name in defined(ROOT / folder)}
    for word in re.findall(r"`([a-z_]+(?:\.[A-Za-z_]+)*|[a-z]+/[\w./-]+)`", ARCHITECTURE):
        if "/" in word:
            assert (ROOT / word).exists(), word
        elif "_" in word or ("." in word and not word.endswith(".toml")):
            assert set(word.split(".")) <= known, word
