"""Every word of the pages is there in both languages, and is used."""

from __future__ import annotations

import hashlib
import re
import string
from pathlib import Path

from gateway.console.words import LANGUAGES, words

CONSOLE = Path(__file__).resolve().parents[2] / "gateway" / "console"
SOURCES = "\n".join(path.read_text("utf-8") for pattern in ("*.py", "templates/*") for path in sorted(CONSOLE.glob(pattern)))
KEYS = set(re.findall(r"""["']([a-z_]+(?:\.[a-z_0-9]+)*\.[a-z_0-9-]+)["']""", SOURCES))
PREFIXES = tuple(re.findall(r"""["']([a-z_]+(?:\.[a-z_]+)*\.)["'] ~""", SOURCES) + re.findall(r'f"([a-z_]+(?:\.[a-z_]+)*\.)\{', SOURCES))


def fields(word: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(word) if name}


def test_each_word_is_there_in_both_languages_and_fills_in_the_same() -> None:
    for key, told in words().items():
        assert all(told[language].strip() for language in LANGUAGES), key
        english, french = (fields(told[language]) for language in LANGUAGES)
        assert english == french or (key.endswith(".one") and english | {"count"} == french | {"count"}), key


def test_each_word_is_used() -> None:
    plural = {key.rpartition(".")[0]: key for key in words() if key.endswith((".one", ".many"))}
    unused = [
        key for key in words() if key not in KEYS and not key.startswith(PREFIXES) and key.rpartition(".")[0] not in KEYS & set(plural)
    ]
    assert unused == []


def test_each_word_that_is_used_is_there() -> None:
    sections = {key.partition(".")[0] for key in words()}
    plural = {key.rpartition(".")[0] for key in words() if key.endswith(".one")}
    files = {path.name for path in CONSOLE.rglob("*")}
    asked = {key for key in KEYS if key.partition(".")[0] in sections} - files
    assert sorted(asked - set(words()) - plural) == []


def test_files_of_others_are_what_the_table_says() -> None:
    vendor = CONSOLE / "static" / "vendor"
    table = dict(re.findall(r"^\| `([\w.]+)` .*`([0-9a-f]{64})` \|$", (vendor / "README.md").read_text("utf-8"), re.MULTILINE))
    assert {name: hashlib.sha256((vendor / name).read_bytes()).hexdigest() for name in table} == table
    assert set(table) | {"README.md", "htmx.LICENSE", "pico.LICENSE"} == {path.name for path in vendor.iterdir()}
