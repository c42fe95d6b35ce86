"""The embedded engine: whatever goes wrong in its child process denies one decision and no more."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access.decision import PolicyUnavailable
from gateway.access.embedded import EmbeddedEngine
from gateway.access.rego_process import RegoProcess
from gateway.access.vetting import RevisionRefused
from tests.policies.shipped import answering, bundle, facts

SAID_YES = '{"allow": true, "reasons": [{}], "obligations": [], "until": null}'
ENDLESS = """
numbers := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]

decision := count([1 |
	some a in numbers; some b in numbers; some c in numbers; some d in numbers
	some e in numbers; some f in numbers; some g in numbers
	a + b + c + d + e + f + g < 0
])
"""
BOMB = """
numbers := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]

decision := [concat("", ["xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", sprintf("%d%d%d%d%d%d", [a, b, c, d, e, f])]) |
	some a in numbers; some b in numbers; some c in numbers; some d in numbers; some e in numbers; some f in numbers
]
"""
RECURSIVE = """
f(x) := f(x + 1)

decision := f(1)
"""


@pytest.fixture
def engine() -> Iterator[EmbeddedEngine]:
    # The limit that ships is 250 ms; a machine that runs other tests at the same time gets more.
    made = EmbeddedEngine(timeout_s=2.0)
    yield made
    made.close()


@pytest.fixture
def active(engine: EmbeddedEngine) -> EmbeddedEngine:
    engine.activate("pol_1", bundle("pol_1"))
    return engine


def test_an_allowed_question_is_answered_with_reasons_obligations_and_revision(active: EmbeddedEngine) -> None:
    answer = active.evaluate(facts())
    assert answer.revision == "pol_1"
    assert answer.document["allow"] is True
    assert [reason["code"] for reason in answer.document["reasons"]] == ["allowed_by_rule_sheet"]
    assert {"kind": "consent_filter", "purpose": "transit-planning", "standing": "enforced"} in answer.document["obligations"]
    assert answer.document["until"] == facts()["contract"]["valid_until"]


def test_before_a_revision_is_active_there_is_no_answer(engine: EmbeddedEngine) -> None:
    with pytest.raises(PolicyUnavailable, match="no policy revision"):
        engine.evaluate(facts())
    with pytest.raises(PolicyUnavailable):
        engine.ping()


def test_missing_facts_are_refused_and_not_undefined(active: EmbeddedEngine) -> None:
    assert active.evaluate({}).document["allow"] is False
    active.ping()


def test_one_decision_leaves_nothing_to_the_next(active: EmbeddedEngine) -> None:
    allowed = active.evaluate(facts())
    assert active.evaluate({}).document["allow"] is False
    assert active.evaluate(facts()) == allowed


@pytest.mark.parametrize(
    "rego",
    [
        "nothing := 1",
        'decision := {"allow": true} if input.action == "never"',
        "decision := true",
        'decision := "allow"',
        'decision := {"allow": "true", "reasons": [], "obligations": [], "until": null}',
        f"decision := {SAID_YES}",
        'decision := {"reasons": [], "obligations": [], "until": null}',
        "decision := 1 if input.action == input.action\n\ndecision := 2 if input.action == input.action",
    ],
    ids=["missing", "undefined", "bool", "string", "allow is a string", "malformed reason", "no allow", "conflict"],
)
def test_undefined_and_malformed_answers_are_no_answers(engine: EmbeddedEngine, rego: str) -> None:
    engine.activate("pol_1", bundle("pol_1", answering(rego), {}))
    with pytest.raises(PolicyUnavailable):
        engine.evaluate(facts())


@pytest.mark.parametrize(
    ("rego", "why"),
    [(ENDLESS, "in time"), (BOMB, "in time|ended"), (RECURSIVE, "ended")],
    ids=["endless", "memory", "recursive"],
)
def test_a_policy_that_runs_away_denies_and_takes_nothing_with_it(rego: str, why: str) -> None:
    engine = EmbeddedEngine(timeout_s=0.25)
    engine.activate("pol_1", bundle("pol_1", answering(rego), {}))
    runaway = engine.pid
    started = time.monotonic()
    with pytest.raises(PolicyUnavailable, match=why):
        engine.evaluate(facts())
    assert time.monotonic() - started < 2
    assert runaway is not None
    assert not Path(f"/proc/{runaway}").exists()
    engine.activate("pol_2", bundle("pol_2", answering('decision := {"allow": false} if false'), {}))
    engine.close()


def test_a_killed_child_denies_once_and_the_next_decision_has_a_new_one(active: EmbeddedEngine) -> None:
    first = active.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(PolicyUnavailable, match="ended"):
        active.evaluate(facts())
    assert active.evaluate(facts()).document["allow"] is True
    assert active.pid not in {None, first}


def test_a_child_that_hangs_denies_in_time_and_is_replaced(active: EmbeddedEngine) -> None:
    hanging = active.pid
    assert hanging is not None
    os.kill(hanging, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(PolicyUnavailable, match="in time"):
        active.evaluate(facts())
    assert time.monotonic() - started < 3
    assert active.evaluate(facts()).document["allow"] is True


@pytest.mark.parametrize(
    "frame",
    [b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x04true", b"\x00\x00\x00\x03rub", b"\xff\xff\xff\xffrubbish", b"\x00\x00\x00\x10short", b""],
    ids=["empty object", "no object", "no JSON", "absurd length", "cut short", "nothing"],
)
def test_rubbish_from_the_child_is_no_answer(tmp_path: Path, frame: bytes) -> None:
    program = tmp_path / "rubbish.py"
    program.write_text(f"import sys\nsys.stdout.buffer.write({frame!r})\n")
    process = RegoProcess(program)
    try:
        with pytest.raises(PolicyUnavailable):
            process.evaluate("data.exchange.main.decision", {}, 5)
    finally:
        process.end()


def test_facts_that_are_not_json_are_refused(active: EmbeddedEngine) -> None:
    with pytest.raises(PolicyUnavailable):
        active.evaluate({"at": float("nan")})
    assert active.evaluate(facts()).document["allow"] is True


def test_the_child_is_limited_and_sees_no_environment(active: EmbeddedEngine) -> None:
    limits = Path(f"/proc/{active.pid}/limits").read_text("ascii")
    rows = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()}
    assert rows["Max address space"] == str(1024**3)
    assert rows["Max core file size"] == "0"
    assert Path(f"/proc/{active.pid}/environ").read_bytes() == b"RUST_BACKTRACE=0\0"


def test_several_threads_may_ask_at_once(active: EmbeddedEngine) -> None:
    answers: list[bool] = []

    def ask() -> None:
        for number in range(20):
            given = facts() if number % 2 else {}
            answers.append(active.evaluate(given).document["allow"] is bool(number % 2))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 80


def test_a_new_revision_answers_once_it_is_active(active: EmbeddedEngine) -> None:
    active.activate("pol_2", bundle("pol_2", rules={}))
    answer = active.evaluate(facts())
    assert answer.revision == "pol_2"
    assert [reason["code"] for reason in answer.document["reasons"]] == ["no_rule_sheet"]


def test_a_suspended_engine_does_not_answer(active: EmbeddedEngine) -> None:
    child = active.pid
    active.suspend()
    with pytest.raises(PolicyUnavailable):
        active.evaluate(facts())
    assert active.pid is None
    assert not Path(f"/proc/{child}").exists()


def test_a_refused_revision_leaves_nothing_active(active: EmbeddedEngine) -> None:
    modules = answering('decision := http.send({"method": "get", "url": "https://example.org"})')
    with pytest.raises(RevisionRefused) as refused:
        active.activate("pol_2", bundle("pol_2", modules, {}))
    assert [str(finding) for finding in refused.value.findings] == [
        "main/main.rego:3: http.send is not on the list of allowed builtins",
    ]
    with pytest.raises(PolicyUnavailable):
        active.evaluate(facts())


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", bundle("pol_1")[:200], bundle("pol_9")], ids=["empty", "rubbish", "cut", "another revision"]
)
def test_what_is_not_the_bundle_of_the_revision_is_refused(engine: EmbeddedEngine, content: bytes) -> None:
    with pytest.raises(PolicyUnavailable):
        engine.activate("pol_1", content)


def test_modules_that_are_not_rego_are_refused_with_the_place(engine: EmbeddedEngine) -> None:
    with pytest.raises(PolicyUnavailable, match=r"main/main\.rego:4"):
        engine.activate("pol_1", bundle("pol_1", answering("decision := {"), {}))


def test_without_the_library_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "regorus", None)
    with pytest.raises(PolicyUnavailable, match=r"civic-exchange\[server\].*EXCHANGE_POLICY_URL"):
        EmbeddedEngine()
