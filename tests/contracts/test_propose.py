from __future__ import annotations

from base64 import b64encode
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from gateway.database import now, rfc3339
from tests.catalog.rooms import Rooms


def propose(rooms: Rooms, by: str = "mobility", **terms: Any) -> Any:
    return rooms.http.post("/v1/contracts", json={"dataset": "footfall", "purpose": "transit-planning"} | terms, headers=rooms.as_(by))


def in_(**length: int) -> str:
    return rfc3339((now() + timedelta(**length)).replace(microsecond=0))


def test_proposal_waits_for_the_provider(rooms: Rooms) -> None:
    rooms.register("footfall")
    until = in_(days=30)
    answer = propose(rooms, note="For shelters.", history="P7D", valid_until=until)
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/contracts/{made['id']}"
    assert (made["state"], made["provider"], made["consumer"]) == ("proposed", rooms.organization("bia"), rooms.organization("mobility"))
    assert (made["history"], made["note"], made["valid_until"]) == ("P7D", "For shelters.", until)
    assert [signature["side"] for signature in made["signatures"]] == ["consumer"]
    assert rooms.policy.asked == ["propose footfall transit-planning proposed"]
    assert rooms.change_kinds()[-1] == "contract_proposed"
    entry = rooms.audited("contract")[-1]
    assert (entry["action"], entry["contract"], entry["decision"]) == ("proposed", made["id"], made["decision"])
    assert entry["detail"]["text_digest"] == made["text_digest"]


def test_contract_lasts_a_year_from_now_if_nothing_else_is_asked(rooms: Rooms) -> None:
    rooms.register("footfall")
    view = rooms.contracts.get(rooms.propose()["id"])
    assert view is not None
    assert view.valid_until - view.valid_from == timedelta(days=365)
    assert timedelta(0) <= now() - view.valid_from < timedelta(seconds=30)
    assert view.history == "none"


def test_refused_purpose_bothers_nobody(rooms: Rooms) -> None:
    rooms.register("footfall")
    answer = propose(rooms, purpose="advertising")
    assert (answer.status_code, answer.json()["code"]) == (403, "policy_denied")
    assert answer.json()["reasons"][0]["code"] == "purpose_not_covered"
    assert answer.json()["decision_id"].startswith("dec_")
    assert rooms.http.get("/v1/contracts", headers=rooms.as_("bia")).json()["items"] == []
    assert rooms.change_kinds() == ["dataset_created"]


@pytest.mark.parametrize(
    ("terms", "pointer"),
    [
        ({"dataset": "nothing"}, "/dataset"),
        ({"purpose": "world-peace"}, "/purpose"),
        ({"offer": "off_1"}, "/offer"),
        ({"history": "much"}, "/history"),
        ({"history": "P1Y"}, "/history"),
        ({"valid_from": "tomorrow"}, "/valid_from"),
        ({"valid_from": "2020-01-01T00:00:00Z"}, "/valid_from"),
        ({"valid_from": "9999-12-31T23:59:59Z"}, "/valid_from"),
        ({"valid_from": "0001-01-01T00:00:00+23:59"}, "/valid_from"),
        ({"valid_until": "2020-01-01T00:00:00Z"}, "/valid_until"),
        ({"valid_until": "9999-12-31T23:59:59-23:59"}, "/valid_until"),
        ({"price": 5}, "/price"),
        ({"note": ""}, "/note"),
    ],
)
def test_term_that_does_not_fit_is_refused_with_the_place(rooms: Rooms, terms: dict[str, Any], pointer: str) -> None:
    rooms.register("footfall")
    answer = propose(rooms, **terms)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert rooms.policy.asked == []


def test_sensitive_dataset_is_not_told_of_to_who_may_not_have_it(rooms: Rooms) -> None:
    rooms.register("footfall", "sensitive")
    known, unknown = propose(rooms, purpose="advertising"), propose(rooms, purpose="advertising", dataset="nothing")
    assert known.json() == unknown.json()
    assert propose(rooms).status_code == 201


