"""The process in which the embedded engine runs, alone: a crash, a loop or a memory bomb of a policy ends here.

Started by `embedded.py` as a script, with a bare environment. It imports nothing of the gateway. Frames on stdin and
stdout are four bytes of length (big-endian) and a JSON document. The first carries the modules and data and is answered
with the syntax trees; each further one is an `input`, or several, and is answered with the value of the rule that it names for each.

Of a candidate that is vetted, `tests` names rules that are evaluated as they stand, and is answered with their values and the lines
that none of them has reached.
"""

from __future__ import annotations

import contextlib
import functools
import json
import resource
import signal
import sys
from typing import Any, BinaryIO

MEMORY_BYTES = 1024**3
LONGEST_SECONDS = 10.0
"""Longer than the parent ever waits: if the parent dies during an endless evaluation, this ends it."""


def main() -> None:
    """Load once, then answer until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import regorus  # under the limits, and with RUST_BACKTRACE=0 from the parent

    engine = regorus.Engine()
    while (request := _read(sys.stdin.buffer)) is not None:
        signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
        try:
            answer = _answer(engine, request)
        except Exception as error:  # noqa: BLE001 - the parent turns every error into a refusal
            answer = {"error": str(error).partition("\n\nStack backtrace")[0]}
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(sys.stdout.buffer, answer)


def _answer(engine: Any, request: dict[str, Any]) -> dict[str, Any]:
    if "load" in request:
        return _load(engine, request["load"])
    if "tests" in request:
        return _test(engine, request["tests"])
    return _evaluate_all(engine, request) if "inputs" in request else _evaluate(engine, request)


def _load(engine: Any, revision: dict[str, Any]) -> dict[str, Any]:
    for path, text in revision["modules"].items():
        engine.add_policy(path, text)
    engine.add_data_json(json.dumps(revision["data"]))
    return {"trees": engine.get_ast_as_json()}


def _evaluate(engine: Any, request: dict[str, Any]) -> dict[str, Any]:
    _prepare(engine, request["rule"])
    # A clone per decision: nothing that one evaluation leaves behind meets the next.
    evaluation = engine.clone()
    evaluation.set_input_json(json.dumps(request["input"]))
    return {"value": evaluation.eval_rule_as_json(request["rule"])}


@functools.cache
def _prepare(engine: Any, rule: str) -> None:
    """Evaluate once, so that what an engine works out at its first evaluation is there in every clone: half of the time of a decision."""
    engine.set_input_json("{}")
    with contextlib.suppress(Exception):  # each evaluation says for itself what is wrong
        engine.eval_rule_as_json(rule)


def _evaluate_all(engine: Any, request: dict[str, Any]) -> dict[str, Any]:
    answers: list[dict[str, Any]] = []
    for given in request["inputs"]:
        try:
            answers.append(_evaluate(engine, {"rule": request["rule"], "input": given}))
        except Exception as error:  # noqa: BLE001 - one that fails is an answer too
            answers.append({"error": str(error).partition("\n\nStack backtrace")[0]})
    return {"values": answers}


def _test(engine: Any, rules: list[str]) -> dict[str, Any]:
    engine.set_enable_coverage(True)
    engine.set_input_json("{}")
    values: dict[str, Any] = {}
    for rule in rules:
        try:
            values[rule] = json.loads(engine.eval_rule_as_json(rule))
        except Exception as error:  # noqa: BLE001 - as above
            values[rule] = str(error).partition("\n\nStack backtrace")[0]
    report = json.loads(engine.get_coverage_report_as_json())["files"]
    return {"tests": values, "missed": {each["path"]: each["not_covered"] for each in report if each["not_covered"]}}


def _read(stream: BinaryIO) -> Any:
    head = stream.read(4)
    if len(head) < 4:
        return None
    return json.loads(stream.read(int.from_bytes(head, "big")))


def _write(stream: BinaryIO, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode("utf-8")
    stream.write(len(body).to_bytes(4, "big") + body)
    stream.flush()


if __name__ == "__main__":
    main()
