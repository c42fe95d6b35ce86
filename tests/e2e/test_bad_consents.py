"""Consent as people should not send it: forged, foreign, malformed, out of time, for what is not there, and two at once that contradict."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from joserfc import jws

from consent.codes import new_code
from gateway.consents.receipts import TYPE
from gateway.keys import b64, read_keys, unb64, write_keys
from tests.e2e.district import FOOTFALL, STOPS, District, dataset_document, pulled, visit
from tests.e2e.wire import assert_calm, pointers, problem, send
from tests.engines import Engines
from tests.gateway import READER, Gateway

ES256, HS256, NONE = ({"alg": algorithm, "typ": TYPE} for algorithm in ("ES256", "HS256", "none"))
SIGNATURE = bytes(64)


@pytest.fixture(scope="module")
def gateway(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One that lets many tries pass."""
    with Gateway(engines, tmp_path_factory.mktemp(f"consents-{engines.kind}"), {"EXCHANGE_WITHDRAWALS_PER_MINUTE": "1000"}) as running:
        yield running
    assert_calm(running)


@pytest.fixture(scope="module")
def district(gateway: Gateway) -> District:
    made = District(gateway)
    made.provider.post("/v1/datasets", dataset_document(STOPS))
    return made


def by_code(district: District, **body: Any) -> httpx2.Response:
    return send(district.gateway.client(), "POST", "/v1/consents/withdraw", body=body)


def act(district: District, consent: str, verb: str, body: dict[str, Any] | None = None) -> httpx2.Response:
    return send(district.provider, "POST", f"/v1/consents/{consent}/{verb}", body=body)


def state_of(district: District, consent: str) -> str:
    return str(district.provider.get(f"/v1/consents/{consent}")["state"])


def signed(key: Any, claims: Any, **header: Any) -> str:
    text: str = jws.serialize_compact(ES256 | {"kid": key.kid} | header, orjson.dumps(claims), key, algorithms=["ES256"])
    return text


def written(header: Any, claims: Any, signature: bytes = SIGNATURE) -> str:
    """A JWS that nobody has signed."""
    return ".".join([b64(header if isinstance(header, bytes) else orjson.dumps(header)), b64(orjson.dumps(claims)), b64(signature)])


def test_forged_and_foreign_codes_and_receipts_withdraw_nothing_and_are_answered_alike(district: District, tmp_path: Path) -> None:
    given = district.given("ann")
    claims = orjson.loads(unb64(given["receipt"].split(".")[1]))
    ours = read_keys(district.gateway.settings().resolved_key_file).signing
    foreign = write_keys(tmp_path / "keys.json").signing["receipt"]
    receipts = [
        signed(foreign, claims),  # of another exchange
        signed(foreign, claims, kid=ours["receipt"].kid),
        signed(ours["token"], claims),  # by a key of ours that signs something else
        signed(ours["receipt"], claims, typ="at+jwt"),
        written(ES256 | {"kid": ours["receipt"].kid}, claims),
        written(NONE, claims, b""),
        written(HS256, claims, bytes(32)),
    ]
    answers = [by_code(district, receipt=receipt) for receipt in receipts]
    answers += [by_code(district, code=code) for code in (new_code(), "W-1234", given["id"], given["withdrawal_code"][:-1])]
    told = [{name: value for name, value in problem(answer, "not_found").items() if name != "instance"} for answer in answers]

    assert all(each == told[0] for each in told)
    assert state_of(district, given["id"]) == "given"


@pytest.mark.parametrize(
    "receipt",
    [
        "",
        ".",
        "..",
        "....",
        "é.é.é",
        "a b.c\n.d",
        "\x00.\x00.\x00",
        "." * 60_000,
        written(b"[]", {}),
        written(b"[" * 20_000, {}),
        written(b"\xff\xfe", {}),
        written({"alg": 1}, {}),
        written({"alg": ["ES256"], "kid": {}}, {}),
        written(ES256 | {"crit": ["b64"], "b64": False}, {}),
        written(ES256 | {"jwk": {"kty": "oct", "k": "AA"}}, {}),
        written(ES256, {}, b"short"),
    ],
)
def test_what_is_no_receipt_withdraws_nothing_and_breaks_nothing(district: District, receipt: str) -> None:
    problem(by_code(district, receipt=receipt), "not_found")


@pytest.mark.parametrize(
    "claims",
    [[], None, 1, {}, {"pii_processing": []}, {"pii_processing": {"withdrawal": None}}, {"pii_processing": {"withdrawal": {"code": {}}}}],
)
def test_a_receipt_of_ours_without_a_code_withdraws_nothing(district: District, claims: Any) -> None:
    key = read_keys(district.gateway.settings().resolved_key_file).signing["receipt"]

    problem(by_code(district, receipt=signed(key, claims)), "not_found")


