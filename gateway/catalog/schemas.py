"""What the exchange takes as the schema of a dataset's events, and how it checks data against it.

A schema comes from a stranger and is compiled into the process that serves everyone. So its cost is bounded before it is compiled:
size, nesting, what its references expand to, and patterns, which run on an engine without backtracking. Nothing is ever fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from gateway.errors import Invalid

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_BYTES = 256 * 1024
MAX_NESTING = 32
MAX_PATTERNS = 200
MAX_EXPANDED = 10_000
"""Subschemas, each counted as often as references reach it: what one event may be compared with."""
MAX_ERRORS = 20
PATTERNS = RegexOptions(size_limit=1024 * 1024, dfa_size_limit=1024 * 1024)
"""Patterns match in time linear in the text. A size in bytes bounds what a repetition such as `(a{999}){999}` compiles to."""

_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLES = (
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_REFUSED = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "$vocabulary")

Pointer = str
Subschemas = Mapping[Pointer, Mapping[str, Any]]


def vet(document: Mapping[str, Any], at: Pointer = "/schema") -> Draft202012Validator:
    """The compiled validator of a schema that the exchange takes. Raises `Invalid`, with pointers that begin with `at`."""
    _refuse_unwieldy(document, at)
    subschemas = dict(_walk(document, ""))
    errors = [*_misused_keywords(document, subschemas), *_bad_references(subschemas)] or list(_costs(subschemas))
    if errors:
        raise Invalid([{"pointer": at + pointer, "detail": detail} for pointer, detail in errors[:MAX_ERRORS]])
    try:
        return compile_validator(document)
    except ValidationError as error:
        raise Invalid([{"pointer": at + pointer_of(error.instance_path), "detail": _told(error)}]) from error
    except ValueError as error:
        raise Invalid([{"pointer": at, "detail": "is no JSON Schema that can be compiled"}]) from error


def compile_validator(document: Mapping[str, Any]) -> Draft202012Validator:
    """The validator of a schema that was vetted before. Formats are checked, values never stand in messages, nothing is fetched."""
    return Draft202012Validator(dict(document), validate_formats=True, mask="the value", pattern_options=PATTERNS, offline=True)


def compile_list_validator(document: Mapping[str, Any]) -> Draft202012Validator:
    """The validator of a list of such instances: one call for many costs a fifth less than a call for each."""
    # An identifier of our own, so that the schema's references stay within it: by `#` they mean its root, not the list's.
    return compile_validator({"type": "array", "items": {**document, "$id": "urn:exchange:data"}})


def describe(validator: Draft202012Validator, instance: Any) -> list[dict[str, str]]:
    """What is wrong with this instance, as {pointer, detail}, the first twenty; values never stand in it. Empty: it fits."""
    return [
        {"pointer": pointer_of(error.instance_path), "detail": error.message}
        for error in islice(validator.iter_errors(instance), MAX_ERRORS)
    ]


def pointer_of(path: Iterable[str | int]) -> Pointer:
    """The JSON Pointer of these steps (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def steps_of(pointer: Pointer) -> list[str]:
    """The inverse of `pointer_of`, with every step as text."""
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def value_at(value: Any, steps: Iterable[str]) -> Any:
    """What stands at these steps through objects; None where nothing does."""
    for name in steps:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def property_at(document: Mapping[str, Any], pointer: Pointer) -> tuple[Mapping[str, Any], bool] | None:
    """The subschema of the property that this pointer names, and whether every event has it; None if the schema declares no such property.

    Looks through `properties`, `required` and local references; not into combinations such as `anyOf`.
    """
    node, always = _resolved(document, document), True
    for step in steps_of(pointer):
        child = node.get("properties", {}).get(step)
        if child is None:
            return None
        always = always and step in node.get("required", [])
        node = _resolved(child, document) if isinstance(child, Mapping) else {}
    return node, always


def fields_of(document: Mapping[str, Any]) -> list[Pointer]:
    """The fields that this schema declares, as JSON Pointers: those that have no properties of their own. Looks as `property_at` does."""
    found: list[Pointer] = []
    waiting: list[tuple[Mapping[str, Any], tuple[str, ...]]] = [(_resolved(document, document), ())]
    while waiting:
        node, path = waiting.pop()
        children = {name: child for name, child in node.get("properties", {}).items() if isinstance(child, Mapping)}
        if path and (not children or len(path) >= MAX_NESTING):
            found.append(pointer_of(path))
        elif children:
            waiting += [(_resolved(child, document), (*path, name)) for name, child in reversed(children.items())]
    return found


def _resolved(node: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        target: Any = document
        for step in steps_of(node["$ref"][1:]):
            target = target[int(step)] if isinstance(target, list) else target[step]
        node = {name: value for name, value in node.items() if name != "$ref"} | dict(target)
    return node


def _refuse_unwieldy(document: Mapping[str, Any], at: Pointer) -> None:
    if nesting(document) > MAX_NESTING:
        raise Invalid([{"pointer": at, "detail": f"is nested deeper than {MAX_NESTING} levels"}])
    try:
        size = len(json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8"))
    except ValueError as error:
        raise Invalid([{"pointer": at, "detail": "holds a number or a text that JSON cannot carry"}]) from error
    if size > MAX_BYTES:
        raise Invalid([{"pointer": at, "detail": f"is larger than {MAX_BYTES} bytes"}])


def nesting(document: Any) -> int:
    """Levels of objects and lists. Without recursion: the document may be nested deeper than Python's stack."""
    deepest, waiting = 0, [(document, 1)]
    while waiting:
        node, level = waiting.pop()
        if level > MAX_NESTING + 1:
            return level
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else None
        if children is not None:
            deepest = max(deepest, level)
            waiting.extend((child, level + 1) for child in children)
    return deepest


def _walk(node: Any, pointer: Pointer) -> Iterator[tuple[Pointer, Mapping[str, Any]]]:
    """Every subschema that is an object, by its pointer; this node first."""
    if not isinstance(node, dict):
        return
    yield pointer, node
    for keyword, steps in _children(node):
        for step, child in steps:
            yield from _walk(child, pointer + pointer_of([keyword, *step]))


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[list[str], Any]]]]:
    for keyword in node:
        value = node[keyword]
        if keyword in _MAPS and isinstance(value, dict):
            yield keyword, [([name], child) for name, child in value.items()]
        elif keyword in _LISTS and isinstance(value, list):
            yield keyword, [([str(index)], child) for index, child in enumerate(value)]
        elif keyword in _SINGLES:
            yield keyword, [([], value)]


