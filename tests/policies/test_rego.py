"""The Rego tests run in both engines, and every rule is covered by them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import regorus

from gateway.resources import POLICIES
from tests.policies.shipped import files

RULE_HEAD = re.compile(r"^(?![ \t}\])#]|package |import |$)")


def rego() -> dict[str, str]:
    return {path: text for path, text in files().items() if path.endswith(".rego")}


def rego_tests() -> Iterator[str]:
    for path, text in rego().items():
        if path.endswith("_test.rego"):
            package = re.search(r"^package (\S+)", text, re.MULTILINE)
            assert package is not None, path
            yield from (f"data.{package[1]}.{name}" for name in re.findall(r"^(test_\w+) if", text, re.MULTILINE))


def loaded() -> Any:
    engine = regorus.Engine()
    engine.set_enable_coverage(True)
    for path, text in rego().items():
        engine.add_policy(path, text)
    engine.set_input_json("{}")
    return engine


def opa(binary: Path, *arguments: str) -> str:
    modules = sorted(str(path) for path in POLICIES.rglob("*.rego"))
    done = subprocess.run([binary, *arguments, *modules], capture_output=True, text=True, check=False, env={})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("rule", sorted(rego_tests()))
def test_each_rego_test_holds_in_the_embedded_engine(rule: str) -> None:
    assert loaded().eval_rule(rule) is True


def test_the_rego_tests_reach_every_rule_in_the_embedded_engine() -> None:
    engine = loaded()
    for rule in rego_tests():
        engine.eval_rule(rule)
    report = json.loads(engine.get_coverage_report_as_json())["files"]
    missed = {file["path"]: file["not_covered"] for file in report if file["not_covered"] and not file["path"].endswith("_test.rego")}
    assert missed == {}
    assert len(report) == len(rego())


def test_each_rego_test_holds_in_opa(opa_binary: Path) -> None:
    results = json.loads(opa(opa_binary, "test", "--format=json"))
    failed = [result["name"] for result in results if result.get("fail") or result.get("error") or result.get("skip")]
    assert failed == []
    assert {f"{result['package']}.{result['name']}" for result in results} == set(rego_tests())


def test_the_rego_tests_reach_every_rule_in_opa(opa_binary: Path) -> None:
    report = json.loads(opa(opa_binary, "test", "--coverage", "--format=json"))
    missed = {path: file["not_covered"] for path, file in report["files"].items() if file.get("not_covered")}
    assert missed == {}


def test_the_policies_pass_opa_check_and_are_formatted(opa_binary: Path) -> None:
    opa(opa_binary, "check", "--strict")
    assert opa(opa_binary, "fmt", "--list") == ""


def test_the_folder_is_the_package() -> None:
    for path, text in rego().items():
        folder = Path(path).parent.as_posix().replace("/", ".")
        suffix = "_test" if path.endswith("_test.rego") else ""
        assert f"package exchange.{folder}{suffix}\n" in text, path


def test_every_package_has_its_test_beside_it() -> None:
    modules = {path for path in rego() if not path.endswith("_test.rego")}
    assert {path.replace(".rego", "_test.rego") for path in modules} <= set(rego())


def test_every_rule_says_what_it_is_about() -> None:
    """Each group of a rule's definitions has METADATA; each definition that gives a reason has its own, with its legal ground."""
    for path, text in rego().items():
        if path.endswith("_test.rego"):
            continue
        described: set[str] = set()
        above = ""
        for line in text.splitlines():
            if line.startswith("#"):
                above += line + "\n"
                continue
            if RULE_HEAD.match(line) and not line.startswith(("}", ")")):
                name = re.match(r"(?:default )?(\w+)", line)
                assert name is not None
                if name[1] in {"deny", "grounds"} or name[1] not in described:
                    assert above.startswith("# METADATA\n# title: "), f"{path}: {line}"
                if name[1] in {"deny", "grounds"}:
                    assert "#   legal_ground: " in above, f"{path}: {line}"
                described.add(name[1])
            above = ""


def test_there_is_one_entry_point() -> None:
    entries = [path for path, text in rego().items() for line in text.splitlines() if line == "# entrypoint: true"]
    assert entries == ["main/main.rego"]
