"""Synthetic events: what a dataset's events look like, made from its schema alone, never from an event."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import rstr

from gateway.catalog.schemas import steps_of
from gateway.database import rfc3339
from gateway.errors import ExchangeError

COUNT = 20
TRIES = 50
"""Draws of one event before the schema is given up; the rarer keywords are left to luck."""
MOST_ITEMS = 3
SPAN = 10_000
"""How far a number without an upper bound may be from its lower one."""
FIRST = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
_WORDS = ["alder", "birch", "cedar", "elm", "harbour", "lake", "maple", "oak", "pier", "quay", "river", "spruce", "stone", "willow"]
# A quantifier without an end, outside an escape or a character class: written short, so that the text stays readable.
_ENDLESS = re.compile(r"(\\.|\[(?:\\.|[^\]])*\])|([*+])|\{([0-9]+),\}", re.DOTALL)


def events(slug: str, source: str, schema: Mapping[str, Any], fits: Callable[[Any], bool], *, count: int = COUNT) -> list[dict[str, Any]]:
    """Twenty CloudEvents, or so many, whose data fits the schema; the same for the same slug and schema. Raises `no_sample`."""
    chance = random.Random(slug)  # noqa: S311 - the same for everyone, on purpose
    return [
        {
            "specversion": "1.0",
            "id": f"sample-{number}",
            "source": source,
            "type": f"{slug}.sample",
            "time": rfc3339(FIRST + timedelta(minutes=number)),
            "datacontenttype": "application/json",
            "synthetic": True,
            "data": _fitting(schema, fits, chance),
        }
        for number in range(1, count + 1)
    ]


def _fitting(schema: Mapping[str, Any], fits: Callable[[Any], bool], chance: random.Random) -> Any:
    draw = _Draw(schema, chance)
    for _ in range(TRIES):
        try:
            data = draw.value(schema)
        except (re.error, ValueError, OverflowError):
            continue
        if fits(data):
            return data
    raise ExchangeError("no_sample")


class _Draw:
    """Draws values of subschemas of one document."""

    def __init__(self, document: Mapping[str, Any], chance: random.Random) -> None:
        self._document = document
        self._chance = chance

    def value(self, schema: Any) -> Any:
        """A value that the most common keywords allow. Raises `re.error`, `ValueError`, `OverflowError`: try again."""
        if not isinstance(schema, Mapping) or not schema:
            return self._chance.choice(_WORDS)
        schema = self._flattened(schema)
        for keyword in ("const", "default"):
            if keyword in schema:
                return schema[keyword]
        for keyword in ("enum", "examples"):
            if schema.get(keyword):
                return self._chance.choice(schema[keyword])
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = self._chance.choice(kind)
        drawn: Callable[[Mapping[str, Any]], Any] = getattr(self, f"_{kind}")
        return drawn(schema)

    def _flattened(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """With references followed, `allOf` merged in, and one branch of `anyOf` and `oneOf` chosen."""
        branches = list(schema.get("allOf", ()))
        branches += [self._chance.choice(schema[keyword]) for keyword in ("anyOf", "oneOf") if keyword in schema]
        if "$ref" in schema:
            target: Any = self._document
            for step in steps_of(schema["$ref"][1:]):
                target = target[int(step)] if isinstance(target, list) else target[step]
            branches.append(target)
        flat = {name: value for name, value in schema.items() if name not in {"allOf", "anyOf", "oneOf", "$ref"}}
        for branch in branches:
            for name, value in (self._flattened(branch) if isinstance(branch, Mapping) else {}).items():
                if name == "properties":
                    flat[name] = dict(flat.get(name, {})) | dict(value)
                elif name == "required":
                    flat[name] = [*flat.get(name, ()), *value]
                else:
                    flat[name] = value
        return flat

    def _object(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), set(schema.get("required", ()))
        names = [name for name in properties if name in required or self._chance.random() < 0.8]
        missing = sorted(required - set(properties))
        return {name: self.value(properties[name]) for name in names} | {
            name: self.value(schema.get("additionalProperties")) for name in missing
        }

    def _array(self, schema: Mapping[str, Any]) -> list[Any]:
        first = schema.get("prefixItems", [])
        least = int(schema.get("minItems", 0))
        most = min(int(schema.get("maxItems", least + MOST_ITEMS)), least + MOST_ITEMS)
        if most > SPAN:
            raise ValueError("too long for a sample")
        count = self._chance.randint(least, most) if schema.get("items", True) is not False else len(first)
        return [self.value(first[index] if index < len(first) else schema.get("items")) for index in range(count)]

    def _string(self, schema: Mapping[str, Any]) -> str:
        if "pattern" in schema:
            return rstr.Rstr(self._chance).xeger(_shortened(schema["pattern"]))
        if "contentEncoding" in schema:
            return base64.b64encode(self._chance.randbytes(9)).decode("ascii")
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]](self._chance)
        least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", SPAN))
        if least > SPAN:
            raise ValueError("too long for a sample")
        text = self._chance.choice(_WORDS)
        while len(text) < least:
            text += " " + self._chance.choice(_WORDS)
        return text[: max(most, 0)]

    def _integer(self, schema: Mapping[str, Any]) -> int:
        step = int(schema.get("multipleOf", 1)) or 1
        low, high = self._bounds(schema, 1)
        return self._chance.randint(-(-int(low) // step), int(high) // step) * step

    def _number(self, schema: Mapping[str, Any]) -> float:
        low, high = self._bounds(schema, 1e-6)
        if "multipleOf" in schema:
            return float(
                self._chance.randint(int(low // schema["multipleOf"]) + 1, int(high // schema["multipleOf"])) * schema["multipleOf"]
            )
        return round(self._chance.uniform(low, high), 6)

    def _bounds(self, schema: Mapping[str, Any], beside: float) -> tuple[float, float]:
        low = schema.get("minimum", schema["exclusiveMinimum"] + beside if "exclusiveMinimum" in schema else None)
        high = schema.get("maximum", schema["exclusiveMaximum"] - beside if "exclusiveMaximum" in schema else None)
        if low is None:
            low = 0 if high is None or high >= 0 else high - SPAN
        return low, low + SPAN if high is None else high

    def _boolean(self, _schema: Mapping[str, Any]) -> bool:
        return self._chance.random() < 0.5

    def _null(self, _schema: Mapping[str, Any]) -> None:
        return None


def _moment(chance: random.Random) -> datetime:
    return FIRST + timedelta(seconds=chance.randrange(14 * 24 * 3600))


def _shortened(pattern: str) -> str:
    def short(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]
        least = int(found[3]) if found[3] else 1 if found[2] == "+" else 0
        return f"{{{least},{least + 5}}}"

    return _ENDLESS.sub(short, pattern)


_FORMATS: Mapping[str, Callable[[random.Random], str]] = {
    "date-time": lambda chance: rfc3339(_moment(chance)),
    "date": lambda chance: _moment(chance).date().isoformat(),
    "time": lambda chance: _moment(chance).time().isoformat() + "Z",
    "duration": lambda chance: f"PT{chance.randint(1, 90)}M",
    "email": lambda chance: f"{chance.choice(_WORDS)}@example.org",
    "hostname": lambda chance: f"{chance.choice(_WORDS)}.example.org",
    "ipv4": lambda chance: f"192.0.2.{chance.randint(1, 254)}",
    "ipv6": lambda chance: f"2001:db8::{chance.randint(1, 9999)}",
    "uri": lambda chance: f"https://example.org/{chance.choice(_WORDS)}",
    "uri-reference": lambda chance: f"/{chance.choice(_WORDS)}",
    "uuid": lambda chance: str(UUID(bytes=chance.randbytes(16), version=4)),
    "json-pointer": lambda chance: f"/{chance.choice(_WORDS)}",
}
