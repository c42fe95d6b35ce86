"""A crowd: subjects and their consent records by the million, or contracts by the thousand, written straight into a database.

Nobody of them is heard of in an event; they are there, as they would be in a city that has used the exchange for years. The gateway of
that database must not run meanwhile: no change tells of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import md5

import psycopg

from consent.subjects import as_text
from tests.benchmarks.material import PURPOSE

ONCE_GIVEN, TWICE_GIVEN, FOR_ANOTHER, PAUSED_ONCE = 90, 93, 95, 96
"""Of a hundred people: the first so many consent to any recipient, the next to a broader purpose as well, the next to another recipient
only, the next have paused and given it again, and the rest have withdrawn."""
SERVER_SIDE_S = 900

_SUBJECTS = """
INSERT INTO subjects (sref, provider, lookup, lookup_key_id, secret)
SELECT decode(md5('sref ' || i), 'hex'), 'org_crowd', sha256(('lookup ' || i)::bytea), 'crowd', sha256(('secret ' || i)::bytea)
FROM generate_series(0, %(count)s - 1) AS i
"""
# A consent is given at an instant of its own; one in ten has an end, two years after that.
_CONSENTS = f"""
INSERT INTO consents (id, sref, dataset, purposes, recipients, legal_ground, covers_earlier, given_by, state, valid_from, valid_until,
                      given_at, resumed_at, ended_at, change)
SELECT 'cns_' || turn || '_' || lpad(i::text, 12, '0'), decode(md5('sref ' || i), 'hex'), %(dataset)s,
       CASE WHEN turn = 0 THEN %(purpose)s ELSE '["city-operations"]' END::json,
       CASE WHEN i %% 100 BETWEEN {TWICE_GIVEN} AND {FOR_ANOTHER - 1} THEN '["org_another"]' ELSE '["any_recipient"]' END::json,
       'consent', false, 'subject', CASE WHEN i %% 100 >= {PAUSED_ONCE} THEN 'withdrawn' ELSE 'given' END,
       given_at, CASE WHEN i %% 10 = 0 THEN given_at + interval '2 years' END, given_at,
       CASE WHEN i %% 100 = {FOR_ANOTHER} THEN given_at + interval '2 days' END,
       CASE WHEN i %% 100 >= {PAUSED_ONCE} THEN given_at + interval '1 day' END, 0
FROM generate_series(0, 1) AS turn, generate_series(0, %(count)s - 1) AS i,
     LATERAL (SELECT now() - interval '200 days' + i * interval '7 milliseconds' AS given_at) AS moment
WHERE turn = 0 OR i %% 100 BETWEEN {ONCE_GIVEN} AND {TWICE_GIVEN - 1}
"""
_HISTORY = f"""
INSERT INTO consent_history (consent_id, number, state, at, by, change)
SELECT id, number, state_then, given_at + (number - 1) * interval '1 day', 'subject', 0
FROM consents, (VALUES (1, 'given'), (2, 'paused'), (3, 'given')) AS step (number, state_then)
WHERE id LIKE 'cns\\_0\\_%%' AND substr(id, 17)::bigint %% 100 = {FOR_ANOTHER}
"""
_CONTRACTS = """
INSERT INTO contracts SELECT (json_populate_record(c, json_build_object('id', 'con_crowd_' || lpad(i::text, 12, '0')))).*
FROM contracts AS c, generate_series(1, %(count)s) AS i WHERE c.id = %(like)s
"""


def people(database_url: str, dataset: str, count: int) -> None:
    """Add so many subjects, and their consents for this dataset."""
    given = {"count": count, "dataset": dataset, "purpose": f'["{PURPOSE}"]'}
    _run(database_url, (_SUBJECTS, _CONSENTS, _HISTORY, "ANALYZE subjects", "ANALYZE consents"), given)


def contracts(database_url: str, like: str, count: int) -> None:
    """Add so many contracts that differ from the contract `like` in nothing but their identifiers."""
    _run(database_url, (_CONTRACTS, "ANALYZE contracts"), {"count": count, "like": like})


def sref(number: int) -> str:
    """Of the person of this number; not made before, as that of an event that was just decoded."""
    return as_text(md5(b"sref %d" % number, usedforsecurity=False).digest())


def _run(database_url: str, statements: Sequence[str], given: dict[str, object]) -> None:
    with psycopg.connect(database_url.replace("+psycopg", "", 1)) as connection:
        for statement in statements:
            connection.execute(statement.encode(), given)