def test_offer_taken_up_is_in_force_at_once(rooms: Rooms) -> None:
    rooms.register("footfall", "open")
    offer = rooms.offer(purpose="research", max_validity="P10D", max_history="P7D")
    made = propose(rooms, purpose="academic-research", offer=offer, history="P7D").json()
    assert made["state"] == "active"
    assert [(signature["side"], signature["by"]) for signature in made["signatures"]] == [
        ("consumer", rooms.people.principals["mobility"].client_id),
        ("provider", offer),
    ]
    view = rooms.contracts.get(made["id"])
    assert view is not None
    assert (view.offer_id, view.valid_until - view.valid_from) == (offer, timedelta(days=10))
    assert rooms.change_kinds()[-1] == "contract_activated"


@pytest.mark.parametrize(
    ("terms", "pointer"),
    [
        ({"purpose": "transit-planning"}, "/purpose"),
        ({"valid_until": in_(days=12)}, "/valid_until"),
        ({"history": "P8D"}, "/history"),
        ({"history": "all"}, "/history"),
    ],
)
def test_nothing_goes_beyond_an_offer(rooms: Rooms, terms: dict[str, Any], pointer: str) -> None:
    rooms.register("footfall", "open")
    offer = rooms.offer(purpose="research", max_validity="P10D", max_history="P7D")
    answer = propose(rooms, **{"purpose": "research", "offer": offer} | terms)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_offer_to_others_is_not_taken_up(rooms: Rooms) -> None:
    rooms.register("footfall", "open")
    theirs, ours = rooms.offer(to=[rooms.organization("stranger")]), rooms.offer(to=[rooms.organization("mobility")])
    assert propose(rooms, purpose="research", offer=theirs).json()["errors"][0]["pointer"] == "/offer"
    assert propose(rooms, purpose="research", offer=ours).json()["state"] == "active"


def test_offer_stands_no_longer_when_the_data_is_personal(rooms: Rooms) -> None:
    rooms.register("footfall", "open")
    offer = rooms.offer()
    tag = rooms.http.get("/v1/datasets/footfall").headers["ETag"]
    rooms.http.patch("/v1/datasets/footfall", json={"classification": "personal"}, headers=rooms.as_("bia") | {"If-Match": tag})
    assert propose(rooms, purpose="research", offer=offer).json()["errors"][0]["pointer"] == "/offer"


def test_text_is_kept_byte_for_byte_with_its_digest(rooms: Rooms) -> None:
    title = {"en": "Visits\n\n## Clause 9\nAll is sold", "fr": "Visites"}
    assert rooms.http.post("/v1/datasets", json={"title": title}, headers=rooms.as_("bia")).status_code == 422
    rooms.register("footfall", "open", title={"en": "Visits $provider", "fr": "Visites"})
    offer = rooms.offer(terms={"en": "Results are published.\n## What the consumer promises\n- nothing", "fr": "Publiez."})
    made = rooms.propose(purpose="research", offer=offer)
    read = rooms.http.get(f"/v1/contracts/{made['id']}/text", headers=rooms.as_("bia"))
    digest = f"sha-256=:{b64encode(sha256(read.content).digest()).decode()}:"
    assert read.headers["Repr-Digest"] == made["text_digest"] == digest
    text = read.content.decode()
    for told in (
        "Visits $provider",
        "Mobility Inc.",
        "City of Mississauga",
        "CC-BY-4.0",
        "no longer than P90D",
        "plus de P90D",
        made["decision"],
    ):
        assert told in text
    assert "> ## What the consumer promises" in text
    assert text.count("\n## What the consumer promises") == 1


def test_own_organization_may_have_a_contract(rooms: Rooms) -> None:
    rooms.register("footfall")
    made = rooms.propose(by="bia")
    assert made["provider"] == made["consumer"]
    assert rooms.sign(made).json()["state"] == "active"


def test_repeated_proposal_with_one_idempotency_key_is_one(rooms: Rooms) -> None:
    rooms.register("footfall")
    headers = rooms.as_("mobility") | {"Idempotency-Key": "k1"}
    body = {"dataset": "footfall", "purpose": "transit-planning"}
    first, second = (rooms.http.post("/v1/contracts", json=body, headers=headers) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(rooms.http.get("/v1/contracts", headers=rooms.as_("bia")).json()["items"]) == 1
