"""Consents by the thousand: sent in chunks, each all or nothing and done once, so that who was interrupted sends all again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.client import Client

CHUNK = 500
"""People in one request; the exchange takes a thousand."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A chunk that is done. `items` {id, withdrawal_code} stand in the order of its people; None if it was done before."""

    chunk: int
    records: int
    items: list[dict[str, Any]] | None


def import_consents(
    client: Client, name: str, terms: Mapping[str, Any], people: Iterable[Mapping[str, Any]], *, size: int = CHUNK
) -> Iterator[Imported]:
    """Send what `people` ({subject, valid_from, valid_until, evidence}) have said, all under the same `terms`, and tell of each chunk.

    `terms`: dataset, notice, purposes, recipients, given_by, and state or codes if need be. The same people in the same order under the
    same `name` are imported once, however often this is called. Raises `ProblemError`; what was done before it stays done.
    """
    pending = iter(people)
    for number in itertools.count():
        chunk = list(itertools.islice(pending, size))
        if not chunk:
            return
        body = dict(terms) | {"name": name, "chunk": number, "consents": chunk}
        answer = client.post("/v1/consents/import", body, idempotency_key=f"import-{name}-{number}")
        yield Imported(number, answer["records"], answer["items"])
