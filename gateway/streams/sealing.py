"""Sealed fields: sealed before an event is stored, opened after consent has let it pass and before the lens, if the lens needs it.

What cannot be opened is withheld, and counted: its subject was erased, a key-encryption key is gone, or the log was changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import orjson
import structlog
from prometheus_client import Counter

from consent.sealing import Broken, KeyLost, OpenedKey, is_sealed, keys_to_open, keys_to_seal, open_sealed, place_of, seal
from gateway.access.fields import FieldRule
from gateway.access.lens import Rendered, Shape, field_rules
from gateway.catalog.directory import DatasetView
from gateway.catalog.schemas import steps_of, value_at
from gateway.database import Database
from gateway.errors import ExchangeError, Invalid
from gateway.key_encryption import KeyEncryptionKeys

log = structlog.get_logger(__name__)

KEPT = 20_000
"""Opened keys in memory, 2.5 KB each."""

unopened = Counter("exchange_events_unopened_total", "Events that are withheld because a sealed field does not open.", ["dataset"])

Path = tuple[str, ...]
Keys = Mapping[str, OpenedKey]
"""By `sref`."""


class SubjectKeys:
    """The subjects' keys that this process has opened, by dataset and `sref`."""

    def __init__(self, database: Database, keks: KeyEncryptionKeys, erased: AbstractSet[str] = frozenset()) -> None:
        self._database = database
        self._keks = keks
        self._erased = erased
        self._known: dict[tuple[str, str], OpenedKey] = {}

    async def to_seal(self, dataset: str, srefs: Collection[str]) -> Keys:
        """The key of each of these subjects, made where there is none. Raises `sealing_unavailable`, `database_unavailable`."""
        found, missing = self._held(dataset, srefs)
        if missing:
            try:
                found |= self._keep(dataset, await anyio.to_thread.run_sync(self._make, dataset, missing))
            except KeyLost as error:
                log.warning("sealing_unavailable", dataset=dataset, reason=str(error))
                raise ExchangeError("sealing_unavailable", headers={"Retry-After": "10"}) from error
            if not found.keys() >= missing:
                detail = "Somebody whom an event is about has just been erased; send it again."
                raise ExchangeError("sealing_unavailable", detail, headers={"Retry-After": "1"})
        return found

    async def to_open(self, dataset: str, srefs: Collection[str]) -> Keys:
        """The keys that these subjects have. Raises `database_unavailable`."""
        found, missing = self._held(dataset, srefs)
        if missing:
            found |= self._keep(dataset, await anyio.to_thread.run_sync(self._read, dataset, missing))
        return found

    def forget(self, srefs: AbstractSet[str]) -> None:
        """Drop the keys of these subjects."""
        self._known = {(dataset, sref): key for (dataset, sref), key in self._known.items() if sref not in srefs}

    def _held(self, dataset: str, srefs: Collection[str]) -> tuple[dict[str, OpenedKey], set[str]]:
        found = {sref: key for sref in srefs if (key := self._known.get((dataset, sref))) is not None}
        return found, set(srefs) - found.keys()

    def _keep(self, dataset: str, found: Keys) -> Keys:
        if len(self._known) + len(found) > KEPT:
            self._known.clear()
        # Whoever was erased while we read stays forgotten.
        self._known.update({(dataset, sref): key for sref, key in found.items() if sref not in self._erased})
        return found

    def _make(self, dataset: str, srefs: set[str]) -> Keys:
        with self._database.transaction() as session:
            return keys_to_seal(session, self._keks, dataset, srefs)

    def _read(self, dataset: str, srefs: set[str]) -> Keys:
        with self._database.reading() as session:
            found = keys_to_open(session, self._keks, dataset, srefs)
        return {sref: key for sref, key in found.items() if key is not None}


