"""The SDK against a small server that answers as the wire says, to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import parse_qs

import httpx2
import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey

from connectors.client import Client, ProblemError, digest_of, new_key, public_jwks
from tests.connectors.recorded import Recorded, as_json, as_stream, form_of, token

SECRET = "a-secret-that-nobody-may-see"


def test_a_token_is_asked_for_once_and_renewed_before_it_expires(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give("/oauth/token", token("one"), token("two", expires_in=0))
    server.give("/v1/me", *[as_json({})] * 3)
    client = open_client(secret=SECRET)
    client.get("/v1/me")
    client.get("/v1/me")
    assert [headers["authorization"] for headers, _ in server.sent("/v1/me")] == ["Bearer one"] * 2
    assert len(server.sent("/oauth/token")) == 1
    short = open_client(secret=SECRET)
    server.give("/oauth/token", token("three"))
    short.get("/v1/me")
    assert client.credentials is not None
    assert short.credentials is not None
    assert short.credentials.token(short.http) == "three"


def test_a_refused_token_is_replaced_once_and_then_the_refusal_stands(server: Recorded, open_client: Callable[..., Client]) -> None:
    refused = as_json({"code": "token_invalid", "detail": "no"}, status=401)
    server.give("/oauth/token", token("old"), token("new"))
    server.give("/v1/me", refused, as_json({"id": 1}))
    assert open_client(secret=SECRET).get("/v1/me") == {"id": 1}
    server.give("/oauth/token", token("old"), token("new"))
    server.give("/v1/me", refused, refused)
    with pytest.raises(ProblemError) as caught:
        open_client(secret=SECRET).get("/v1/me")
    assert caught.value.code == "token_invalid"


def test_a_secret_goes_to_the_token_endpoint_alone_and_into_no_repr(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give("/oauth/token", token("a-token-that-nobody-may-see"))
    server.give("/v1/me", as_json({}))
    client = open_client(secret=SECRET)
    client.get("/v1/me")
    assert server.sent("/oauth/token")[0][0]["authorization"].startswith("Basic ")
    assert SECRET not in str(server.sent("/v1/me"))
    assert client.credentials is not None
    shown = f"{client!r} {client.credentials!r} {vars(client.credentials)['_held']!r}"
    assert SECRET not in shown
    assert "nobody-may-see" not in shown


def test_a_key_makes_an_assertion_for_the_issuer_alone_that_lives_a_minute(server: Recorded, open_client: Callable[..., Client]) -> None:
    key = new_key()
    server.give("/oauth/token", token("narrow"))
    server.give("/v1/contracts/con_1/events", as_json([], Next_Cursor="c1"))
    list(open_client(key=key).pull("con_1"))
    form = form_of(server.sent("/oauth/token")[0][1])
    assert json.loads(form["authorization_details"]) == [{"type": "data_contract", "contract": "con_1", "actions": ["read"]}]
    read = jwt.decode(form["client_assertion"], ECKey.import_key(public_jwks(key)["keys"][0]), algorithms=["ES256"])
    assert read.header["kid"] == key["kid"]
    assert (read.claims["iss"], read.claims["sub"], read.claims["aud"]) == ("cli_1", "cli_1", server.url)
    assert read.claims["exp"] - read.claims["iat"] == 60
    assert key["d"] not in str(server.requests)


def test_what_is_registered_of_a_key_is_its_public_half() -> None:
    key = new_key()
    (shown,) = public_jwks(key)["keys"]
    assert "d" not in shown
    assert shown["kid"] == key["kid"]


def test_a_signature_is_a_detached_jws_over_the_digest_of_the_text_that_was_read(
    server: Recorded, open_client: Callable[..., Client]
) -> None:
    key, text = new_key(), b"The parties agree.\n"
    server.give("/oauth/token", token("t"))
    server.give("/v1/contracts/con_1/text", (200, {"Content-Type": "text/markdown", "Repr-Digest": digest_of(text)}, text))
    server.give("/v1/contracts/con_1/sign", as_json({"state": "active"}))
    assert open_client(key=key).sign("con_1") == {"state": "active"}
    body = json.loads(server.sent("/v1/contracts/con_1/sign")[0][1])
    header, payload, _ = body["signature"].split(".")
    assert payload == ""
    verified = jws.deserialize_compact(
        body["signature"].encode(), ECKey.import_key(public_jwks(key)["keys"][0]), payload=body["text_digest"].encode()
    )
    assert verified.protected["kid"] == key["kid"]
    assert header
    assert body["text_digest"] == digest_of(text)


def test_a_text_that_its_digest_does_not_name_is_not_signed(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give("/oauth/token", token("t"))
    server.give("/v1/contracts/con_1/text", (200, {"Repr-Digest": digest_of(b"another")}, b"The parties agree.\n"))
    with pytest.raises(ValueError, match="not the one"):
        open_client(key=new_key()).sign("con_1")
    assert server.sent("/v1/contracts/con_1/sign") == []


def test_a_problem_carries_code_hint_places_and_reasons(server: Recorded, open_client: Callable[..., Client]) -> None:
    body = {
        "code": "policy_denied",
        "detail": "No.",
        "hint": "Ask.",
        "errors": [{"pointer": "/a"}],
        "reasons": [{"code": "purpose_not_covered"}],
    }
    server.give("/v1/datasets/a", as_json(body, status=403))
    with pytest.raises(ProblemError) as caught:
        open_client(client_id=None).get("/v1/datasets/a")
    problem = caught.value
    assert (problem.status, problem.code, problem.detail, problem.hint) == (403, "policy_denied", "No.", "Ask.")
    assert problem.errors == [{"pointer": "/a"}]
    assert problem.reasons == [{"code": "purpose_not_covered"}]


def test_a_batch_that_may_have_arrived_is_sent_again_under_its_key(server: Recorded, open_client: Callable[..., Client]) -> None:
    path = "/v1/datasets/a/events"
    server.give("/oauth/token", token("t"))
    away = as_json({"code": "log_unavailable"}, status=503, Retry_After="0")
    done = as_json({"accepted": 2, "positions": [{"partition": 0, "first": 4, "count": 2}]}, status=201, Audit_Entry="sha-256=:x:")
    server.give(path, away, done, done)
    acknowledged = open_client(secret=SECRET).publish("a", [{"id": str(n)} for n in range(4)], batch=2)
    assert [batch.accepted for batch in acknowledged] == [2, 2]
    assert acknowledged[0].audit_entry == "sha-256=:x:"
    first, again, second = (headers["idempotency-key"] for headers, _ in server.sent(path))
    assert first == again != second


def test_what_was_partly_appended_is_not_sent_again_blindly(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give("/oauth/token", token("t"))
    server.give("/v1/datasets/a/events", as_json({"code": "partly_appended"}, status=503, Retry_After="0"))
    with pytest.raises(ProblemError) as caught:
        open_client(secret=SECRET).publish("a", [{"id": "1"}])
    assert caught.value.code == "partly_appended"
    assert len(server.sent("/v1/datasets/a/events")) == 1


def test_a_pull_follows_the_cursor_to_the_first_empty_page(server: Recorded, open_client: Callable[..., Client]) -> None:
    path = "/v1/datasets/stops/events"
    server.give(path, as_json([{"id": "1"}], Next_Cursor="c1"), as_json([{"id": "2"}], Next_Cursor="c2"), as_json([], Next_Cursor="c3"))
    pages = list(open_client(client_id=None).pull("stops", cursor="earliest"))
    assert [[event["id"] for event in page.events] for page in pages] == [["1"], ["2"], []]
    asked = [parse_qs(target.partition("?")[2])["cursor"] for _, target, _, _ in server.requests]
    assert asked == [["earliest"], ["c1"], ["c2"]]


def test_a_broken_stream_resumes_after_the_last_cursor_and_ends_with_the_reason(
    server: Recorded, open_client: Callable[..., Client]
) -> None:
    path = "/v1/contracts/con_1/events"
    server.give("/oauth/token", token("one"), token("two"))
    server.give(
        path,
        as_stream('retry: 1\n\nid: c1\ndata: {"id": "1"}\n\nevent: receipt\ndata: {"events": 1}\n\nid: c2\n\n'),
        as_stream('data: {"id": "2"}\nid: c3\n\nevent: end\ndata: {"code": "token_expired"}\n\n'),
        as_stream('data: {"id": "3"}\nid: c4\n\nid: c5\nevent: end\ndata: {"code": "contract_not_in_force"}\n\n'),
    )
    messages = list(open_client(key=new_key()).stream("con_1"))
    assert [(message.kind, message.data.get("id")) for message in messages] == [
        ("event", "1"),
        ("receipt", None),
        ("event", "2"),
        ("event", "3"),
        ("end", None),
    ]
    assert messages[-1].data["code"] == "contract_not_in_force"
    assert messages[-1].cursor == "c5"
    asked = [(headers.get("last-event-id"), headers["authorization"]) for headers, _ in server.sent(path)]
    assert asked == [(None, "Bearer one"), ("c2", "Bearer one"), ("c3", "Bearer two")]


def test_a_stream_that_stays_broken_is_an_error_and_not_an_end(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give("/v1/datasets/stops/events", *[as_stream("retry: 1\n")] * 3)
    with pytest.raises(httpx2.TransportError):
        list(open_client(client_id=None).stream("stops", attempts=3))


def test_a_stream_that_is_refused_says_why(server: Recorded, open_client: Callable[..., Client]) -> None:
    server.give("/v1/datasets/stops/events", as_json({"code": "rate_limited"}, status=429))
    with pytest.raises(ProblemError) as caught:
        list(open_client(client_id=None).stream("stops"))
    assert caught.value.code == "rate_limited"


def test_a_client_has_one_proof() -> None:
    for proof in ({}, {"secret": SECRET, "key": new_key()}):
        with pytest.raises(ValueError, match="one of them"):
            Client("https://exchange.example", "cli_1", **proof)  # type: ignore[arg-type]  # wrong on purpose
