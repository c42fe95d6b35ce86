"""The verifier, alone: what it accepts, and where it says that something does not hold."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import verify
from tests.audit.book import Book, Signer, correct, passed, proof, release

PROGRAM = Path(verify.__file__)


def run(folder: Path, book: Book, *words: str) -> dict[str, Any]:
    """What the program says, run as an auditor would: alone."""
    command = [sys.executable, "-I", PROGRAM, folder, "--key", book.signer.vkey, *words]
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode in {0, 1}, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    assert ran.returncode == (0 if found["ok"] else 1)
    return found


def test_the_verifier_is_one_file_under_300_lines_that_needs_cryptography_alone() -> None:
    text = PROGRAM.read_text("utf-8")
    names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {
        name.split(".")[0]
        for node in names
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [it.name for it in node.names])
    }
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}
    assert text.count("\n") < 300


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 600])
def test_a_correct_log_of_any_size_is_accepted(tmp_path: Path, size: int) -> None:
    book = correct()
    del book.lines[size:]
    found = run(book.write(tmp_path), book)
    assert (found["ok"], found["size"], found["opened"], found["hidden"]) == (True, size, size, 0), found


def test_all_that_a_correct_exchange_writes_breaks_no_rule(tmp_path: Path) -> None:
    book = correct()
    assert run(book.write(tmp_path), book)["broken"] == []


def test_a_byte_changed_in_a_leaf_is_found_at_its_index(tmp_path: Path) -> None:
    book = correct()
    book.write(tmp_path)
    bundle = tmp_path / "tile/entries/001"
    data = bytearray(bundle.read_bytes())
    data[30] ^= 1
    bundle.write_bytes(data)
    (broken,) = run(tmp_path, book)["broken"]
    assert (broken["rule"], broken["index"]) == ("tile", 256)


def test_a_release_under_an_old_change_number_is_found_at_its_index(tmp_path: Path) -> None:
    book = correct()
    book.add(passed(9))
    line = book.add(release(8, by="dec_3"))
    (broken,) = run(book.write(tmp_path), book)["broken"]
    assert (broken["rule"], broken["index"], broken["leaf_hash"]) == ("barrier", len(book.lines) - 1, line.hash.hex())


def test_the_next_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    book, state = correct(), tmp_path / "seen.json"
    lines, book.lines = book.lines, book.lines[:300]
    assert run(book.write(tmp_path / "log"), book, "--state", str(state))["opened"] == 300
    book.lines = lines
    (tmp_path / "log/tile/entries/000").unlink(missing_ok=True)
    folder = book.write(tmp_path / "log")
    (folder / "tile/entries/000").unlink()  # it is not read again
    assert run(folder, book, "--state", str(state))["opened"] == len(lines)


def test_entries_without_the_log_are_held_against_the_root_by_their_proofs(tmp_path: Path) -> None:
    book = correct(20)
    hashes = [line.hash for line in book.lines]
    (tmp_path / "checkpoint").write_text(book.note())
    told = [line.told(index, proof=[b64encode(step).decode() for step in proof(index, hashes)]) for index, line in enumerate(book.lines)]
    (tmp_path / "entries.jsonl").write_bytes(b"".join(told))
    found = run(tmp_path, book)
    assert (found["ok"], found["opened"]) == (True, len(hashes)), found


def test_a_quorum_of_witnesses_is_asked_for(tmp_path: Path) -> None:
    one, two, three = (Signer(f"witness.test/{number}", witness=True) for number in range(3))
    policy = tmp_path / "policy"
    lines = [f"witness {name} {key.vkey}" for name, key in zip("abc", (one, two, three), strict=True)]
    policy.write_text("\n".join(["# who watches", *lines, "group two 2 a b c", "quorum two"]))
    book = correct(10)
    book.witnesses = [one, three]
    found = run(book.write(tmp_path / "log"), book, "--policy", str(policy))
    assert (found["ok"], found["witnesses"]) == (True, ["a", "c", "two"])
    book.witnesses = [two]
    (broken,) = run(book.write(tmp_path / "log"), book, "--policy", str(policy))["broken"]
    assert broken["rule"] == "quorum"
