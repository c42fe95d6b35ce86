"""What a dataset says of its fields, held against its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.catalog.schemas import Pointer, property_at
from gateway.errors import Invalid


def check_pointers(
    schema: Mapping[str, Any], *, key: Pointer | None, subject: Pointer | None, personal: Sequence[Pointer], at: str = ""
) -> None:
    """Raise `Invalid` unless each pointer names a property, the subject is a text in every event, and no key would tell of a person.

    A record's key stands in the log as it is: only a subject is replaced there, by its `sref`. With `at`, the schema is what
    does not fit, and errors point there.
    """
    errors = [
        {"pointer": at or place, "detail": f"{pointer}: {detail}" if at else detail}
        for place, pointer, detail in _faults(schema, key, subject, personal)
    ]
    if errors:
        raise Invalid(errors)


def _faults(
    schema: Mapping[str, Any], key: Pointer | None, subject: Pointer | None, personal: Sequence[Pointer]
) -> Iterator[tuple[Pointer, Pointer, str]]:
    places = [
        ("/key_pointer", key),
        ("/subject_pointer", subject),
        *((f"/personal_pointers/{n}", pointer) for n, pointer in enumerate(personal)),
    ]
    for place, pointer in places:
        if pointer is not None and property_at(schema, pointer) is None:
            yield place, pointer, "names no property of the schema"
    if subject is not None and (found := property_at(schema, subject)) is not None and not (found[1] and _is_text(found[0])):
        yield "/subject_pointer", subject, "must name a property that is required and of type `string`"
    if key is not None and key != subject and any(_overlap(key, pointer) for pointer in (*personal, *filter(None, [subject]))):
        yield "/key_pointer", key, "must not be personal: the key of an event stands in the log as it is, save that of its subject"


def _is_text(schema: Mapping[str, Any]) -> bool:
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return schema.get("type") == "string" or bool(values and all(isinstance(value, str) for value in values))


def _overlap(one: Pointer, other: Pointer) -> bool:
    return (one + "/").startswith(other + "/") or (other + "/").startswith(one + "/")
