"""The bill of materials is the lock: every package that production installs, and the same file from the same lock."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def recipe() -> list[str]:
    """The words of `make sbom` behind the program's name, without its last two, which say where to write."""
    text = (ROOT / "Makefile").read_text("utf-8")
    found = re.search(r"cyclonedx-py (requirements (?:.*\\\n)*.*)", text)
    assert found
    return found[1].replace("\\\n", " ").split()[:-2]


def written(folder: Path, name: str) -> bytes:
    file = folder / name
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", *recipe(), "--output-file", str(file)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return file.read_bytes()


def test_every_locked_package_is_in_the_bill_of_materials(tmp_path: Path) -> None:
    first = written(tmp_path, "first.json")
    assert first == written(tmp_path, "second.json")
    bill = json.loads(first)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    locked = set(re.findall(r"^([\w.-]+)==([\w.!+-]+)", (ROOT / "requirements.txt").read_text("utf-8"), re.MULTILINE))
    assert {(part["name"], part["version"]) for part in bill["components"]} == locked
    assert all(part["externalReferences"] or part["purl"] for part in bill["components"])
