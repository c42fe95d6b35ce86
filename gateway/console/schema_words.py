"""A JSON Schema in words: one line a field, for who reads no schemas."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.console.words import Say

DEEPEST = 5
MOST_VALUES = 8


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an event: its JSON Pointer, name for people, kind in words, and whether it is always there and about a person."""

    pointer: str
    title: str
    kind: str
    note: str
    always: bool
    personal: bool


def fields_of(schema: Mapping[str, Any], personal: Collection[str], say: Say) -> list[Field]:
    """The fields of an event's `data`, in the schema's order; those of objects stand under theirs."""
    return list(_fields(schema, "", personal, say, DEEPEST))


def _fields(schema: Mapping[str, Any], prefix: str, personal: Collection[str], say: Say, deep: int) -> Iterator[Field]:
    required = schema.get("required", ())
    for name, of in schema.get("properties", {}).items():
        if not isinstance(of, Mapping):
            continue
        pointer = f"{prefix}/{name.replace('~', '~0').replace('/', '~1')}"
        yield Field(
            pointer=pointer,
            title=str(of.get("title", name)),
            kind=kind_of(of, say),
            note=str(of.get("description", "")),
            always=name in required,
            personal=pointer in personal,
        )
        if deep and isinstance(of.get("properties"), Mapping):
            yield from _fields(of, pointer, personal, say, deep - 1)


def kind_of(schema: Mapping[str, Any], say: Say) -> str:
    """What a field holds, in words."""
    if "const" in schema:
        return say("schema.always", value=_plain(schema["const"], say))
    if "enum" in schema:
        values = [_plain(value, say) for value in schema["enum"]]
        shown = ", ".join(values[:MOST_VALUES]) + ("…" if len(values) > MOST_VALUES else "")
        return say("schema.one_of", values=shown)
    if "format" in schema:
        return say.maybe(f"schema.format.{schema['format']}", str(schema["format"]))
    kinds = schema.get("type", "any")
    several = kinds if isinstance(kinds, list) else [kinds]
    return say("schema.or").join(say.maybe(f"schema.type.{kind}", str(kind)) for kind in several)


def _plain(value: object, say: Say) -> str:
    if isinstance(value, bool):
        return say("schema.true") if value else say("schema.false")
    return str(value)
