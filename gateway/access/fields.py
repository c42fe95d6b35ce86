"""What obligations do to the fields of an event's data, and what JSON Schema that leaves.

Rules are compiled to closures over a tree of names, so that an event costs one pass over the fields that it may keep.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import isodate

from gateway.catalog.schemas import steps_of, value_at

Select = Callable[[dict[str, Any]], dict[str, Any]]
Transform = Callable[[Any], Any]

SCALARS = frozenset({"string", "number", "integer", "boolean", "null"})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
PSEUDONYM_SCHEMA: dict[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"}


class Refusal(Exception):
    """These obligations cannot be carried out on this dataset; the answer is deny."""


class Unfit(Exception):
    """This event does not fit its lens; it is not delivered, and counted. The message names no value."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One field obligation: `path` from the data's root, what happens to the value, and what schema that leaves."""

    kind: str
    path: tuple[str, ...]
    transform: Transform | None = None
    leaves: Mapping[str, Any] | None = None
    bucket_ms: int | None = None
    pseudonym_period_ms: int | None = None

    @classmethod
    def of(cls, obligation: Mapping[str, Any], subject_pointer: str | None, placeholder: str) -> Self:
        """From an obligation of the closed list. Raises `Refusal`: unknown kind, or a subject that would pass as it is."""
        kind, pointer = obligation["kind"], obligation["pointer"]
        path = tuple(steps_of(pointer))
        if not path:
            raise Refusal(f"{kind} needs a field, not the whole event")
        on_subject = subject_pointer is not None and (subject_pointer + "/").startswith(pointer + "/")
        if (kind == "pseudonymise") != on_subject and kind != "drop":
            raise Refusal(f"{kind} at {pointer}: a subject is pseudonymised or dropped, and nothing else is pseudonymised")
        match kind:
            case "keep" | "drop":
                return cls(kind, path)
            case "pseudonymise":
                period = obligation.get("period")
                return cls(kind, path, lambda _: placeholder, PSEUDONYM_SCHEMA, pseudonym_period_ms=period_ms(period) if period else None)
            case "mask":
                keep_last = int(obligation["keep_last"])
                return cls(kind, path, lambda value: _mask(value, keep_last), {"type": "string"})
            case "generalise":
                step = obligation["step"]
                return cls(kind, path, lambda value: _floor(value, step), {"type": "integer" if isinstance(step, int) else "number"})
            case "time_bucket":
                bucket = period_ms(obligation["period"])
                return cls(kind, path, time_buckets(bucket), {"type": "string", "format": "date-time"}, bucket_ms=bucket)
        raise Refusal(f"{kind} is not an obligation that the lens knows")


def compile_fields(
    rules: Sequence[FieldRule],
    schema: Mapping[str, Any],
    *,
    subject_pointer: str | None,
    allow_list: bool,
) -> Select | None:
    """What the rules make of data of this schema; None where it passes whole.

    `allow_list` (personal and sensitive data): only what is named, and only leaves: keeping an object would pass a field that a later
    schema adds to it. Raises `Refusal`.
    """
    kept = [rule for rule in rules if rule.kind != "drop"]
    dropped = {rule.path for rule in rules if rule.kind == "drop"}
    if not kept and not allow_list:
        if subject_pointer is not None:
            dropped = dropped | {FieldRule.of({"kind": "drop", "pointer": subject_pointer}, None, "").path}
        return _without(dropped) if dropped else None
    if allow_list:
        for rule in kept:
            _require_leaf(rule, schema)
    tree: dict[str, Any] = {}
    for rule in kept:
        below = {path[len(rule.path) :] for path in dropped if path[: len(rule.path)] == rule.path}
        if () in below:
            continue
        node = tree
        for name in rule.path[:-1]:
            node = node.setdefault(name, {})
        node[rule.path[-1]] = _dropping(below) if below and rule.transform is None else rule.transform
    return _select(tree)


def _select(tree: Mapping[str, Any]) -> Select:
    steps = tuple((name, _object(_select(node)) if isinstance(node, dict) else node) for name, node in tree.items())

    def select(data: dict[str, Any]) -> dict[str, Any]:
        out = {}
        for name, transform in steps:
            if name in data:
                out[name] = data[name] if transform is None else transform(data[name])
        return out

    return select


