"""Whether a new schema version keeps what the dataset promised to those who use it.

`backward`: events of the version before fit the new one. `forward`: events of the new version fit the one before.
`full`: both. `none`: anything goes. A library decides by containment; what it cannot show counts as broken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from jsonschema_rs import CanonicalSchema, ValidationError, canonicalize, dereference
from jsonschema_rs.canonical import CanonicalizationError, Containment

from gateway.catalog.schemas import MAX_ERRORS, PATTERNS, Pointer, pointer_of

Compatibility = Literal["backward", "forward", "full", "none"]
MODES: tuple[str, ...] = get_args(Compatibility)

Schema = Mapping[str, Any]


def breaks(mode: str, before: Schema, new: Schema) -> list[dict[str, str]]:
    """What the new version breaks, as {pointer, detail}; empty if it keeps the mode. Both schemas have been vetted."""
    was, becomes = dereference(dict(before), offline=True), dereference(dict(new), offline=True)
    found: list[dict[str, str]] = []
    if mode in {"backward", "full"}:
        found += _differences(becomes, was, "", wide="the new version", narrow="the version before")
    if mode in {"forward", "full"}:
        found += _differences(was, becomes, "", wide="the version before", narrow="the new version")
    return found[:MAX_ERRORS]


def _differences(wider: Any, narrower: Any, pointer: Pointer, *, wide: str, narrow: str) -> list[dict[str, str]]:
    """Where `wider` does not take everything that `narrower` takes, as deep in the properties as it can be told."""
    if _covers(wider, narrower):
        return []
    places: list[dict[str, str]] = []
    if isinstance(wider, dict) and isinstance(narrower, dict):
        places += ({"pointer": place, "detail": detail} for place, detail in _of_object(wider, narrower, pointer, wide, narrow))
        shared = _properties(wider).keys() & _properties(narrower).keys()
        for name in sorted(shared):
            below = pointer + pointer_of(["properties", name])
            places += _differences(_properties(wider)[name], _properties(narrower)[name], below, wide=wide, narrow=narrow)
    return places or [{"pointer": pointer, "detail": f"{wide} does not take, or cannot be shown to take, all that {narrow} takes here"}]


def _of_object(wider: Schema, narrower: Schema, pointer: Pointer, wide: str, narrow: str) -> Iterator[tuple[Pointer, str]]:
    for name in sorted(set(wider.get("required", ())) - set(narrower.get("required", ()))):
        yield pointer + pointer_of(["required", name]), f"{wide} requires it, {narrow} does not"
    if narrower.get("additionalProperties", True) is not False:
        for name in sorted(_properties(wider).keys() - _properties(narrower).keys()):
            if not _covers(_properties(wider)[name], True):
                yield (
                    pointer + pointer_of(["properties", name]),
                    f"{narrow} does not name it and allows anything there; with `additionalProperties: false` it could be added",
                )
    if wider.get("additionalProperties", True) is False:
        for name in sorted(_properties(narrower).keys() - _properties(wider).keys()):
            yield pointer + pointer_of(["properties", name]), f"{wide} does not allow it, {narrow} does"


def _properties(schema: Schema) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    return properties


def _covers(wider: Any, narrower: Any) -> bool:
    try:
        return _canonical(wider).covers(_canonical(narrower)) is Containment.YES
    except (CanonicalizationError, ValidationError):
        return False


def _canonical(schema: Any) -> CanonicalSchema:
    return canonicalize(schema, validate_formats=True, pattern_options=PATTERNS, offline=True)
