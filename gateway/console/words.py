"""The words of the pages, in English and French: `words.toml`, and how times and periods are told."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, cast

from fastapi import Request
from markupsafe import Markup

from gateway.database import rfc3339
from gateway.http import parse_period

Language = Literal["en", "fr"]
LANGUAGES: tuple[Language, ...] = ("en", "fr")
COOKIE = "__Host-exchange-language"
BEFORE_A_SIGN = re.compile(r" (?=[;:!?»])|(?<=«) ")
WANTED = re.compile(r"\s*(en|fr)\b[^;]*(?:;\s*q=([01](?:\.\d{1,3})?))?\s*$", re.IGNORECASE | re.ASCII)


@functools.cache
def words() -> Mapping[str, Mapping[str, str]]:
    """Each word by its key, `section.name`, in both languages."""
    loaded = _flat(tomllib.loads(Path(__file__).with_name("words.toml").read_text("utf-8")), "")
    # French has a space before some signs, at which no line breaks.
    return {key: told | {"fr": BEFORE_A_SIGN.sub("\u00a0", told["fr"])} for key, told in loaded}


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    for name, value in table.items():
        if set(value) == set(LANGUAGES):
            yield prefix + name, value
        else:
            yield from _flat(value, f"{prefix}{name}.")


def language_of(request: Request) -> Language:
    """What the person chose, else what their browser asks for (RFC 9110 section 12.5.4), else English."""
    chosen = request.cookies.get(COOKIE)
    if chosen in LANGUAGES:
        return chosen
    asked: dict[Language, float] = {}
    for part in request.headers.get("accept-language", "").split(",")[:20]:
        if found := WANTED.match(part):
            asked.setdefault(cast("Language", found[1].lower()), float(found[2] or 1))
    return max(asked, key=lambda language: asked[language]) if any(asked.values()) else "en"


class Say:
    """`say("register.title")` in one language; `{names}` in a word are filled from the keywords. Raises `KeyError` for no word."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, key: str, **values: object) -> str:
        word = words()[key][self.language]
        return word.format(**values) if values else word

    def maybe(self, key: str, otherwise: str) -> str:
        """The word of a code that others may add to: without one, the code."""
        return words()[key][self.language] if key in words() else otherwise

    def number(self, key: str, count: int) -> str:
        """`key.one` or `key.many`; French counts none as one."""
        one = count == 1 or (self.language == "fr" and count == 0)
        return self(f"{key}.{'one' if one else 'many'}", count=f"{count:,}".replace(",", "\u202f" if self.language == "fr" else ","))

    def of(self, told: Mapping[str, str]) -> str:
        """Of a text that is stored in both languages."""
        return told[self.language]

    def day(self, day: date) -> Markup:
        """A day, as people write it."""
        return Markup('<time datetime="{}">{}</time>').format(day.isoformat(), self._day(day))

    def time(self, at: datetime) -> Markup:
        """An instant to the minute, in UTC."""
        at = at.astimezone(UTC)
        clock = f"{at:%H:%M}" if self.language == "en" else f"{at.hour} h {at:%M}"
        return Markup('<time datetime="{}">{}</time>').format(rfc3339(at), f"{self._day(at)}, {clock} UTC")

    def period(self, period: str) -> str:
        """An ISO 8601 duration in its largest whole unit."""
        seconds = int(parse_period(period).total_seconds())
        for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
            if seconds % length == 0:
                return self.number(f"period.{unit}", seconds // length)
        return self.number("period.seconds", seconds)

    def _day(self, day: date) -> str:
        month = self(f"month.{day.month}")
        first = "1er" if self.language == "fr" and day.day == 1 else str(day.day)
        return f"{first} {month} {day.year}"
