"""What a dataset says of its fields, held against its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from gateway.catalog.schemas import Pointer, property_at
from gateway.errors import Invalid


class Fields(Protocol):
    """What a dataset says of its fields."""

    @property
    def key_pointer(self) -> Pointer | None: ...
    @property
    def subject_pointer(self) -> Pointer | None: ...
    @property
    def personal_pointers(self) -> Sequence[Pointer]: ...
    @property
    def sealed_pointers(self) -> Sequence[Pointer]: ...


def check_pointers(schema: Mapping[str, Any], fields: Fields, *, at: str = "") -> None:
    """Raise `Invalid` unless each pointer names a property, the subject is a text in every event, and no key would tell of a person.

    A record's key stands in the log as it is: only a subject is replaced there, by its `sref`. What is sealed is personal, each field
    once, and never the subject, whose key seals it. With `at`, the schema is what does not fit, and errors point there.
    """
    faults = [*_unnamed(schema, fields), *_unfit_subject(schema, fields.subject_pointer), *_telling_key(fields), *_unsealable(fields)]
    errors = [{"pointer": at or place, "detail": f"{pointer}: {detail}" if at else detail} for place, pointer, detail in faults]
    if errors:
        raise Invalid(errors)


Faults = Iterator[tuple[Pointer, Pointer, str]]
"""(the member that is wrong, what it says, why)."""


def _unnamed(schema: Mapping[str, Any], fields: Fields) -> Faults:
    places = [
        ("/key_pointer", fields.key_pointer),
        ("/subject_pointer", fields.subject_pointer),
        *((f"/personal_pointers/{n}", pointer) for n, pointer in enumerate(fields.personal_pointers)),
        *((f"/sealed_pointers/{n}", pointer) for n, pointer in enumerate(fields.sealed_pointers)),
    ]
    for place, pointer in places:
        if pointer is not None and property_at(schema, pointer) is None:
            yield place, pointer, "names no property of the schema"


def _unfit_subject(schema: Mapping[str, Any], subject: Pointer | None) -> Faults:
    if subject is not None and (found := property_at(schema, subject)) is not None and not (found[1] and _is_text(found[0])):
        yield "/subject_pointer", subject, "must name a property that is required and of type `string`"


def _telling_key(fields: Fields) -> Faults:
    key, subject = fields.key_pointer, fields.subject_pointer
    told = (*fields.personal_pointers, *filter(None, [subject]))
    if key is not None and key != subject and any(_overlap(key, pointer) for pointer in told):
        yield "/key_pointer", key, "must not be personal: the key of an event stands in the log as it is, save that of its subject"


def _unsealable(fields: Fields) -> Faults:
    for n, pointer in enumerate(fields.sealed_pointers):
        place = f"/sealed_pointers/{n}"
        if fields.subject_pointer is None:
            yield place, pointer, "cannot be sealed: there is no subject whose key would seal it"
        elif _overlap(pointer, fields.subject_pointer):
            yield place, pointer, "cannot be sealed: it holds the subject, whose key would seal it"
        elif not any(_within(pointer, personal) for personal in fields.personal_pointers):
            yield place, pointer, "must be personal to be sealed"
        elif any(_overlap(pointer, other) for other in fields.sealed_pointers[:n]):
            yield place, pointer, "is sealed already, or holds a field that is"


def _is_text(schema: Mapping[str, Any]) -> bool:
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return schema.get("type") == "string" or bool(values and all(isinstance(value, str) for value in values))


def _within(one: Pointer, other: Pointer) -> bool:
    return (one + "/").startswith(other + "/")


def _overlap(one: Pointer, other: Pointer) -> bool:
    return _within(one, other) or _within(other, one)
