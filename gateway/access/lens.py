"""The lens: a decision's obligations, compiled once, applied to every event.

It has two halves. A `Shape` is what the obligations make of an event of one schema version, the same for every contract
that has these obligations: it renders once. A `Lens` fills in what is the contract's own: the pseudonym and the
attributes that the exchange adds. So a hundred contracts on one dataset cost one rendering and a hundred fillings.

What is not named does not pass: for `personal` and `sensitive` datasets, and wherever a `keep` stands, the data is built
from the named fields only. A subject's `sref` never passes as it is.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.access.fields import FieldRule, Refusal, Unfit, compile_fields, milliseconds, received_schema, time_buckets
from gateway.catalog.directory import DatasetView
from gateway.catalog.schemas import steps_of, value_at
from gateway.keys import Keys, b64

# Stands for the pseudonym while an event is rendered; random, so that no provider can put it into an event.
PLACEHOLDER = secrets.token_urlsafe(24)
_CUT = PLACEHOLDER.encode()

CORE_ATTRIBUTES = frozenset(("specversion", "id", "source", "type", "time", "datacontenttype", "schemaversion"))
"""What passes of the attributes of a personal or sensitive event; an extension is a field that nobody named."""

GUARDED = frozenset({"personal", "sensitive"})
"""The classifications whose data passes by name only."""

Rendered = tuple[bytes, bytes | None, int]
"""(the event's JSON up to the pseudonym or the last brace, the rest up to it or None, epoch of the pseudonym)."""

__all__ = ["Lens", "Refusal", "Shape", "Unfit", "compile_shape"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What some obligations make of events of one dataset. `key` is equal for equal shapes of one process."""

    key: bytes
    fields: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]] | None]
    """By schema version; None: the data passes whole."""
    rows: tuple[tuple[tuple[str, ...], frozenset[tuple[bool, Any]]], ...]
    """(path, values that pass), each value beside whether it is a boolean: 1 is not true."""
    core_only: bool
    time_bucket: Callable[[Any], Any] | None
    """What the coarsest time bucket of the data does to the attribute `time`, which would tell the time all the same."""
    pseudonymises: bool
    """True if filling asks for the subjects' secrets."""
    pseudonym_period_ms: int | None
    current: int

    def render(self, event: dict[str, Any], value: bytes, appended_ms: int) -> Rendered | None:
        """This event as everybody with this shape may see it; None if a row filter holds it back. Raises `Unfit`.

        `value` is the stored JSON of `event`, which passes as it is where no obligation touches it.
        """
        data = event.get("data")
        for path, allowed in self.rows:
            found = value_at(data, path)
            # An object or a list is never among those that pass, and cannot even be looked up.
            if isinstance(found, (dict, list)) or (isinstance(found, bool), found) not in allowed:
                return None
        version = event.get("schemaversion", self.current)
        if version not in self.fields:
            raise Unfit("its schema version is not of this dataset")
        select = self.fields[version]
        if select is None and not self.core_only:
            return (value[:-1], None, 0)
        out = {name: value for name, value in event.items() if name in CORE_ATTRIBUTES} if self.core_only else dict(event)
        if self.time_bucket is not None and "time" in out:
            out["time"] = self.time_bucket(out["time"])
        if select is not None:
            if not isinstance(data, dict):
                raise Unfit("its data is not an object")
            out["data"] = select(data)
        elif "data" in event:
            out["data"] = data
        return self._cut(orjson.dumps(out), event, appended_ms)

    def _cut(self, text: bytes, event: dict[str, Any], appended_ms: int) -> Rendered:
        parts = text.split(_CUT)
        if len(parts) == 1:
            return (text[:-1], None, 0)
        if len(parts) > 2:
            raise Unfit("it names its subject twice")
        epoch = 0
        if self.pseudonym_period_ms is not None:
            epoch = _event_ms(event, appended_ms) // self.pseudonym_period_ms
        return (parts[0], parts[1][:-1], epoch)


class Lens:
    """A shape with the contract's own key and attributes. `fill` gives the bytes that leave."""

    def __init__(self, shape: Shape, contract_key: bytes, attributes: Mapping[str, str]) -> None:
        self.shape = shape
        self._key = contract_key
        self._suffix = b"," + orjson.dumps(dict(attributes))[1:]
        self._pseudonyms: dict[tuple[str, int], bytes] = {}

    def __repr__(self) -> str:
        return f"Lens({self.shape.key.hex()[:8]})"

    def fill(self, rendered: Rendered, sref: str | None, secret_of: Mapping[str, bytes]) -> bytes:
        """The event for this contract. Raises `Unfit` if its subject is unknown (erased, or never registered)."""
        head, tail, epoch = rendered
        if tail is None:
            return head + self._suffix
        if sref is None:
            raise Unfit("it has no subject")
        pseudonym = self._pseudonyms.get((sref, epoch))
        if pseudonym is None:
            pseudonym = self._mint(sref, epoch, secret_of)
        return b"".join((head, pseudonym, tail, self._suffix))

    def forget(self) -> None:
        """Drop every pseudonym in memory; they are made again from the subjects' secrets."""
        self._pseudonyms.clear()

    def _mint(self, sref: str, epoch: int, secret_of: Mapping[str, bytes]) -> bytes:
        secret = secret_of.get(sref)
        if secret is None:
            raise Unfit("its subject is unknown")
        if len(self._pseudonyms) > 200_000:
            self._pseudonyms.clear()
        made = pseudonym(self._key, epoch, secret).encode()
        self._pseudonyms[(sref, epoch)] = made
        return made


def contract_key(keys: Keys, what: str) -> bytes:
    """The key of the pseudonyms of a contract, or of an open dataset."""
    return keys.secret("pseudonym").mac(b"contract", what.encode())


def pseudonym(key: bytes, epoch: int, secret: bytes) -> str:
    """What stands for a subject under a contract: 16 bytes of HMAC-SHA-256, base64url. `epoch`: floor(event time / period), or 0."""
    return b64(hmac.digest(key, epoch.to_bytes(8, "big", signed=True) + secret, hashlib.sha256)[:16])


def shape_key(obligations: tuple[dict[str, Any], ...], dataset: DatasetView) -> bytes:
    """The key of the shape that these make: what a hundred contracts share need be compiled once."""
    guarded = dataset.classification in GUARDED
    identity = orjson.dumps([obligations, guarded, dataset.slug, sorted(dataset.schemas)], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(identity).digest()


def compile_shape(obligations: tuple[dict[str, Any], ...], dataset: DatasetView) -> Shape:
    """Compile the field obligations of an allowing decision. Raises `Refusal` for one that cannot be carried out: deny."""
    guarded = dataset.classification in GUARDED
    rules = field_rules(obligations, dataset)
    rows = tuple(
        (tuple(steps_of(o["pointer"])), frozenset((isinstance(value, bool), value) for value in o["values"]))
        for o in obligations
        if o["kind"] == "row_filter"
    )
    periods = [rule.pseudonym_period_ms for rule in rules if rule.kind == "pseudonymise"]
    buckets = [rule.bucket_ms for rule in rules if rule.bucket_ms is not None]
    return Shape(
        key=shape_key(obligations, dataset),
        fields={
            number: compile_fields(rules, schema, subject_pointer=dataset.subject_pointer, allow_list=guarded)
            for number, schema in dataset.schemas.items()
        },
        rows=rows,
        core_only=guarded,
        time_bucket=time_buckets(max(buckets)) if buckets else None,
        pseudonymises=bool(periods),
        pseudonym_period_ms=periods[0] if periods else None,
        current=dataset.current,
    )


def field_rules(obligations: tuple[dict[str, Any], ...], dataset: DatasetView) -> list[FieldRule]:
    """The obligations that name a field and what happens to it. Raises `Refusal`."""
    named = [obligation for obligation in obligations if "pointer" in obligation and obligation["kind"] != "row_filter"]
    return [FieldRule.of(obligation, dataset.subject_pointer, PLACEHOLDER) for obligation in named]


def received(obligations: tuple[dict[str, Any], ...], dataset: DatasetView) -> dict[str, Any]:
    """The JSON Schema of the data that is delivered under these obligations: every event fits it, of whatever schema version.

    Raises `Refusal`.
    """
    guarded = dataset.classification in GUARDED
    rules = field_rules(obligations, dataset)
    schemas = [
        received_schema(rules, dataset.schemas[number], subject_pointer=dataset.subject_pointer, allow_list=guarded)
        for number in sorted(dataset.schemas, reverse=True)
    ]
    different = [schema for index, schema in enumerate(schemas) if schema not in schemas[:index]]
    if len(different) == 1:
        return different[0]
    embedded = [schema | {"$id": f"urn:schema-version:{index}"} for index, schema in enumerate(different)]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "anyOf": embedded}


def _event_ms(event: dict[str, Any], appended_ms: int) -> int:
    return milliseconds(event["time"]) if "time" in event else appended_ms
