from __future__ import annotations

import re
from typing import Any

import pytest

from gateway.catalog import examples
from tests.catalog.rooms import Rooms


def merge(rooms: Rooms, slug: str, patch: dict[str, Any], by: str = "bia", tag: str | None = None) -> Any:
    tag = tag or rooms.http.get(f"/v1/datasets/{slug}", headers=rooms.as_(by)).headers["ETag"]
    headers = rooms.as_(by) | {"If-Match": tag, "Content-Type": "application/merge-patch+json"}
    return rooms.http.patch(f"/v1/datasets/{slug}", json=patch, headers=headers)


def test_dataset_is_registered_with_its_topic_schema_and_owner(rooms: Rooms) -> None:
    made = rooms.register("footfall", "personal")
    assert made == rooms.http.get("/v1/datasets/footfall").json()
    assert made["owner"] == rooms.organization("bia")
    assert made["schema_version"] == 1
    assert made["subject_scheme"] == "opaque"
    view = rooms.catalog.get("footfall")
    assert view is not None
    assert re.fullmatch(r"exchange\.footfall\.[0-9a-f]{8}", view.topic)
    assert rooms.topics == {view.topic: (4, 30 * 24 * 3600 * 1000)}
    assert view.topic_id == f"id-of-{view.topic}"
    assert rooms.change_kinds() == ["dataset_created"]
    assert rooms.audited("dataset")[0]["action"] == "created"


def test_a_slug_is_given_once(rooms: Rooms) -> None:
    rooms.register("footfall")
    again = rooms.http.post("/v1/datasets", json=examples.NEW_DATASET | {"slug": "footfall"}, headers=rooms.as_("mobility"))
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")


def test_only_an_operator_registers_for_another_organization(rooms: Rooms) -> None:
    body = examples.NEW_DATASET | {"owner": rooms.organization("bia")}
    denied = rooms.http.post("/v1/datasets", json=body, headers=rooms.as_("mobility"))
    assert (denied.status_code, denied.json()["code"]) == (403, "role_missing")
    assert rooms.http.post("/v1/datasets", json=body, headers=rooms.as_("city")).json()["owner"] == rooms.organization("bia")
    nobody = rooms.http.post("/v1/datasets", json=body | {"slug": "other", "owner": "org_0"}, headers=rooms.as_("city"))
    assert nobody.json()["errors"][0]["pointer"] == "/owner"


def test_writing_needs_a_token_and_reading_none(rooms: Rooms) -> None:
    assert rooms.http.post("/v1/datasets", json=examples.NEW_DATASET).json()["code"] == "token_missing"
    rooms.register("footfall")
    for path in ("/v1/purposes", "/v1/datasets", "/v1/datasets/footfall", "/v1/datasets/footfall/offers", "/v1/datasets/footfall/sample"):
        answer = rooms.http.get(path)
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_sensitive_dataset_is_there_for_owner_overseers_and_parties_only(rooms: Rooms) -> None:
    rooms.register("clinic-visits", "sensitive")
    rooms.register("footfall", "personal")
    sees = {name: rooms.http.get("/v1/datasets/clinic-visits", headers=rooms.as_(name)).status_code for name in rooms.people.principals}
    assert sees == {"city": 200, "bia": 200, "mobility": 404, "stranger": 404, "officer": 200, "officer in person": 200, "auditor": 404}
    rooms.propose("clinic-visits", by="mobility")
    assert rooms.http.get("/v1/datasets/clinic-visits", headers=rooms.as_("mobility")).status_code == 200
    listed = {name: slugs(rooms.http.get("/v1/datasets", headers=rooms.as_(name))) for name in ("bia", "mobility", "stranger")}
    assert listed == {"bia": ["clinic-visits", "footfall"], "mobility": ["clinic-visits", "footfall"], "stranger": ["footfall"]}
    assert slugs(rooms.http.get("/v1/datasets")) == ["footfall"]
    for below in ("/offers", "/sample", "/asyncapi.json", "/schemas/1"):
        assert rooms.http.get(f"/v1/datasets/clinic-visits{below}").status_code == 404


def slugs(answer: Any) -> list[str]:
    return [dataset["slug"] for dataset in answer.json()["items"]]