@dataclass(frozen=True, slots=True)
class Opening:
    """The sealed fields of a dataset that a view needs in clear: path in the data, and what the field is bound to."""

    dataset: str
    fields: tuple[tuple[Path, bytes], ...]
    keys: SubjectKeys

    @property
    def key(self) -> bytes:
        """Equal for openings of the same fields."""
        return b"".join(place for _, place in self.fields)

    async def keys_for(self, events: Iterable[tuple[dict[str, Any], str | None]]) -> Keys:
        """The keys of the subjects of these (event, sref), as far as they have sealed fields. Raises `database_unavailable`."""
        return await self.keys.to_open(self.dataset, {sref for event, sref in events if sref is not None and self._seals(event)})

    def render(self, shape: Shape, event: dict[str, Any], value: bytes, sref: str | None, appended_ms: int, keys: Keys) -> Rendered | None:
        """The event, whose stored JSON is `value`, as this shape shows it, opened. Raises `Broken`, and what `Shape.render` raises."""
        # A dataset that seals has a subject, which no shape passes as it is: no event passes as it is stored.
        return shape.render(self.open(event, sref, keys), value, appended_ms)

    def open(self, event: dict[str, Any], sref: str | None, keys: Keys) -> dict[str, Any]:
        """The event with the fields in clear; the event itself stays sealed. Raises `Broken`."""
        data = event["data"]
        for path, place in self.fields:
            stored = value_at(data, path)
            if not is_sealed(stored):
                continue  # it is not there, or was stored before the dataset asked for sealing
            key = keys.get(sref or "")
            if key is None or key.id != stored["sealed"]:
                raise Broken("its key is gone")
            data = _replaced(data, path, orjson.loads(open_sealed(key, place, stored)))
        return event if data is event["data"] else event | {"data": data}

    def _seals(self, event: dict[str, Any]) -> bool:
        return any(is_sealed(value_at(event["data"], path)) for path, _ in self.fields)


def opening_of(obligations: tuple[dict[str, Any], ...], dataset: DatasetView, keys: SubjectKeys) -> Opening | None:
    """What a view under these obligations needs opened; None if it needs nothing."""
    rules = field_rules(obligations, dataset)
    filters = [_path(obligation["pointer"]) for obligation in obligations if obligation["kind"] == "row_filter"]
    guarded = dataset.classification in {"personal", "sensitive"}
    needed = [pointer for pointer in dataset.sealed_pointers if _is_needed(_path(pointer), rules, filters, allow_list=guarded)]
    if not needed:
        return None
    return Opening(dataset.slug, tuple((_path(pointer), place_of(dataset.topic, pointer)) for pointer in needed), keys)


async def seal_fields(keys: SubjectKeys, dataset: DatasetView, events: list[dict[str, Any]]) -> None:
    """Seal the fields that the dataset wants sealed, once each subject has become its `sref`.

    Raises `sealing_unavailable`, `database_unavailable`, and `event_does_not_fit` for a value that is nested too deep to be written.
    """
    if not dataset.sealed_pointers or dataset.subject_pointer is None:
        return
    subject = _path(dataset.subject_pointer)
    srefs = [value_at(event["data"], subject) for event in events]
    opened = await keys.to_seal(dataset.slug, set(srefs))
    fields = [(_path(pointer), place_of(dataset.topic, pointer)) for pointer in dataset.sealed_pointers]
    for index, (event, sref) in enumerate(zip(events, srefs, strict=True)):
        for (*parents, name), place in fields:
            holder = value_at(event["data"], parents)
            if isinstance(holder, dict) and name in holder:
                holder[name] = seal(opened[sref], place, _json(holder[name], len(parents) + 2, index))


def _is_needed(sealed: Path, rules: Iterable[FieldRule], filters: Iterable[Path], *, allow_list: bool) -> bool:
    """True if the lens looks at the field: it passes or transforms it, a part of it, or what holds it, or filters by it."""
    if any(_within(path, sealed) for path in filters):
        return True
    if any(rule.kind == "drop" and _within(sealed, rule.path) for rule in rules):
        return False
    kept = [rule.path for rule in rules if rule.kind != "drop"]
    passes_by_default = not kept and not allow_list
    return passes_by_default or any(_within(path, sealed) or _within(sealed, path) for path in kept)


def _within(path: Path, other: Path) -> bool:
    return path[: len(other)] == other


def _path(pointer: str) -> Path:
    return tuple(steps_of(pointer))


def _replaced(data: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """A copy of `data` with another value at `path`; what lies beside the path is shared."""
    name, *deeper = path
    return data | {name: _replaced(data[name], tuple(deeper), value) if deeper else value}


def _json(value: Any, depth: int, index: int) -> bytes:
    """The JSON of a value that stands `depth` deep in its event: it must be writable there, once it is opened again."""
    for _ in range(depth):
        value = [value]
    try:
        return orjson.dumps(value)[depth:-depth]
    except orjson.JSONEncodeError as error:
        raise Invalid([{"pointer": f"/{index}/data", "detail": "is nested too deep"}], "event_does_not_fit") from error
