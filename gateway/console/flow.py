"""The picture of a flow: from a provider through the exchange to who receives it. Numbers for a small SVG that the template draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LINE = 34
"""Signs that fit into a box; the list beside the picture has the whole name."""
BOX, GAP, TOP = 48, 12, 176


@dataclass(frozen=True, slots=True)
class Box:
    """A recipient in the picture: two lines, and where its box begins."""

    name: str
    purpose: str
    y: int


@dataclass(frozen=True, slots=True)
class Flow:
    """The picture: `height` of the whole, the boxes, and how many recipients are not drawn."""

    boxes: tuple[Box, ...]
    more: int
    height: int


def flow_of(recipients: Sequence[tuple[str, str]], most: int, count: int) -> Flow:
    """The flow to these recipients (name, purpose), of `count` in all."""
    boxes = tuple(Box(cut(name), cut(purpose), TOP + at * (BOX + GAP)) for at, (name, purpose) in enumerate(recipients[:most]))
    more = max(0, count - len(boxes))
    return Flow(boxes, more, TOP + len(boxes) * (BOX + GAP) + (24 if more or not boxes else 0))


def cut(text: str) -> str:
    """As much of it as fits into a box."""
    return text if len(text) <= LINE else f"{text[: LINE - 1]}…"
