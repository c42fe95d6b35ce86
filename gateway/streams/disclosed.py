"""Whose events left: what the stream plane tells whoever keeps account for the people that they are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Under(NamedTuple):
    """What events were delivered under. `contract` and `purpose` are empty for open data."""

    contract: str
    dataset: str
    purpose: str
    decision: str


class Account(Protocol):
    """Told of every run of events as it is written; it must not hold up the event loop."""

    def count(self, under: Under, srefs: Sequence[str | None], first: int, last: int) -> None:
        """Events have left: of these subjects those from place `first` up to, and without, `last`. The list must not change later."""
