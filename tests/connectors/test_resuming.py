"""Reading on through what breaks: each event once, none missed, and a receipt for each batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.client import Client, ProblemError
from connectors.persist import pause_after
from tests.connectors.recorded import Answer, Recorded, as_json, as_stream, token

PATH = "/v1/datasets/stops/events"
END = 'event: end\ndata: {"code": "contract_not_in_force"}\n\n'


def flush(*names: str, cursor: str | None = None) -> str:
    """Events as a flush sends them; without a cursor the connection broke in the middle of it."""
    told = [f'data: {{"source": "s", "id": "{name}"}}\n' for name in names]
    return "\n".join([*told[:-1], told[-1] + (f"id: {cursor}\n" if cursor else "")]) + "\n"


def broken(*parts: str) -> Answer:
    return as_stream("retry: 1\n\n" + "".join(parts))


def read(client: Client, attempts: int = 5) -> list[str]:
    return [message.data["id"] for message in client.stream("stops", attempts=attempts) if message.kind == "event"]


def test_what_a_broken_connection_makes_come_again_is_handed_on_once(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give(
        PATH,
        broken(flush("1", "2", cursor="c1"), flush("3", "4")),
        broken(flush("3", "4", "5", cursor="c2"), flush("6", cursor="c3"), END),
    )
    assert read(open_client(client_id=None)) == ["1", "2", "3", "4", "5", "6"]
    assert [headers.get("last-event-id") for headers, _ in server.sent(PATH)] == [None, "c1"]


def test_a_connection_that_breaks_again_within_the_repeat_doubles_and_misses_nothing(
    server: Recorded, open_client: Callable[..., Client]
) -> None:
    server.give(
        PATH,
        broken(flush("1", "2", "3")),
        broken(flush("1", "2")),
        broken(flush("1", cursor="c1"), flush("2", "3", "4", cursor="c2"), END),
    )
    assert read(open_client(client_id=None)) == ["1", "2", "3", "4"]


def test_an_event_that_was_withdrawn_in_between_hides_no_other(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give(PATH, broken(flush("1", "2", "3")), broken(flush("1", "3", "4", cursor="c1"), END))
    assert read(open_client(client_id=None)) == ["1", "2", "3", "4"]


def test_what_was_published_twice_comes_twice(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give(PATH, broken(flush("1", "1", cursor="c1"), flush("2", "2")), broken(flush("2", "2", "2", cursor="c2"), END))
    assert read(open_client(client_id=None)) == ["1", "1", "2", "2", "2"]


def test_an_expired_token_costs_no_event(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give("/oauth/token", token("one"), token("two"))
    expired = 'event: end\nid: c2\ndata: {"code": "token_expired"}\n\n'
    server.give(PATH, as_stream(flush("1", cursor="c1") + flush("2") + expired), as_stream(flush("3", cursor="c3") + END))
    assert read(open_client(secret="hidden")) == ["1", "2", "3"]
    asked = [(headers.get("last-event-id"), headers["authorization"]) for headers, _ in server.sent(PATH)]
    assert asked == [(None, "Bearer one"), ("c2", "Bearer two")]


def test_a_stream_comes_back_after_a_part_of_the_exchange_was_away(server: Recorded, open_client: Callable[..., Client]) -> None:
    away = as_json({"code": "log_unavailable"}, status=503, Retry_After="0")
    counted = as_json({"code": "rate_limited"}, status=429, Retry_After="0")
    server.give(PATH, away, broken(flush("1", cursor="c1")), counted, broken(flush("2", cursor="c2"), END))
    assert read(open_client(client_id=None)) == ["1", "2"]


def test_a_page_is_asked_for_again_from_the_same_cursor(server: Recorded, open_client: Callable[..., Client]) -> None:
    away = as_json({"code": "log_unavailable"}, status=503, Retry_After="0")
    limited = as_json({"code": "rate_limited"}, status=429, Retry_After="0")
    page = as_json([{"id": "1"}], Next_Cursor="c1")
    server.give(PATH, page, away, limited, as_json([], Next_Cursor="c2"))
    pages = list(open_client(client_id=None).pull("stops"))
    assert [len(page.events) for page in pages] == [1, 0]
    assert [target.partition("?")[2] for _, target, _, _ in server.requests] == ["wait=0", *["wait=0&cursor=c1"] * 3]


def test_a_refusal_is_not_asked_for_again(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give(PATH, as_json({"code": "not_found"}, status=404))
    with pytest.raises(ProblemError) as caught:
        list(open_client(client_id=None).pull("stops"))
    assert caught.value.code == "not_found"


def test_a_pause_is_what_was_asked_for_or_grows_and_is_never_the_same_for_all() -> None:
    assert pause_after(1, ProblemError(429, {}, {"retry-after": "7"})) == 7
    assert pause_after(1, ProblemError(429, {}, {"retry-after": "86400"})) == 30
    first, later = {pause_after(1) for _ in range(20)}, {pause_after(5) for _ in range(20)}
    assert len(first) > 1
    assert max(first) <= 0.5
    assert min(later) >= 4
    assert pause_after(60) <= 30


def test_a_receipt_is_kept_for_each_batch_in_a_file_of_its_owner(
    server: Recorded, open_client: Callable[..., Client], tmp_path: Path
) -> None:
    server.give("/oauth/token", token("t"))
    told = {"audit_entry": "sha-256=:c:", "events": 1}
    server.give(
        PATH,
        as_json({"accepted": 2, "positions": []}, status=201, Audit_Entry="sha-256=:a:"),
        as_json([{"id": "1"}], Next_Cursor="c1", Audit_Entry="sha-256=:b:"),
        as_json([], Next_Cursor="c2"),
        as_stream(flush("1", cursor="c1") + f"event: receipt\ndata: {json.dumps(told)}\n\n" + END),
    )
    path = tmp_path / "receipts.ndjson"
    client = open_client(secret="hidden", receipts=path)
    client.publish("stops", [{"id": "1"}, {"id": "2"}])
    list(client.pull("stops"))
    list(client.stream("stops"))
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["kind"], line["of"], line["events"], line["audit_entry"]) for line in kept] == [
        ("publish", "stops", 2, "sha-256=:a:"),
        ("pull", "stops", 1, "sha-256=:b:"),
        ("stream", "stops", 1, "sha-256=:c:"),
    ]
    assert path.stat().st_mode & 0o077 == 0
