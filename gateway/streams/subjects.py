"""In published events the person they are about becomes an `sref`, before anything is stored."""

from __future__ import annotations

from typing import Any

import anyio.to_thread

from consent.subjects import lookup_of, srefs_of
from gateway.catalog.directory import DatasetView
from gateway.catalog.schemas import steps_of
from gateway.errors import Invalid
from gateway.streams.live import Streams

KEPT = 500_000
"""Subjects in memory, by keyed hash: about 100 MB at most."""


async def replace_subjects(streams: Streams, dataset: DatasetView, events: list[dict[str, Any]]) -> None:
    """Put the `sref` in place of each subject's identifier; who is new gets one.

    Raises `event_does_not_fit` for an identifier that is none of the dataset's scheme, `database_unavailable`.
    """
    if dataset.subject_pointer is None:
        return
    *parents, name = steps_of(dataset.subject_pointer)
    places: list[tuple[dict[str, Any], bytes]] = []
    scheme, key = dataset.subject_scheme or "opaque", streams.keys.secret("subject_index")
    for index, event in enumerate(events):
        place: Any = event["data"]
        for parent in parents:
            place = place[parent]
        try:
            places.append((place, lookup_of(key.value, dataset.owner_id, scheme, place[name])))
        except ValueError as error:
            pointer = f"/{index}/data{dataset.subject_pointer}"
            raise Invalid([{"pointer": pointer, "detail": str(error)}], "event_does_not_fit") from error
    known = {lookup: streams.srefs[lookup] for _, lookup in places if lookup in streams.srefs}
    # Twice, because whoever is erased while we read or wait is a new subject.
    for _ in range(2):
        unknown = {lookup: place[name] for place, lookup in places if lookup not in known or known[lookup] in streams.erased}
        if not unknown:
            break
        made = await anyio.to_thread.run_sync(_read_or_mint, streams, dataset, scheme, unknown)
        if len(streams.srefs) > KEPT:
            streams.srefs.clear()
        streams.srefs.update(made)
        known |= made
    for place, lookup in places:
        place[name] = known[lookup]


def _read_or_mint(streams: Streams, dataset: DatasetView, scheme: str, identifiers: dict[bytes, str]) -> dict[bytes, str]:
    key = streams.keys.secret("subject_index")
    with streams.database.transaction() as session:
        found = srefs_of(session, key.id, key.value, dataset.owner_id, scheme, identifiers.values())
    return {lookup: found[identifier] for lookup, identifier in identifiers.items()}
