"""The house holds its shape: caps, names, places, and what no tracked file may say (design sections 4 and 8)."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TypeVar

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gateway", "consent", "connectors", "tests")
CAPPED = {".py", ".rego", ".js", ".cjs", ".mjs", ".html", ".css"}
FILE_LINES, FUNCTION_LINES, CLASS_LINES = 400, 50, 200
TOP_LEVEL = {
    *("gateway", "consent", "connectors", "policies", "schemas", "deploy", "docs", "tests", ".ci"),
    *("pyproject.toml", "requirements.txt", "requirements-dev.txt", "Makefile"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"),
    *(".gitignore", ".gitattributes", ".editorconfig"),
}
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "service", "services", "manager", "managers", "base"}
EMPTY_CLASS = re.compile(r"(Manager|Factory|Impl|Service|Helper|Utils?)$")

Node = TypeVar("Node", bound=ast.AST)

# Written in parts, so that this file does not say what it forbids.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("maven", "org"),
        ("maven", "apache", "org/maven2"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("crates", "io"),
        ("deb", "debian", "org"),
    )
]
# Where people and sessions keep their things; a path in a URL has something before its slash.
PRIVATE_FOLDER = re.compile(r"(?<![\w.:/*~}-])/(?:" + "|".join(("home", "root", "Users", "wo" + "rk", "fa" + "rm")) + r")/\w")


@cache
def files() -> tuple[Path, ...]:
    """What is tracked, or will be at the next commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    found = (ROOT / name for name in listed.stdout.split("\0") if name)
    return tuple(path for path in found if path.is_file())


@cache
def modules() -> dict[str, ast.Module]:
    """The Python of the project by its path from the root."""
    named = {path.relative_to(ROOT).as_posix(): path for path in files() if path.suffix == ".py"}
    return {name: ast.parse(path.read_text("utf-8")) for name, path in named.items()}


def length(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Lines from `def` or `class` to its end; decorators are not counted."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def nodes(kind: type[Node]) -> Iterator[tuple[str, Node]]:
    """Every node of a kind, with the module that it is in."""
    return ((name, node) for name, tree in modules().items() for node in ast.walk(tree) if isinstance(node, kind))


def of_session(node: ast.Attribute) -> bool:
    return ast.unparse(node.value).lower().endswith("session")


def test_there_is_something_to_check() -> None:
    assert {name.split("/")[0] for name in modules()} >= set(PACKAGES)


def test_no_file_is_too_long() -> None:
    capped = (path for path in files() if path.suffix in CAPPED and "vendor" not in path.parts)
    lines = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8").count("\n") for path in capped}
    assert {name: count for name, count in lines.items() if count > FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    found: Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]] = chain(nodes(ast.FunctionDef), nodes(ast.AsyncFunctionDef))
    lines = {f"{name}:{node.lineno} {node.name}": length(node) for name, node in found}
    assert {name: count for name, count in lines.items() if count > FUNCTION_LINES} == {}


def test_no_class_is_too_long() -> None:
    lines = {f"{name}:{node.lineno} {node.name}": length(node) for name, node in nodes(ast.ClassDef)}
    assert {name: count for name, count in lines.items() if count > CLASS_LINES} == {}


def test_no_name_says_nothing() -> None:
    empty_files = [name for name in modules() if Path(name).stem in EMPTY_NAMES]
    empty_classes = [f"{name}: {node.name}" for name, node in nodes(ast.ClassDef) if EMPTY_CLASS.search(node.name)]
    assert empty_files + empty_classes == []


def test_the_top_level_is_fixed() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in files()} - TOP_LEVEL == set()


def test_only_the_database_and_the_audit_log_commit() -> None:
    allowed = ("gateway/database.py", "gateway/audit/", "tests/")
    found = [f"{name}:{node.lineno}" for name, node in nodes(ast.Attribute) if node.attr == "commit" and of_session(node)]
    assert [place for place in found if not place.startswith(allowed)] == []


@pytest.mark.parametrize("host", REGISTRY_HOSTS)
def test_no_file_names_the_host_of_a_registry(host: str) -> None:
    assert [path.relative_to(ROOT).as_posix() for path in files() if host.encode() in path.read_bytes()] == []


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    found = []
    for path in files():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}..." for match in PRIVATE_FOLDER.finditer(text)]
    assert found == []


def test_the_locks_agree() -> None:
    def pinned(name: str) -> set[str]:
        return set(re.findall(r"^[\w.-]+==\S+", (ROOT / name).read_text("utf-8"), re.MULTILINE))

    assert pinned("requirements.txt") - pinned("requirements-dev.txt") == set()
