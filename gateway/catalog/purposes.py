"""The tree of purposes, each with its concept of the W3C Data Privacy Vocabulary. The tree is data: `schemas/purposes.json`."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.resources import SCHEMAS


@dataclass(frozen=True, slots=True)
class Purpose:
    """A purpose. `title` is {en, fr}; `broader` holds every purpose that contains it, the nearest first."""

    code: str
    iri: str
    title: Mapping[str, str]
    broader: tuple[str, ...]

    @property
    def with_broader(self) -> frozenset[str]:
        """Its own code and those of all that contain it: what permits one of them permits this purpose."""
        return frozenset({self.code, *self.broader})


def purpose(code: str) -> Purpose | None:
    """The purpose of this code, if there is one."""
    return _tree().get(code)


def purposes() -> tuple[Purpose, ...]:
    """All purposes; each stands after those that contain it."""
    return tuple(_tree().values())


@functools.cache
def _tree() -> dict[str, Purpose]:
    entries: list[dict[str, Any]] = json.loads((SCHEMAS / "purposes.json").read_text("utf-8"))["purposes"]
    tree: dict[str, Purpose] = {}
    for entry in entries:
        parent = tree[entry["broader"]] if entry["broader"] else None
        broader = (parent.code, *parent.broader) if parent else ()
        tree[entry["code"]] = Purpose(entry["code"], entry["iri"], entry["title"], broader)
    return tree
