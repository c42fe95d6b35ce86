"""What a row gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """Results by name, and in words what stands behind them."""

    results: dict[str, float]
    note: str = ""


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of the values lies, 0 to 1 (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
