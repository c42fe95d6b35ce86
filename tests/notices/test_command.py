"""`exchange notices`: the feed at a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import commands
from tests.connectors.recorded import Recorded, as_json, listening, token

DUE = {
    "id": "ntf_1",
    "type": "erasure.requested",
    "time": "2026-11-23T12:00:00Z",
    "data": {"dataset": "footfall"},
    "mustacknowledgeby": "2026-11-30T12:00:00Z",
}
DONE = DUE | {"id": "ntf_2", "acknowledgedat": "2026-11-24T12:00:00Z"}


@pytest.fixture
def server() -> Iterator[Recorded]:
    with listening() as recorded:
        yield recorded


def run(server: Recorded, *words: str) -> Result:
    server.give("/oauth/token", token("t"))
    own = {"EXCHANGE_URL": server.url, "EXCHANGE_CLIENT_ID": "cli_1", "EXCHANGE_CLIENT_SECRET": "hidden"}
    return CliRunner().invoke(commands(), ["notices", *words], env=own)


def give_feed(server: Recorded, *pages: list[dict[str, Any]]) -> None:
    server.give("/v1/notices", *[as_json(page, Next_Cursor=f"c{number}") for number, page in enumerate(pages, 1)])


def test_the_feed_is_read_to_its_end_a_line_a_notice(server: Recorded) -> None:
    give_feed(server, [DUE], [DONE], [])
    done = run(server)
    assert done.exit_code == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "2026-11-23T12:00:00Z  ntf_1  erasure.requested  dataset=footfall  acknowledge by 2026-11-30T12:00:00Z"
    assert "acknowledge" not in second
    assert [target for _, target, _, _ in server.requests if target.startswith("/v1/notices")] == [
        "/v1/notices?cursor=earliest",
        "/v1/notices?cursor=c1",
        "/v1/notices?cursor=c2",
    ]


def test_following_waits_for_more_from_where_it_stands(server: Recorded) -> None:
    give_feed(server, [DUE], [], [DONE])
    server.give("/v1/notices", as_json({"code": "gateway_stopping", "detail": "It stops."}, status=503))
    done = run(server, "--follow", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [DUE, DONE]
    assert "/v1/notices?cursor=c2&wait=30" in [target for _, target, _, _ in server.requests]
    assert done.exit_code == 1


def test_a_notice_is_acknowledged(server: Recorded) -> None:
    answer = {"id": "ntf_1", "acknowledged_at": "2026-11-24T12:00:00Z"}
    server.give("/v1/notices/ntf_1/acknowledge", as_json(answer))
    done = run(server, "acknowledge", "ntf_1", "--json")
    assert json.loads(done.stdout) == answer
