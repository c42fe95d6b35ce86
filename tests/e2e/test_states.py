"""What a contract may become, who may see it, and two people at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from connectors.client import Client
from tests.e2e.district import FOOTFALL, District
from tests.e2e.open_data import Numbers, document
from tests.e2e.wire import problem, send
from tests.gateway import Gateway


@pytest.fixture(scope="module")
def numbers(gateway: Gateway) -> Numbers:
    """One for all tests here, which leave it as it is."""
    return Numbers(gateway)


def move(client: Client, contract: str, verb: str, body: Any = None) -> Any:
    return send(client, "POST", f"/v1/contracts/{contract}/{verb}", body=body)


def test_a_move_that_is_not_legal_names_those_that_are(numbers: Numbers, reader: Client) -> None:
    contract = numbers.contract(reader)

    assert problem(move(numbers.provider, contract, "resume"), "illegal_state")["legal"] == ["suspend", "end"]
    assert problem(move(reader, contract, "suspend"), "illegal_state")["legal"] == ["end"]
    assert move(numbers.provider, contract, "suspend").status_code == 200
    assert problem(move(numbers.provider, contract, "suspend"), "illegal_state")["legal"] == ["resume", "end"]
    assert move(reader, contract, "end").status_code == 200
    for verb in ("suspend", "resume", "end"):
        assert problem(move(numbers.provider, contract, verb), "illegal_state")["legal"] == []
    digest = reader.get(f"/v1/contracts/{contract}")["text_digest"]
    problem(move(numbers.provider, contract, "sign", {"text_digest": digest}), "illegal_state")


def test_a_signature_for_another_text_is_refused(numbers: Numbers, reader: Client) -> None:
    made = reader.post("/v1/contracts", {"dataset": numbers.slug, "purpose": "research"})
    digest = made["text_digest"]
    other = digest[:-4] + ("AAA:" if digest[-4:-1] != "AAA" else "BBB:")

    answer = move(numbers.provider, made["id"], "sign", {"text_digest": other})

    assert answer.json()["code"] in {"text_changed", "invalid_body"}
    assert reader.get(f"/v1/contracts/{made['id']}")["state"] == "proposed"


def test_a_forged_signature_over_personal_data_is_refused(district: District, consumer: Client) -> None:
    made = consumer.post("/v1/contracts", {"dataset": FOOTFALL, "purpose": "transit-planning"})
    digest = made["text_digest"]
    assert district.provider.credentials is not None
    by_another = district.provider.credentials.sign_digest(digest)

    for signature in (None, "", "x", "a..b", by_another):
        body = {"text_digest": digest} | ({} if signature is None else {"signature": signature})
        problem(move(consumer, made["id"], "sign", body), "invalid_body")
    assert consumer.get(f"/v1/contracts/{made['id']}")["signatures"] == []


@pytest.mark.parametrize("verbs", [("suspend", "end"), ("end", "end"), ("suspend", "suspend"), ("sign", "end"), ("sign", "sign")])
def test_of_two_who_change_a_contract_at_once_each_wins_or_is_told_so(
    gateway: Gateway, numbers: Numbers, reader: Client, verbs: tuple[str, str]
) -> None:
    signing = "sign" in verbs
    made = reader.post("/v1/contracts", {"dataset": numbers.slug, "purpose": "research"})
    contract = made["id"]
    if not signing:
        move(numbers.provider, contract, "sign", {"text_digest": made["text_digest"]})
    start = Barrier(8)

    def act(number: int) -> Any:
        verb = verbs[number % 2]
        start.wait()
        return move(numbers.provider, contract, verb, {"text_digest": made["text_digest"]} if verb == "sign" else {"reason": "at once"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(act, range(8)))

    codes = Counter(answer.status_code for answer in answers)
    assert set(codes) <= {200, 409, 412}, codes
    assert 1 <= codes[200] <= (2 if verbs[0] != verbs[1] else 1)
    history = [item["entry"]["action"] for item in gateway.operator().get("/v1/audit/entries", contract=contract, kind="contract")["items"]]
    assert Counter(history)[{"end": "ended", "suspend": "suspended", "sign": "signed"}[verbs[1]]] <= 1


def test_two_who_register_one_dataset_at_once_make_one(gateway: Gateway) -> None:
    provider, start = gateway.partner("Twins"), Barrier(4)
    body = document(f"twin-{provider.get('/v1/me')['client']['id'][-6:]}")

    def register(_: int) -> int:
        start.wait()
        return send(provider, "POST", "/v1/datasets", body=body).status_code

    with ThreadPoolExecutor(4) as pool:
        codes = Counter(pool.map(register, range(4)))

    assert codes == {201: 1, 409: 3}


def test_two_with_one_idempotency_key_at_once_do_it_once(gateway: Gateway, numbers: Numbers, reader: Client) -> None:
    start = Barrier(4)

    def propose(_: int) -> Any:
        start.wait()
        body = {"dataset": numbers.slug, "purpose": "research"}
        return send(reader, "POST", "/v1/contracts", body=body, headers={"Idempotency-Key": "one proposal"})

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(propose, range(4)))

    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert all(answer.json()["code"] == "request_in_progress" for answer in answers if answer.status_code == 409)


def test_what_belongs_to_others_is_not_found(district: District, numbers: Numbers, gateway: Gateway, consumer: Client) -> None:
    contract, consent = district.contract(consumer), district.consent("person-others")
    stranger = gateway.partner("Stranger")

    for verb in ("end", "suspend", "resume"):
        problem(move(stranger, contract, verb), "not_found")
    for path in ("", "/text", "/schema", "/asyncapi.json", "/events"):
        problem(send(stranger, "GET", f"/v1/contracts/{contract}{path}"), "not_found")
    problem(send(stranger, "GET", f"/v1/consents/{consent}"), "not_found")
    problem(send(stranger, "POST", f"/v1/consents/{consent}/withdraw"), "not_found")
    body = {"dataset": FOOTFALL, "subject": "person-others"}
    problem(send(stranger, "POST", "/v1/consents/search", body=body), "not_found")
    given = body | {"purposes": ["transit-planning"], "recipients": ["any_recipient"], "notice": district.notice, "given_by": "subject"}
    problem(send(stranger, "POST", "/v1/consents", body=given), "not_found")
    problem(send(stranger, "PATCH", f"/v1/datasets/{numbers.slug}", body={"contact": "me"}, headers={"If-Match": "*"}), "not_the_owner")
    problem(send(stranger, "POST", f"/v1/datasets/{numbers.slug}/schemas", body={"schema": {"type": "object"}}), "not_the_owner")
    problem(send(district.provider, "GET", f"/v1/contracts/{contract}/events"), "not_found")
    assert stranger.get("/v1/contracts")["items"] == []


def test_a_change_without_or_with_an_old_etag_is_refused(gateway: Gateway) -> None:
    numbers = Numbers(gateway)
    path = f"/v1/datasets/{numbers.slug}"
    etag = send(numbers.provider, "GET", path).headers["etag"]

    problem(send(numbers.provider, "PATCH", path, body={"contact": "a"}), "precondition_required")
    assert send(numbers.provider, "PATCH", path, body={"contact": "a"}, headers={"If-Match": etag}).status_code == 200
    problem(send(numbers.provider, "PATCH", path, body={"contact": "b"}, headers={"If-Match": etag}), "stale")
