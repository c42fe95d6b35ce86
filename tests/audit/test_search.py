"""Who finds which entry, and what of it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from typing import Any

import jsonschema_rs
import orjson
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from gateway.audit.api import SHOWN, Search, _page
from gateway.audit.record import Entry, Ranges, canonical, record
from gateway.database import Database, now, rfc3339
from gateway.identity.principal import Principal
from gateway.keys import b64, unb64
from gateway.migrations import upgrade
from gateway.resources import SCHEMAS
from tests.city import FOOTFALL, City
from tests.engines import Postgres

PATH = "/v1/audit/entries"


def append(city: City, **members: Any) -> bytes:
    with city.database.transaction() as session:
        return record(session, Entry(**{"kind": "release", "action": "deliver"} | members)).leaf_hash


def release(city: City) -> bytes:
    return append(
        city,
        actor=city.consumer,
        organization=city.planner,
        dataset=FOOTFALL,
        contract="con_1",
        ranges=Ranges({0: (0, 10)}, {0: 9}),
        closed=(9, 900),
        provider=city.transit,
        consumer=city.planner,
    )


def search(city: City, client: str, **parameters: Any) -> list[dict[str, Any]]:
    answer = city.http.get(PATH, params=parameters, headers=city.as_(client))
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_auditor_finds_every_entry(city: City) -> None:
    release(city)
    append(city, kind="policy", action="activated")
    assert [item["kind"] for item in search(city, city.officer)] == ["release", "policy"]


def test_organization_finds_what_it_did_provided_or_received_and_nothing_else(city: City) -> None:
    append(city, contract="con_actor", organization=city.planner)
    append(city, contract="con_provider", provider=city.planner)
    append(city, contract="con_consumer", consumer=city.planner)
    hidden = append(city, contract="con_other", organization=city.transit)
    assert [item["entry"]["contract"] for item in search(city, city.consumer)] == ["con_actor", "con_provider", "con_consumer"]
    answer = city.http.get(f"{PATH}/by-hash/{b64(hidden)}", headers=city.as_(city.consumer))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_positions_are_opened_to_auditor_and_provider_and_not_to_the_consumer(city: City) -> None:
    release(city)
    for client, opened in ((city.officer, True), (city.provider, True), (city.consumer, False)):
        [item] = search(city, client)
        assert ("opening" in item) is opened
    opening = search(city, city.provider)[0]["opening"]
    committed = sha256(unb64(opening.pop("salt")) + canonical(opening)).digest()
    assert search(city, city.consumer)[0]["entry"]["ranges"] == b64(committed)


def test_found_entry_and_salt_prove_the_receipt(city: City) -> None:
    leaf_hash = release(city)
    [item] = search(city, city.consumer)
    commitment = b64(sha256(unb64(item["salt"]) + canonical(item["entry"])).digest())
    leaf = canonical({"v": 1, "kind": item["kind"], "at": item["at"], "commitment": commitment})
    assert sha256(b"\0" + leaf).digest() == leaf_hash == unb64(item["leaf_hash"])


def test_example_of_the_api_proves_itself() -> None:
    commitment = b64(sha256(unb64(SHOWN["salt"]) + canonical(SHOWN["entry"])).digest())
    leaf = canonical({"v": 1, "kind": SHOWN["kind"], "at": SHOWN["at"], "commitment": commitment})
    assert b64(sha256(b"\0" + leaf).digest()) == SHOWN["leaf_hash"]


@pytest.mark.parametrize("written", [bytes.hex, b64])
def test_receipt_leads_to_its_entry(city: City, written: Any) -> None:
    release(city)
    leaf_hash = append(city, contract="con_2", consumer=city.planner)
    answer = city.http.get(f"{PATH}/by-hash/{written(leaf_hash)}", headers=city.as_(city.consumer))
    assert answer.status_code == 200, answer.text
    assert answer.json()["entry"]["contract"] == "con_2"
    assert b64encode(unb64(answer.json()["leaf_hash"])) == b64encode(leaf_hash)


@pytest.mark.parametrize("given", ["x", "0" * 63, "g" * 64, "%00" * 43, "A" * 44])
def test_what_is_no_hash_is_refused(city: City, given: str) -> None:
    assert city.http.get(f"{PATH}/by-hash/{given}", headers=city.as_(city.officer)).status_code == 422


def test_each_parameter_narrows_the_search(city: City) -> None:
    members = {"actor": "cli_a", "organization": "org_a", "dataset": "a", "contract": "con_a", "purpose": "research", "decision": "dec_a"}
    append(city, **members)
    for name, value in members.items():
        append(city, **members | {name: f"{value}-other"})
    append(city, **members, kind="publish")
    for name, value in ({"kind": "release"} | members).items():
        assert len(search(city, city.officer, **{name: value})) == 7
    assert len(search(city, city.officer, **members, kind="release")) == 1


def test_what_two_parameters_do_not_find_together_is_not_looked_for_among_all_that_one_of_them_finds(postgres: Postgres) -> None:
    url = postgres.url(postgres.create_database())
    upgrade(url)
    database = Database(url)
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute(MANY)
        connection.execute("VACUUM ANALYZE audit_entries")
    auditor = Principal("cli_1", "org_1", frozenset(), frozenset({"auditor"}), frozenset(), strong=False, expires_at=now(), token_id="t")
    partner = replace(auditor, roles=frozenset())
    searches = [
        replace(Search(kind="publish"), **dict[str, Any]({name: "one"}))
        for name in ("actor", "organization", "dataset", "contract", "purpose")
    ]
    pages = [_page(auditor, search, 0, 51) for search in [*searches, Search(kind="key"), Search(purpose="rare")]]
    pages += [_page(partner, search, 0, 51) for search in (Search(), Search(kind="publish"), Search(kind="key"))]
    for page in pages:
        shown = page.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})  # type: ignore[no-untyped-call]
        with database.reading() as session:
            [plan] = session.scalars(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {shown}")).one()
        assert looked_at(plan["Plan"]) < 1000, shown
    database.close()


MANY = """
INSERT INTO audit_entries (at, kind, actor, organization, provider, dataset, contract, purpose, entry, salt, leaf, leaf_hash)
SELECT now(), CASE WHEN n <= 20000 THEN 'release' ELSE 'publish' END, name, name, name, name, name, name, '', '', '', ''
FROM (SELECT n, CASE WHEN n <= 20000 THEN 'one' ELSE 'two' END AS name FROM generate_series(1, 40000) AS n) AS rows
"""


def looked_at(plan: dict[str, Any]) -> int:
    """Rows that this plan and those under it have read and left."""
    rows = plan["Actual Loops"] * (plan["Actual Rows"] + sum(plan.get(f"Rows Removed by {by}", 0) for by in ("Filter", "Index Recheck")))
    return int(rows + sum(map(looked_at, plan.get("Plans", []))))


def test_search_by_time_takes_the_first_instant_and_leaves_the_last(city: City) -> None:
    append(city)
    [item] = search(city, city.officer)
    assert search(city, city.officer, since=item["at"]) == [item]
    assert search(city, city.officer, until=item["at"]) == []
    assert search(city, city.officer, since="2026-01-01T00:00:00+05:00", until=rfc3339(now().replace(year=2100))) == [item]


def test_pages_are_stable_while_entries_are_added(city: City) -> None:
    for n in range(5):
        append(city, contract=f"con_{n}")
    seen: list[str] = []
    after: str | None = None
    while True:
        answer = city.http.get(PATH, params={"limit": 2} | ({"after": after} if after else {}), headers=city.as_(city.officer))
        seen += [item["entry"]["contract"] for item in answer.json()["items"]]
        after = answer.json()["next"]
        assert (after is None) == ("link" not in answer.headers)
        if after is None:
            break
        if len(seen) == 2:
            append(city, contract="con_5")
    assert seen == [f"con_{n}" for n in range(6)]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=x", "after=x", "after=-1", "since=yesterday", "actor=%00", "actor=", "unknown=1", "kind=a%27b"],
)
def test_wrong_parameters_are_named(city: City, query: str) -> None:
    answer = city.http.get(f"{PATH}?{query}", headers=city.as_(city.officer))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body")
    assert answer.json()["errors"][0]["pointer"] == f"?{query.partition('=')[0]}"


def test_search_needs_its_scope(city: City) -> None:
    assert city.http.get(PATH).json()["code"] == "token_missing"
    assert city.http.get(PATH, headers=city.as_(city.officer, "catalog:read")).json()["code"] == "scope_missing"


def test_entries_fit_their_schema_and_so_does_its_example(city: City) -> None:
    schema = orjson.loads((SCHEMAS / "audit-entry.json").read_bytes())
    validator = jsonschema_rs.Draft202012Validator(schema)
    release(city)
    append(
        city, kind="consent", action="given", change=7, detail={"consent": "cns_1"}, revision="pol_1", decision="dec_1", purpose="research"
    )
    for item in [*search(city, city.officer), SHOWN, *schema["examples"]]:
        validator.validate(item)
    assert not validator.is_valid(SHOWN | {"entry": SHOWN["entry"] | {"subject": "x"}})