def _object(select: Select) -> Transform:
    def inner(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Unfit("a field that should hold others does not")
        return select(value)

    return inner


def _dropping(paths: set[tuple[str, ...]]) -> Transform:
    without = _without(paths)
    return lambda value: without(value) if isinstance(value, dict) else value


def _without(paths: set[tuple[str, ...]]) -> Select:
    gone = {path[0] for path in paths if len(path) == 1}
    deeper = {
        name: _without({path[1:] for path in paths if path[0] == name and len(path) > 1}) for name in {path[0] for path in paths} - gone
    }

    def select(data: dict[str, Any]) -> dict[str, Any]:
        out = {name: value for name, value in data.items() if name not in gone}
        for name, below in deeper.items():
            if isinstance(out.get(name), dict):
                out[name] = below(out[name])
        return out

    return select


def received_schema(
    rules: Sequence[FieldRule], schema: Mapping[str, Any], *, subject_pointer: str | None, allow_list: bool
) -> dict[str, Any]:
    """The JSON Schema that data of `schema` fits after `compile_fields` of the same arguments."""
    kept = [rule for rule in rules if rule.kind != "drop"]
    dropped = {rule.path for rule in rules if rule.kind == "drop"}
    if not kept and not allow_list:
        if subject_pointer is not None:
            dropped = dropped | {FieldRule.of({"kind": "drop", "pointer": subject_pointer}, None, "").path}
        return _schema_without(schema, schema, dropped)
    out = _schema_of({rule.path: rule for rule in kept}, schema, schema, dropped)
    for name in ("$schema", "$defs"):
        if name in schema:
            out[name] = copy.deepcopy(schema[name])
    return out


def _schema_of(
    rules: Mapping[tuple[str, ...], FieldRule], node: Mapping[str, Any], root: Mapping[str, Any], dropped: set[tuple[str, ...]]
) -> dict[str, Any]:
    node = _resolved(node, root)
    properties: dict[str, Any] = {}
    for name in sorted({path[0] for path in rules}):
        child = node.get("properties", {}).get(name)
        if child is None:
            continue
        rule = rules.get((name,))
        below = {path[1:]: rule for path, rule in rules.items() if path[0] == name and len(path) > 1}
        gone = {path[1:] for path in dropped if path[0] == name}
        if () in gone:
            continue
        if rule is None:
            properties[name] = _schema_of(below, child, root, gone)
        elif rule.leaves is None:
            properties[name] = _schema_without(child, root, gone)
        else:
            properties[name] = _leaf_schema(rule.leaves, _resolved(child, root))
    required = [name for name in node.get("required", []) if name in properties]
    told = {name: node[name] for name in ("title", "description") if name in node}
    return told | {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _leaf_schema(leaves: Mapping[str, Any], was: Mapping[str, Any]) -> dict[str, Any]:
    out = {name: was[name] for name in ("title", "description") if name in was} | dict(leaves)
    if "null" in _types(was) and leaves is not PSEUDONYM_SCHEMA:
        out["type"] = [out["type"], "null"]
    return out


def _schema_without(node: Mapping[str, Any], root: Mapping[str, Any], paths: set[tuple[str, ...]]) -> dict[str, Any]:
    if not paths:
        return copy.deepcopy(dict(node))
    out = copy.deepcopy(dict(_resolved(node, root)))
    properties = out.get("properties", {})
    for name in {path[0] for path in paths}:
        if (name,) in paths:
            properties.pop(name, None)
            out["required"] = [other for other in out.get("required", []) if other != name]
        elif name in properties:
            properties[name] = _schema_without(properties[name], root, {path[1:] for path in paths if path[0] == name})
    return out


def _require_leaf(rule: FieldRule, schema: Mapping[str, Any]) -> None:
    node: Mapping[str, Any] = _resolved(schema, schema)
    for name in rule.path:
        child = node.get("properties", {}).get(name)
        if child is None:
            return  # not a field of this version: nothing passes
        node = _resolved(child, schema)
    types = _types(node)
    if types == {"array"}:
        types = _types(_resolved(node.get("items", {}), schema)) if isinstance(node.get("items"), dict) else frozenset()
    if not types or not types <= SCALARS:
        raise Refusal(f"/{'/'.join(rule.path)} holds other fields: personal data is kept by naming each of them")


def _types(node: Mapping[str, Any]) -> frozenset[str]:
    if "type" in node:
        return frozenset(node["type"] if isinstance(node["type"], list) else [node["type"]])
    values = node.get("enum", [node["const"]] if "const" in node else [])
    scalar = values and all(value is None or isinstance(value, (str, int, float, bool)) for value in values)
    return frozenset({"string"}) if scalar else frozenset()


def _resolved(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow local references (`#/$defs/...`), a bounded number of times."""
    for _ in range(16):
        reference = node.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return node
        found = value_at(root, steps_of(reference[1:]))
        node = found if isinstance(found, dict) else {}
    return {}


def period_ms(period: str) -> int:
    """The length of an ISO 8601 duration in milliseconds. Raises `Refusal` if it has none that is fixed and positive."""
    try:
        length = int(isodate.parse_duration(period).total_seconds() * 1000)
    except (isodate.ISO8601Error, AttributeError, TypeError, ValueError) as error:
        raise Refusal(f"{period} is no fixed length of time") from error
    if length <= 0:
        raise Refusal(f"{period} is no length of time")
    return length


def milliseconds(text: Any) -> int:
    """Milliseconds since 1970 of an RFC 3339 time. Raises `Unfit`."""
    try:
        return (datetime.fromisoformat(text) - EPOCH) // MILLISECOND
    except (TypeError, ValueError) as error:
        raise Unfit("a time is none") from error


def time_buckets(bucket_ms: int) -> Transform:
    """What puts a time into its bucket: the bucket's start in UTC, as RFC 3339 text. It raises `Unfit`."""
    starts: dict[str, str] = {}
    # A bucket of whole minutes is known by the minute, so that most events cost one look-up.
    whole_minutes = bucket_ms % 60_000 == 0

    def time_bucket(value: Any) -> Any:
        if value is None:
            return None
        minute = value[:16] if whole_minutes and isinstance(value, str) and value[-1:] == "Z" else None
        if minute in starts:
            return starts[minute]
        start = milliseconds(value) // bucket_ms * bucket_ms
        told = (EPOCH + start * MILLISECOND).isoformat(timespec="milliseconds" if start % 1000 else "seconds").replace("+00:00", "Z")
        if minute is not None:
            if len(starts) > 10_000:
                starts.clear()
            starts[minute] = told
        return told

    return time_bucket


def _mask(value: Any, keep_last: int) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        raise Unfit("a field to mask is not text")
    hidden = len(value) - keep_last if len(value) > keep_last else len(value)
    return "*" * hidden + value[hidden:]


def _floor(value: Any, step: float) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Unfit("a field to generalise is not a number")
    return value // step * step
