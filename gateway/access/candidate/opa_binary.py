"""The OPA program, run over a candidate: a process each, with limits on memory, time and processors, in a bare environment.

Never the OPA that decides. What a candidate may call is an allow-list (`capabilities`), so that nothing here reaches the network, the
environment or a clock, whatever its tests say.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.access.bundle import served
from gateway.access.decision import ENTRYPOINT
from gateway.access.vetting import ALLOWED_BUILTINS, Finding
from gateway.resources import SCHEMAS

WALL_S = 15.0
CPU_S = 5
MEMORY_KIB = 3 * 1024 * 1024
"""Of addresses; what Go really takes is bounded by GOMEMLIMIT."""
_ENVIRONMENT = {"GOMEMLIMIT": "256MiB", "GOMAXPROCS": "1", "HOME": "/nonexistent"}
_LIMITED = f'ulimit -v {MEMORY_KIB}; ulimit -t {CPU_S}; ulimit -c 0; exec "$@"'
CHUNK = 500


class OpaFailed(Exception):
    """OPA did not end well or in time, and said nothing that could be read."""


def find_opa(named: str) -> Path | None:
    """The program of this name or path, if it is there."""
    found = shutil.which(named) if named else None
    return Path(found) if found else None


@contextmanager
def unpacked(files: Mapping[str, str]) -> Iterator[Path]:
    """The files of a candidate in a folder, with its rule sheets as OPA's data."""
    with tempfile.TemporaryDirectory(prefix="exchange-candidate-") as name:
        folder = Path(name)
        for path, text in files.items():
            if path.endswith(".rego"):
                (folder / "rego" / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / "rego" / path).write_text(text, "utf-8")
        (folder / "rego" / "data.json").write_text(json.dumps(served(files)[1]), "utf-8")
        yield folder


def check(opa: Path, folder: Path) -> list[Finding]:
    """Strict, with capabilities, and the facts typed by their schema. Raises `OpaFailed`."""
    capabilities = folder / "capabilities.json"
    capabilities.write_text(json.dumps(_capabilities(opa)), "utf-8")
    schema = SCHEMAS / "policy-input.json"
    done = _run(opa, folder, "check", "--strict", "--format", "json", "--schema", str(schema), "--capabilities", str(capabilities), "rego")
    if done.returncode == 0:
        return []
    errors = _parsed(done.stderr or done.stdout).get("errors") or []
    if not errors:
        raise OpaFailed(done.stderr[:500])
    return [_finding(folder, error) for error in errors]


def unformatted(opa: Path, folder: Path) -> list[Finding]:
    """Raises `OpaFailed`."""
    done = _run(opa, folder, "fmt", "--fail", "--list", "rego")
    listed = [_below(folder, line) for line in done.stdout.splitlines() if line.strip()]
    if done.returncode != 0 and not listed:
        raise OpaFailed(done.stderr[:500])
    return [Finding(path, 1, "is not formatted", "Run `opa fmt --write` over it.") for path in listed]


def failing_tests(opa: Path, folder: Path) -> list[Finding]:
    """Raises `OpaFailed`."""
    done = _run(opa, folder, "test", "--format", "json", "--timeout", "2s", "rego")
    results = json.loads(done.stdout) if done.stdout.startswith("[") else None
    if results is None:
        raise OpaFailed((done.stderr or done.stdout)[:500])
    failed = [each for each in results or () if each.get("fail") or each.get("error") or each.get("skip")]
    return [
        Finding(
            _below(folder, each["location"]["file"]),
            int(each["location"]["row"]),
            f"{each['name']} fails in OPA",
            "Mend the rule, or the test if it says what you do not mean.",
        )
        for each in failed
    ]


def uncovered(opa: Path, folder: Path) -> list[Finding]:
    """What no test reaches. Prints nothing where a test fails, so `failing_tests` comes first. Raises `OpaFailed`."""
    done = _run(opa, folder, "test", "--coverage", "--format", "json", "--timeout", "2s", "rego")
    report = _parsed(done.stdout).get("files")
    if report is None:
        raise OpaFailed((done.stderr or done.stdout)[:500])
    return [
        Finding(_below(folder, name), int(span["start"]["row"]), "no test reaches this", "Write a test beside it in which it matters.")
        for name, file in report.items()
        for span in file.get("not_covered") or ()
    ]


def evaluate_all(opa: Path, folder: Path, inputs: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The value of the entrypoint for each input, with strict builtin errors; None where it is undefined. Raises `OpaFailed`."""
    rule = ENTRYPOINT.replace("/", ".")
    # What is undefined for one input would be left out, and the others would move up.
    query = f"[answers | some given in input; answers := [x | x := data.{rule} with input as given]]"
    answers: list[Any] = []
    for start in range(0, len(inputs), CHUNK):
        (folder / "input.json").write_text(json.dumps(inputs[start : start + CHUNK]), "utf-8")
        done = _run(opa, folder, "eval", "--strict-builtin-errors", "--format", "raw", "--data", "rego", "--input", "input.json", query)
        if done.returncode != 0:
            raise OpaFailed((done.stderr or done.stdout)[:500])
        answers += [each[0] if each else None for each in json.loads(done.stdout)]
    return answers


@functools.cache
def _capabilities(opa: Path) -> dict[str, Any]:
    """OPA's own, without every builtin that is not on our list; operators stay."""
    done = subprocess.run(
        [str(opa), "capabilities", "--current"], capture_output=True, text=True, check=True, env=_ENVIRONMENT, timeout=WALL_S
    )
    document: dict[str, Any] = json.loads(done.stdout)
    operators = {"internal.member_2", "internal.member_3", "internal.test_case"}
    document["builtins"] = [
        each for each in document["builtins"] if each["name"] in ALLOWED_BUILTINS | operators or "infix" in each or each["name"] == "eq"
    ]
    document["allow_net"] = []
    return document


def _run(opa: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", "-c", _LIMITED, "opa", str(opa), *arguments]
    try:
        return subprocess.run(
            command, cwd=folder, env=_ENVIRONMENT, capture_output=True, text=True, check=False, timeout=WALL_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise OpaFailed(f"opa {arguments[0]} has not ended within {WALL_S:g} s") from error


def _parsed(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _finding(folder: Path, error: Mapping[str, Any]) -> Finding:
    where = error.get("location") or {}
    message = str(error.get("message", "")).replace(f"{folder}/", "")
    return Finding(_below(folder, str(where.get("file", ""))), int(where.get("row", 1)), message, _hint(str(error.get("code", ""))))


def _hint(code: str) -> str:
    return {
        "rego_parse_error": "Mend the syntax.",
        "rego_recursion_error": "A rule cannot need its own value: break the circle.",
        "rego_type_error": "Look at the name: schemas/policy-input.json has the facts, policies/README.md what a rule may call.",
        "rego_unsafe_var_error": "Give the variable a value in the body.",
    }.get(code, "See the message of OPA.")


def _below(folder: Path, name: str) -> str:
    return name.removeprefix(f"{folder}/").removeprefix("rego/")
