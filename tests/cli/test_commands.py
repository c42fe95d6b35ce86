from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from connectors.client import public_jwks
from gateway.cli import commands
from tests.connectors.recorded import Recorded, as_json, as_stream, listening, token

SERVERS_OWN = ("fastapi", "sqlalchemy", "pydantic_settings", "authlib", "uvicorn", "alembic", "structlog")
Run = Callable[..., Result]


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    nested = getattr(group, "commands", None)
    if nested is None:
        yield path, group
        return
    for name, command in nested.items():
        yield from leaves(command, (*path, name))


ALL = dict(leaves(typer.main.get_command(commands())))


@pytest.fixture
def server() -> Iterator[Recorded]:
    with listening() as recorded:
        yield recorded


@pytest.fixture
def run(server: Recorded) -> Run:
    def invoke(*words: str, stdin: str = "", **environment: str) -> Result:
        own = {"EXCHANGE_URL": server.url, "EXCHANGE_CLIENT_ID": "cli_1", "EXCHANGE_CLIENT_SECRET": "hidden"} | environment
        return CliRunner().invoke(commands(), list(words), input=stdin, env=own)

    return invoke


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example_that_names_it(path: tuple[str, ...]) -> None:
    told = ALL[path].help or ""
    example = re.search(r"Example:\s+(.+)", told, re.DOTALL)
    assert example
    assert f"exchange {' '.join(path)}" in " ".join(example.group(1).split())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_no_command_takes_a_secret_as_an_argument(path: tuple[str, ...]) -> None:
    assert not [parameter.name for parameter in ALL[path].params if re.search("secret|password|token", parameter.name or "")]


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("dataset", "list"), "/v1/datasets"),
        (("contract", "list"), "/v1/contracts"),
        (("client", "list"), "/v1/clients"),
        (("audit", "list"), "/v1/audit/entries"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_a_list_is_read_to_its_last_page(words: tuple[str, ...], path: str, server: Recorded, run: Run) -> None:
    server.give("/oauth/token", token("t"))
    server.give(
        path, as_json({"items": [{"id": "1", "entry": {}}], "next": "n"}), as_json({"items": [{"id": "2", "entry": {}}], "next": None})
    )
    done = run(*words, "--json")
    assert done.exit_code == 0
    assert [item["id"] for item in json.loads(done.stdout)] == ["1", "2"]
    assert "after=n" in server.requests[-1][1]


def test_a_list_for_people_has_columns(server: Recorded, run: Run) -> None:
    server.give("/oauth/token", token("t"))
    row = {"slug": "miway-stops", "classification": "open", "owner": "org_1", "title": {"en": "Stops", "fr": "Arrets"}}
    server.give("/v1/datasets", as_json({"items": [row], "next": None}))
    heading, line = run("dataset", "list").stdout.splitlines()
    assert heading.split() == ["slug", "classification", "owner", "title"]
    assert line.split() == ["miway-stops", "open", "org_1", "Stops"]


def test_a_refusal_is_exit_code_1_with_hint_and_places_on_stderr(server: Recorded, run: Run) -> None:
    server.give("/oauth/token", token("t"))
    problem = {"code": "invalid_body", "detail": "No.", "hint": "Mend it.", "errors": [{"pointer": "/slug", "detail": "is missing"}]}
    server.give("/v1/datasets", as_json(problem, status=422))
    done = run("dataset", "create", "{}")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["422 invalid_body: No.", "Mend it.", "/slug: is missing"]


def test_an_exchange_that_does_not_answer_is_exit_code_1(run: Run) -> None:
    done = run("me", EXCHANGE_URL="http://127.0.0.1:1")
    assert done.exit_code == 1
    assert "does not answer" in done.stderr


@pytest.mark.parametrize("words", [("dataset", "show"), ("nothing",), ("call", "POST", "/v1/datasets", "--data", "{")], ids=" ".join)
def test_wrong_use_is_exit_code_2(words: tuple[str, ...], run: Run) -> None:
    assert run(*words).exit_code == 2


def test_a_client_without_proof_is_wrong_use(run: Run) -> None:
    done = run("me", EXCHANGE_CLIENT_SECRET="")
    assert done.exit_code == 2
    assert "EXCHANGE_CLIENT_SECRET" in done.stderr


def test_a_secret_file_that_others_can_read_is_refused(run: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    secret.chmod(0o644)
    done = run("me", EXCHANGE_CLIENT_SECRET="", EXCHANGE_CLIENT_SECRET_FILE=str(secret))
    assert done.exit_code == 2
    assert "chmod" in done.stderr


def test_call_sends_the_document_and_prints_what_came(server: Recorded, run: Run, tmp_path: Path) -> None:
    server.give("/oauth/token", *[token("t")] * 2)
    server.give("/v1/decisions", *[as_json({"allow": False})] * 2)
    body = tmp_path / "question.json"
    body.write_text('{"dataset": "a"}')
    for given, stdin in ((f"@{body}", ""), ("-", '{"dataset": "a"}')):
        done = run("call", "post", "/v1/decisions", "--data", given, stdin=stdin)
        assert json.loads(done.stdout) == {"allow": False}
    assert [json.loads(sent) for _, sent in server.sent("/v1/decisions")] == [{"dataset": "a"}] * 2


def test_a_key_is_made_here_and_only_its_public_half_is_sent(server: Recorded, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "planner.jwk"
    assert run("client", "key", str(path)).exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert run("client", "key", str(path)).exit_code == 1
    key = json.loads(path.read_text())
    server.give("/oauth/token", token("t"))
    server.give("/v1/clients", as_json({"id": "cli_2"}, status=201))
    done = run("client", "create", "--organization", "org_1", "--name", "Planner", "--scope", "events:read", "--key", str(path))
    assert done.exit_code == 0
    (_, sent), *_ = server.sent("/v1/clients")
    assert json.loads(sent)["jwks"] == public_jwks(key)
    assert key["d"] not in str(server.requests)


def test_a_subject_comes_from_stdin_and_stands_in_a_body_alone(server: Recorded, run: Run) -> None:
    server.give("/oauth/token", token("t"))
    server.give("/v1/consents", as_json({"id": "cns_1"}, status=201))
    shown = {"dataset": "a", "version": "2", "purposes": ["research"], "recipients": ["org_1"]}
    server.give("/v1/notices-of-consent/ntc_1", as_json(shown), as_json(shown))
    words = ("consent", "give", "--notice", "ntc_1")
    assert run(*words, stdin="visitor-1\n").exit_code == 0
    (headers, sent), *_ = server.sent("/v1/consents")
    assert json.loads(sent)["subject"] == "visitor-1"
    assert "visitor-1" not in str(headers) + str([target for _, target, _, _ in server.requests])
    assert run(*words, stdin="").exit_code == 2


def test_events_are_published_line_by_line_and_receipts_printed(server: Recorded, run: Run) -> None:
    server.give("/oauth/token", token("t"))
    server.give("/v1/datasets/a/events", as_json({"accepted": 2, "positions": []}, status=201, Audit_Entry="sha-256=:x:"))
    done = run("dataset", "publish", "a", "-", stdin='{"id": "1"}\n\n{"id": "2"}\n')
    assert done.stdout.splitlines() == ["2 events in 1 batches", "sha-256=:x:"]


def test_the_bare_installation_has_the_client_commands_and_says_what_the_others_need(tmp_path: Path) -> None:
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in SERVERS_OWN)
    program = f"import sys; {blocked}from gateway.cli import main; main()"

    def bare(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "EXCHANGE_URL": "http://127.0.0.1:1", "PYTHONPATH": str(Path.cwd())}
        return subprocess.run(
            [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
        )

    assert bare("--help").returncode == 0
    assert "does not answer" in bare("me").stderr
    for command in (("serve",), ("setup", "--organization", "City"), ("doctor",), ("migrate",), ("demo", "--exit")):
        refused = bare(*command)
        assert refused.returncode == 1
        assert "civic-exchange[server]" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_call_shows_the_request_as_a_line_of_curl_and_does_not_send_it(server: Recorded, run: Run, tmp_path: Path) -> None:
    key = tmp_path / "partner.jwk"
    assert run("client", "key", str(key)).exit_code == 0
    words = ("call", "post", "/v1/contracts?limit=1", "--data", '{"note": "it\'s"}', "--show")
    for more, secret in (((), "***"), (("--in-clear",), "bound")):
        server.give("/oauth/token", token("bound", kind="DPoP"))
        done = run(*words, *more, EXCHANGE_CLIENT_SECRET="", EXCHANGE_CLIENT_KEY_FILE=str(key))
        assert done.exit_code == 0, done.stderr
        line = shlex.split(done.stdout)
        assert line[:3] == ["curl", "-X", "POST"]
        assert f"Authorization: DPoP {secret}" in line
        assert ("Dpop: ***" in line) == (secret == "***")
        assert line[-3:] == ["-d", '{"note": "it\'s"}', f"{server.url}/v1/contracts?limit=1"]
    assert server.sent("/v1/contracts") == []


def test_call_shows_a_stream_as_it_comes_for_as_long_as_it_was_asked_to(server: Recorded, run: Run) -> None:
    server.give("/oauth/token", token("t"))
    server.give("/v1/datasets/a/events", as_stream('id: c1\ndata: {"id": "1"}\n\n'))
    done = run("call", "GET", "/v1/datasets/a/events", "--accept", "text/event-stream", "--seconds", "5")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:2] == ["id: c1", 'data: {"id": "1"}']
    assert server.sent("/v1/datasets/a/events")[0][0]["accept"] == "text/event-stream"
