"""Receipts, which another's tool verifies, and the codes that stand in them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import jsonschema_rs
import orjson
import pytest
from joserfc import jws
from sqlalchemy import select

from consent.codes import new_code
from consent.models import ConsentRecord
from gateway.audit.models import AuditEntry
from gateway.consents.receipts import TYPE
from gateway.keys import b64
from gateway.resources import SCHEMAS
from tests.city import ISSUER, City
from tests.consents.acts import act, give, passes, withdraw

# Another's library, in a process of its own, that is given nothing but the receipt and the public keys.
VERIFIER = """
import json, sys, jwt
given = json.load(sys.stdin)
header = jwt.get_unverified_header(given["receipt"])
[key] = [key for key in jwt.PyJWKSet.from_dict(given["keys"]).keys if key.key_id == header["kid"]]
claims = jwt.decode(given["receipt"], key, algorithms=["ES256"], issuer=given["issuer"], options={"verify_iat": False})
print(json.dumps({"header": header, "claims": claims}))
"""


def verified(city: City, receipt: str) -> dict[str, Any]:
    """{header, claims}, as PyJWT says; fails as it does."""
    given = json.dumps({"receipt": receipt, "keys": city.identity.public_keys(), "issuer": ISSUER})
    return dict(
        json.loads(subprocess.run([sys.executable, "-c", VERIFIER], input=given, capture_output=True, check=True, text=True).stdout)
    )


def by_code(city: City, **body: Any) -> Any:
    return city.http.post("/v1/consents/withdraw", json=body)


def receipt_of(city: City, consent: str) -> str:
    read = city.http.get(f"/v1/consents/{consent}/receipt", headers=city.as_(city.provider))
    assert read.headers["content-type"] == "application/jose"
    assert read.headers["cache-control"] == "no-store"
    return str(read.text)


def test_anothers_tool_verifies_a_receipt_in_another_process(city: City) -> None:
    made = give(city, valid_until="2100-01-01T00:00:00Z").json()
    read = verified(city, made["receipt"])
    claims = read["claims"]
    assert (read["header"]["alg"], read["header"]["typ"]) == ("ES256", TYPE)
    assert claims["record_metadata"]["record_id"] == made["id"]
    assert claims["notice"]["id"] == made["notice"]["id"]
    assert claims["pii_processing"]["purposes"][0]["iri"].startswith("https://w3id.org/dpv#")
    assert claims["pii_processing"]["withdrawal"] == {"url": f"{ISSUER}/v1/consents/withdraw", "code": made["withdrawal_code"]}
    assert [party["name"] for party in claims["party_identification"]] == ["Transit"]
    assert "visitor-ann" not in json.dumps(claims)
    schema = orjson.loads((SCHEMAS / "receipt.json").read_bytes())
    for document in (claims, *schema["examples"]):
        jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(document)


@pytest.mark.parametrize("spoiled", ["payload", "signature"])
def test_a_forged_receipt_verifies_nowhere(city: City, spoiled: str) -> None:
    header, payload, signature = give(city).json()["receipt"].split(".")
    forged = [header, b64(b'{"iss":"x"}'), signature] if spoiled == "payload" else [header, payload, b64(b"0" * 64)]
    with pytest.raises(subprocess.CalledProcessError):
        verified(city, ".".join(forged))


def test_a_later_receipt_tells_what_has_happened_and_no_code(city: City) -> None:
    consent = give(city).json()["id"]
    withdraw(city, consent)
    claims = verified(city, receipt_of(city, consent))["claims"]
    assert claims["pii_processing"]["withdrawal"]["code"] is None
    assert [step["state"] for step in claims["events"]] == ["given", "withdrawn"]
    assert claims["record_metadata"]["status"] == "https://w3id.org/dpv#ConsentWithdrawn"


def test_no_receipt_is_taken_for_an_access_token(city: City) -> None:
    answer = city.http.get("/v1/consents/cns_" + "0" * 26, headers={"Authorization": f"Bearer {give(city).json()['receipt']}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


def test_whoever_holds_the_code_withdraws_that_consent_and_nothing_else(city: City) -> None:
    mine, other, elses = give(city).json(), give(city).json(), give(city, subject="visitor-bob").json()
    answer = by_code(city, code=mine["withdrawal_code"].lower().replace("-", " "))
    assert (answer.status_code, answer.json()["state"], answer.json()["still_shared"]) == (200, "withdrawn", [])
    assert answer.headers["ratelimit-policy"] == '"withdrawals";q=10;w=60'
    states = [city.http.get(f"/v1/consents/{each['id']}", headers=city.as_(city.provider)).json() for each in (mine, other, elses)]
    assert [each["state"] for each in states] == ["withdrawn", "given", "given"]
    assert states[0]["history"][-1]["by"] == "holder"
    assert by_code(city, code=other["withdrawal_code"]).json()["state"] == "withdrawn"
    assert not passes(city)
    assert passes(city, "visitor-bob")


def test_withdrawing_by_code_again_answers_the_same(city: City) -> None:
    code = give(city).json()["withdrawal_code"]
    first, again = by_code(city, code=code).json(), by_code(city, code=code).json()
    assert first["barrier"].pop("waited_ms") >= 0
    assert again["barrier"].pop("waited_ms") >= 0
    assert first == again


def test_the_receipt_itself_withdraws(city: City) -> None:
    made = give(city).json()
    assert by_code(city, receipt=made["receipt"]).json()["state"] == "withdrawn"
    assert not passes(city)


def test_paused_consent_is_withdrawn_by_its_code(city: City) -> None:
    made = give(city).json()
    act(city, made["id"], "pause")
    assert by_code(city, code=made["withdrawal_code"]).json()["state"] == "withdrawn"


def test_the_holder_of_a_code_is_told_how_its_consent_ended(city: City) -> None:
    made = give(city).json()
    act(city, made["id"], "revoke")
    assert by_code(city, code=made["withdrawal_code"]).json()["state"] == "revoked"


def test_codes_that_are_forged_foreign_or_none_are_answered_alike(city: City) -> None:
    made = give(city).json()
    later = receipt_of(city, made["id"])
    key = city.keys.signing["receipt"]
    empty = jws.serialize_compact({"alg": "ES256", "typ": TYPE, "kid": key.kid}, b"{}", key, algorithms=["ES256"])
    token = city.as_(city.provider)["Authorization"].removeprefix("Bearer ")
    answers = [by_code(city, code=code) for code in (new_code(), "W-1234", made["id"])]
    answers += [by_code(city, receipt=receipt) for receipt in (later, empty, token, "a.b.c", "", "é" * 40)]
    told = [{name: value for name, value in answer.json().items() if name != "instance"} for answer in answers]
    assert all(each == told[0] for each in told)
    assert (told[0]["status"], told[0]["code"]) == (404, "not_found")
    assert passes(city)


def test_tries_are_few_by_address(city: City) -> None:
    made = give(city).json()
    statuses = [by_code(city, code=new_code()).status_code for _ in range(11)]
    assert statuses == [404] * 10 + [429]
    refused = by_code(city, code=made["withdrawal_code"])
    assert (refused.json()["code"], int(refused.headers["retry-after"]) >= 1) == ("rate_limited", True)
    assert passes(city)


@pytest.mark.parametrize("body", [{}, {"code": None}, {"code": 1}, {"code": "x", "receipt": "y"}, {"code": "x" * 101}, {"consent": "cns_"}])
def test_a_withdrawal_that_does_not_fit_is_refused(city: City, body: dict[str, Any]) -> None:
    assert by_code(city, **body).json()["code"] == "invalid_body"


def test_a_new_code_takes_the_place_of_one_that_was_lost(city: City) -> None:
    made = give(city).json()
    fresh = act(city, made["id"], "receipt").json()
    assert verified(city, fresh["receipt"])["claims"]["pii_processing"]["withdrawal"]["code"] == fresh["withdrawal_code"]
    assert by_code(city, code=made["withdrawal_code"]).status_code == 404
    assert by_code(city, code=fresh["withdrawal_code"]).status_code == 200
    assert act(city, made["id"], "receipt").json()["code"] == "illegal_state"


def test_a_code_is_stored_and_logged_nowhere_in_clear(city: City) -> None:
    code = give(city).json()["withdrawal_code"]
    by_code(city, code=code)
    with city.database.reading() as session:
        stored = session.scalars(select(ConsentRecord)).one()
        entries = b"".join(row.entry for row in session.scalars(select(AuditEntry)))
    assert len(stored.code_hash or b"") == 32
    for form in (code, code.replace("-", "")):
        assert form.encode() not in entries + (stored.code_hash or b"")
