"""The embedded engine says what OPA says, on thousands of generated facts, whatever is wrong with them."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.access.answer import checked
from gateway.access.bundle import read_bundle
from gateway.access.decision import PolicyUnavailable
from gateway.access.rego_process import RegoProcess
from tests.access.generated import facts, sheets
from tests.policies.shipped import bundle, parts
from tests.policies.test_reasons import reasons

SEED = 20261123
COUNT = 3000
CHUNK = 500


def by_embedded(modules: dict[str, str], data: dict[str, Any], inputs: list[dict[str, Any]]) -> list[Any]:
    process, _ = RegoProcess.loaded(modules, data)
    try:
        return [process.evaluate("data.exchange.main.decision", given, 5) for given in inputs]
    finally:
        process.end()


def by_opa(binary: Path, folder: Path, revision: bytes, inputs: list[dict[str, Any]]) -> list[Any]:
    """The same evaluations by `opa eval` over the served bundle, many to a process, with strict builtin errors."""
    unpacked = folder / "bundle"
    with tarfile.open(fileobj=io.BytesIO(revision)) as archive:
        archive.extractall(unpacked, filter="data")
    (unpacked / ".signatures.json").unlink()
    answers: list[Any] = []
    for start in range(0, len(inputs), CHUNK):
        (folder / "input.json").write_text(json.dumps(inputs[start : start + CHUNK]))
        query = "[answer | some given in input; answer := data.exchange.main.decision with input as given]"
        command: list[str | Path] = [binary, "eval", "--strict-builtin-errors", "--format=raw", "--bundle", unpacked]
        done = subprocess.run([*command, "--input", folder / "input.json", query], capture_output=True, text=True, check=False, env={})
        assert done.returncode == 0, done.stderr
        answers += json.loads(done.stdout)
    return answers


def answered(document: Any) -> dict[str, Any] | str:
    try:
        return checked(document, "pol_1").document
    except PolicyUnavailable as error:
        return f"no answer: {error}"


@pytest.fixture(scope="module")
def asked() -> list[dict[str, Any]]:
    return list(facts(SEED, COUNT))


@pytest.fixture(scope="module")
def revision() -> bytes:
    return bundle("pol_1", rules=parts()[1]["exchange"]["rules"] | sheets(SEED))


@pytest.fixture(scope="module")
def said(asked: list[dict[str, Any]], revision: bytes) -> list[dict[str, Any] | str]:
    read = read_bundle(revision)
    return [answered(document) for document in by_embedded(read.modules, read.data, asked)]


def test_both_engines_decide_the_same(
    opa_binary: Path, tmp_path: Path, asked: list[dict[str, Any]], revision: bytes, said: list[dict[str, Any] | str]
) -> None:
    others = [answered(document) for document in by_opa(opa_binary, tmp_path, revision, asked)]
    assert len(others) == len(said) == COUNT
    for given, mine, other in zip(asked, said, others, strict=True):
        assert mine == other, json.dumps(given)


def test_every_set_of_facts_gets_an_answer(said: list[dict[str, Any] | str]) -> None:
    assert [answer for answer in said if isinstance(answer, str)] == []


def test_the_generated_facts_meet_every_reason_and_are_allowed_often(said: list[dict[str, Any] | str]) -> None:
    met = Counter(reason["code"] for answer in said if isinstance(answer, dict) for reason in answer["reasons"])
    # `not_proven` is met by a sheet that says neither that consent is required nor that it is not, and that no gate saw.
    assert {said["code"] for _, _, said in reasons()} == set(met)
    assert min(met.values()) >= 3, met
    assert sum(answer["allow"] for answer in said if isinstance(answer, dict)) >= 300


def test_a_refusal_never_has_obligations_and_an_allowance_always_has_a_ground(said: list[dict[str, Any] | str]) -> None:
    grounds = {"owner_publishes", "open_data", "allowed_by_rule_sheet"}
    for answer in said:
        assert isinstance(answer, dict)
        codes = {reason["code"] for reason in answer["reasons"]}
        assert (codes <= grounds) is answer["allow"]
        assert answer["allow"] or answer["obligations"] == []


@pytest.mark.parametrize("check", sorted(path for path in parts()[0] if path.startswith("checks/")))
def test_without_one_of_the_checks_nothing_is_allowed_by_either(
    opa_binary: Path, tmp_path: Path, asked: list[dict[str, Any]], check: str
) -> None:
    modules = {path: text for path, text in parts()[0].items() if path != check}
    some = [given for given in asked if given.get("at") == "2026-11-23T12:00:00Z"][:CHUNK]
    mine = [answered(document) for document in by_embedded(modules, parts()[1], some)]
    others = [answered(document) for document in by_opa(opa_binary, tmp_path, bundle("pol_1", modules), some)]
    assert mine == others
    assert not any(isinstance(answer, dict) and answer["allow"] for answer in mine)
