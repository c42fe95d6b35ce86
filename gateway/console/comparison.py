"""What differs between two revisions, file by file, line by line. Rule sheets are compared as they mean, not as they are written."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass

MOST_LINES = 400
AROUND = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that differs: `what` is added, removed or changed; each line with its sign, `+`, `-` or a blank."""

    path: str
    what: str
    lines: tuple[tuple[str, str], ...]
    more: bool


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[Difference]:
    """The files that differ, by path."""
    found = [_difference(path, before.get(path), after.get(path)) for path in sorted({*before, *after})]
    return [each for each in found if each is not None]


def _difference(path: str, before: str | None, after: str | None) -> Difference | None:
    one, other = (_lines(path, text) for text in (before, after))
    lines = [line for line in difflib.unified_diff(one, other, n=AROUND, lineterm="") if not line.startswith(("---", "+++"))]
    if not lines and (before is None) == (after is None):
        return None
    what = "added" if before is None else "removed" if after is None else "changed"
    signed = tuple(("…", "") if line.startswith("@@") else (line[0], line[1:]) for line in lines[:MOST_LINES])
    return Difference(path, what, signed, len(lines) > MOST_LINES)


def _lines(path: str, text: str | None) -> list[str]:
    if text is None:
        return []
    if path.endswith(".json"):
        try:
            return json.dumps(json.loads(text), indent=2, ensure_ascii=False).splitlines()
        except ValueError:
            pass
    return text.splitlines()