def test_a_list_is_paged_by_slug(rooms: Rooms) -> None:
    for slug in ("c", "a", "b"):
        rooms.register(slug)
    first = rooms.http.get("/v1/datasets?limit=2")
    assert slugs(first) == ["a", "b"]
    assert 'rel="next"' in first.headers["Link"]
    rest = rooms.http.get("/v1/datasets", params={"limit": 2, "after": first.json()["next"]}).json()
    assert ([dataset["slug"] for dataset in rest["items"]], rest["next"]) == (["c"], None)


def test_patch_merges_and_needs_the_current_etag(rooms: Rooms) -> None:
    rooms.register("footfall")
    tag = rooms.http.get("/v1/datasets/footfall").headers["ETag"]
    changed = merge(rooms, "footfall", {"contact": None, "title": {"fr": "Piétons"}}, tag=tag)
    assert changed.status_code == 200
    assert changed.json()["contact"] is None
    assert changed.json()["title"] == {"en": examples.NEW_DATASET["title"]["en"], "fr": "Piétons"}
    assert changed.headers["ETag"] != tag
    assert merge(rooms, "footfall", {"contact": "x"}, tag=tag).json()["code"] == "stale"
    bare = rooms.http.patch("/v1/datasets/footfall", json={"contact": "x"}, headers=rooms.as_("bia"))
    assert (bare.status_code, bare.json()["code"]) == (428, "precondition_required")


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"title": None}, "/title"),
        ({"title": {"de": "Besuche"}}, "/title/de"),
        ({"slug": "other"}, "/slug"),
        ({"partitions": 9}, "/partitions"),
        ({"classification": "secret"}, "/classification"),
        ({"personal_pointers": ["/nowhere"]}, "/personal_pointers/0"),
        ({"licence": {"url": "javascript:alert(1)"}}, "/licence/url"),
        ({"contact": "two\nlines"}, "/contact"),
    ],
)
def test_patch_that_does_not_fit_says_where(rooms: Rooms, patch: dict[str, Any], pointer: str) -> None:
    rooms.register("footfall")
    answer = merge(rooms, "footfall", patch)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_owner_raises_a_classification_and_only_an_officer_in_person_lowers_it(rooms: Rooms) -> None:
    rooms.register("footfall", "internal")
    assert merge(rooms, "footfall", {"classification": "personal"}).json()["classification"] == "personal"
    lowered = merge(rooms, "footfall", {"classification": "open"})
    assert (lowered.status_code, lowered.json()["code"]) == (403, "needs_officer")
    assert merge(rooms, "footfall", {"classification": "internal"}, by="officer").json()["code"] == "needs_officer", (
        "a program, not a person"
    )
    lowered = merge(rooms, "footfall", {"classification": "internal"}, by="officer in person")
    assert lowered.json()["classification"] == "internal"
    assert rooms.change_kinds() == ["dataset_created", "classification_raised", "classification_lowered"]
    assert rooms.audited("dataset")[-1]["detail"] == {"from": "personal", "to": "internal"}


def test_a_field_stops_being_personal_by_an_officer_in_person_only(rooms: Rooms) -> None:
    rooms.register("footfall", "personal")
    denied = merge(rooms, "footfall", {"personal_pointers": []})
    assert denied.json()["code"] == "needs_officer"
    assert merge(rooms, "footfall", {"personal_pointers": []}, by="officer").json()["code"] == "needs_officer", "a program, not a person"
    assert merge(rooms, "footfall", {"personal_pointers": []}, by="officer in person").status_code == 200


def test_another_organization_changes_nothing(rooms: Rooms) -> None:
    rooms.register("footfall")
    assert merge(rooms, "footfall", {"contact": "me"}, by="mobility").json()["code"] == "not_the_owner"
    for path, body in (("schemas", {"schema": examples.SCHEMA}), ("offers", examples.NEW_OFFER)):
        answer = rooms.http.post(f"/v1/datasets/footfall/{path}", json=body, headers=rooms.as_("mobility"))
        assert (answer.status_code, answer.json()["code"]) == (403, "not_the_owner")