def _misused_keywords(document: Mapping[str, Any], subschemas: Subschemas) -> Iterator[tuple[Pointer, str]]:
    if document.get("$schema", DIALECT) != DIALECT:
        yield "/$schema", f"must be {DIALECT}, or be left out"
    if document.get("type") != "object":
        yield "/type", "must be `object`: an event's data is one"
    patterns = 0
    for pointer, node in subschemas.items():
        for keyword in _REFUSED:
            if keyword in node:
                yield f"{pointer}/{keyword}", "is not taken: refer by `$ref` and `#/$defs/...` only"
        if pointer and "$id" in node:
            yield f"{pointer}/$id", "may stand at the root only"
        patterns += ("pattern" in node) + len(node["patternProperties"] if isinstance(node.get("patternProperties"), dict) else ())
    if patterns > MAX_PATTERNS:
        yield "", f"has {patterns} patterns; at most {MAX_PATTERNS} are taken"


def _bad_references(subschemas: Subschemas) -> Iterator[tuple[Pointer, str]]:
    for pointer, node in subschemas.items():
        target = node.get("$ref", "#")
        if not isinstance(target, str) or not target.startswith("#"):
            yield f"{pointer}/$ref", "leads outside the schema; nothing is fetched: put what it names under `$defs`"
        elif target[1:] not in subschemas:
            yield f"{pointer}/$ref", "names no subschema of this document"


def _costs(subschemas: Subschemas) -> Iterator[tuple[Pointer, str]]:
    """Refuse references that lead back to themselves, or that expand to more than one event can be compared with.

    Without recursion: a chain of references may be longer than Python's stack.
    """
    size: dict[Pointer, int] = {}
    depth: dict[Pointer, int] = {}
    open_: set[Pointer] = set()
    waiting = [""]
    while waiting:
        pointer = waiting[-1]
        reached = list(_reached(subschemas, pointer))
        missing = [place for place in reached if place not in size]
        if pointer in size or not missing:
            size[pointer] = 1 + sum(size[place] for place in reached)
            depth[pointer] = 1 + max((depth[place] for place in reached), default=0)
            open_.discard(pointer)
            waiting.pop()
        elif any(place in open_ or place == pointer for place in missing):
            yield pointer, "refers to what contains it; the nesting of an event must have an end"
            return
        else:
            open_.add(pointer)
            waiting.extend(missing)
    if size[""] > MAX_EXPANDED or depth[""] > 2 * MAX_NESTING:
        yield (
            "",
            f"expands through its references to {size['']} subschemas, {depth['']} deep; {MAX_EXPANDED} and {2 * MAX_NESTING} are the most",
        )


def _reached(subschemas: Subschemas, pointer: Pointer) -> Iterator[Pointer]:
    """The places that a value at this place is compared with too: children, but not definitions, and the target of the reference."""
    node = subschemas[pointer]
    for keyword, steps in _children(node):
        if keyword not in {"$defs", "definitions"}:
            yield from (place for step, _ in steps if (place := pointer + pointer_of([keyword, *step])) in subschemas)
    if "$ref" in node:
        yield node["$ref"][1:]


def _told(error: ValidationError) -> str:
    if error.instance_path and "regex" in error.message:
        return "is not a pattern that is matched in linear time: no lookaround, no backreference, no huge repetition"
    return error.message