@pytest.mark.parametrize(
    "body", [{}, {"code": "x", "receipt": "y"}, {"code": ["W"]}, {"receipt": 1}, {"receipt": "x" * 70_000}, {"code": None}]
)
def test_a_withdrawal_that_says_nothing_or_too_much_is_refused(district: District, body: dict[str, Any]) -> None:
    problem(by_code(district, **body), "invalid_body")


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"dataset": STOPS}, "/dataset"),
        ({"purposes": ["world-domination"]}, "/purposes/0"),
        ({"purposes": ["transit-planning", "TRANSIT-PLANNING"]}, "/purposes/1"),
        ({"notice": {"id": "ntc_" + "0" * 26, "version": "1", "language": "en"}}, "/notice/id"),
        ({"notice": {"version": "99"}}, "/notice/version"),
        ({"notice": {"language": "de"}}, "/notice/language"),
        ({"valid_until": "2020-01-01T00:00:00Z"}, "/valid_until"),
        ({"valid_until": "0001-01-01T00:00:00Z"}, "/valid_until"),
        ({"valid_from": "2020-01-01T00:00:00Z", "valid_until": "2020-01-02T00:00:00Z"}, "/valid_until"),
        ({"recipients": ["org_" + "0" * 26]}, "/recipients/0"),
    ],
)
def test_consent_to_what_is_not_there_or_over_is_refused_with_its_place(district: District, members: dict[str, Any], pointer: str) -> None:
    consent = {
        "dataset": FOOTFALL,
        "subject": "bob",
        "purposes": ["transit-planning"],
        "recipients": ["any_recipient"],
        "given_by": "subject",
    }
    sent = consent | {"notice": district.notice} | members
    sent["notice"] = district.notice | sent["notice"]
    answer = send(district.provider, "POST", "/v1/consents", body=sent)

    assert pointers(problem(answer, "invalid_body"))[0] == pointer


def test_consent_that_says_it_began_in_the_past_covers_nothing_that_came_before_it_was_given(district: District) -> None:
    consumer = district.gateway.partner("Start-up", scopes=READER)
    contract = district.contract(consumer)
    district.publish(visit("cleo", 1))
    district.consent("cleo", valid_from="2020-01-01T00:00:00Z")
    district.publish(visit("cleo", 2))

    assert [event["id"][:6] for event in pulled(consumer, contract) if event["id"].startswith("cleo")] == ["cleo-2"]


def test_a_consumer_consents_to_nothing_for_itself(district: District) -> None:
    consumer = district.gateway.partner("Eager start-up")  # with the scopes of a provider
    organization = consumer.get("/v1/me")["organization"]["id"]
    contract = district.contract(consumer)
    district.publish(visit("dan", 1))
    consent = {"dataset": FOOTFALL, "subject": "dan", "purposes": ["transit-planning"], "recipients": [organization], "given_by": "subject"}
    chunk = {name: consent[name] for name in ("dataset", "purposes", "recipients", "given_by")}
    for path, body in (
        ("/v1/consents", consent | {"notice": district.notice}),
        ("/v1/consents/import", chunk | {"name": "all", "chunk": 0, "notice": district.notice, "consents": [{"subject": "dan"}]}),
    ):
        problem(send(consumer, "POST", path, body=body), "not_found")
    theirs = district.given("dan", state="requested", given_by=None)["id"]
    problem(send(consumer, "POST", f"/v1/consents/{theirs}/give", body={"given_by": "subject"}), "not_found")

    assert not [event for event in pulled(consumer, contract) if event["id"].startswith("dan")]


@pytest.mark.parametrize(("verb", "ends"), [("pause", {"withdrawn"}), ("resume", {"withdrawn"}), ("revoke", {"withdrawn", "revoked"})])
def test_of_contradicting_acts_at_once_each_is_written_in_an_order_or_refused_and_no_is_the_last_word(
    district: District, verb: str, ends: set[str]
) -> None:
    consumer = district.gateway.partner("Start-up", scopes=READER)
    contract = district.contract(consumer)
    for number in range(4):
        given = district.given(f"{verb}-{number}")
        if verb == "resume":
            act(district, given["id"], "pause")
        district.publish(visit(f"{verb}-{number}"))
        with ThreadPoolExecutor(2) as threads:
            acting = threads.submit(act, district, given["id"], verb)
            withdrawing = threads.submit(by_code, district, code=given["withdrawal_code"])
        assert withdrawing.result().status_code == 200
        assert acting.result().status_code in {200, 409}
        assert state_of(district, given["id"]) in ends

    assert not [event for event in pulled(consumer, contract) if event["id"].startswith(f"{verb}-")]


def test_of_yes_and_no_to_one_request_at_once_one_is_written(district: District) -> None:
    for number in range(4):
        asked = district.given(f"eve-{number}", state="requested", given_by=None)["id"]
        with ThreadPoolExecutor(2) as threads:
            yes = threads.submit(act, district, asked, "give", {"given_by": "subject"})
            no = threads.submit(act, district, asked, "refuse")
        assert sorted(answer.result().status_code for answer in (yes, no)) == [200, 409]
        assert state_of(district, asked) == ("given" if yes.result().is_success else "refused")