def test_revoked_licence_ends_every_contract_and_stays_revoked(rooms: Rooms) -> None:
    rooms.register("footfall")
    rooms.register("stops")
    active, proposed, other = rooms.active(), rooms.propose(), rooms.propose("stops")
    assert merge(rooms, "footfall", {"licence_revoked": True}).status_code == 200
    views = [rooms.contracts.get(contract["id"]) for contract in (active, proposed, other)]
    assert [(view.state, view.ended_reason) for view in views if view] == [
        ("ended", "licence_revoked"),
        ("ended", "licence_revoked"),
        ("proposed", None),
    ]
    assert rooms.change_kinds()[-3:] == ["licence_revoked", "contract_ended", "contract_ended"]
    back = merge(rooms, "footfall", {"licence_revoked": False})
    assert (back.status_code, back.json()["code"]) == (409, "illegal_state")
    late = rooms.http.post("/v1/contracts", json={"dataset": "footfall", "purpose": "research"}, headers=rooms.as_("mobility"))
    assert late.json()["code"] == "illegal_state"


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"subject_pointer": "/nobody"}, "/subject_pointer"),
        ({"key_pointer": "/zone"}, "/key_pointer"),
        ({"key_pointer": "/nowhere"}, "/key_pointer"),
        ({"subject_pointer": None, "subject_scheme": "email"}, "/subject_scheme"),
        ({"slug": "Not A Slug"}, "/slug"),
        ({"partitions": 0}, "/partitions"),
        ({"partitions": "4"}, "/partitions"),
        ({"retention": "P1M"}, "/retention"),
        ({"classification": "public"}, "/classification"),
        ({"title": {"en": "Footfall"}}, "/title/fr"),
        ({"supersedes": "nothing"}, "/supersedes"),
        ({"colour": "blue"}, "/colour"),
        ({"contact": "nul\u0000"}, "/contact"),
        ({"schema": {"type": "object", "properties": {"visitor": {"type": "string"}}}}, "/personal_pointers/0"),
        ({"schema": {"type": "array"}}, "/schema/type"),
    ],
)
def test_dataset_that_does_not_fit_is_refused_with_the_place(rooms: Rooms, members: dict[str, Any], pointer: str) -> None:
    body = examples.NEW_DATASET | {"personal_pointers": ["/zone"], "key_pointer": None} | members
    answer = rooms.http.post("/v1/datasets", json=body, headers=rooms.as_("bia"))
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert rooms.topics == {}


def test_a_subject_is_required_text(rooms: Rooms) -> None:
    schema = {"type": "object", "properties": {"visitor": {"type": "string"}}}
    body = examples.NEW_DATASET | {"schema": schema}
    assert "required" in rooms.http.post("/v1/datasets", json=body, headers=rooms.as_("bia")).json()["errors"][0]["detail"]


def test_body_nested_ten_thousand_deep_is_refused(rooms: Rooms) -> None:
    body = '{"schema": ' + '{"properties": {"a": ' * 10_000 + "{}" + "}}" * 10_000 + "}"
    headers = rooms.as_("bia") | {"Content-Type": "application/json"}
    for method, path in (("POST", "/v1/datasets"), ("PATCH", "/v1/datasets/x"), ("POST", "/v1/contracts")):
        assert 400 <= rooms.http.request(method, path, content=body, headers=headers).status_code < 500


def test_offers_are_for_open_and_internal_datasets_only(rooms: Rooms) -> None:
    rooms.register("stops", "open")
    rooms.register("footfall", "personal")
    made = rooms.http.post("/v1/datasets/stops/offers", json=examples.NEW_OFFER, headers=rooms.as_("bia"))
    assert (made.status_code, made.json()["to"], made.json()["dataset"]) == (201, "approved_organizations", "stops")
    assert rooms.http.get("/v1/datasets/stops/offers").json()["items"] == [made.json()]
    refused = rooms.http.post("/v1/datasets/footfall/offers", json=examples.NEW_OFFER, headers=rooms.as_("bia"))
    assert (refused.status_code, refused.json()["code"]) == (409, "illegal_state")
    named = rooms.http.post("/v1/datasets/stops/offers", json=examples.NEW_OFFER | {"to": ["org_1"]}, headers=rooms.as_("bia"))
    assert named.json()["to"] == ["org_1"]


@pytest.mark.parametrize(
    "members",
    [{"purpose": "world-peace"}, {"max_validity": "P1Y"}, {"max_history": "much"}, {"to": "everyone"}, {"to": []}, {"terms": "yes"}],
)
def test_offer_that_does_not_fit_is_refused(rooms: Rooms, members: dict[str, Any]) -> None:
    rooms.register("stops", "open")
    answer = rooms.http.post("/v1/datasets/stops/offers", json=examples.NEW_OFFER | members, headers=rooms.as_("bia"))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body")
    assert answer.json()["errors"][0]["pointer"].startswith("/" + next(iter(members)))
