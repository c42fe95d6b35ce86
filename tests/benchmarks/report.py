"""The table on the screen, and `bench.json`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.material import SEED
from tests.benchmarks.rows import GOALS
from tests.engines.install import KAFKA, OPA

FILE = Path("bench.json")
LONGEST_REASON = 120


def machine() -> str:
    """What it ran on, in a line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}; Python {platform.python_version()}, "
        f"Kafka {KAFKA}, kafka-python {version('kafka-python')}, OPA {OPA}, PostgreSQL"
    )


def write(results: Mapping[str, float], *, merge: bool) -> None:
    """Write `bench.json`; `merge` keeps what it has of rows that were not run."""
    kept: dict[str, Any] = {}
    if merge and FILE.exists():
        kept = json.loads(FILE.read_text("utf-8"))["results"]
    document = {
        "machine": machine(),
        "commit": commit(),
        "seed": SEED,
        "results": kept | {name: rounded(results[name]) for name in results},
    }
    FILE.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def table(results: Mapping[str, float], failed: Mapping[str, str], notes: Mapping[str, str]) -> str:
    """A line each: the name, the result, its goal and whether it is met, and what stands behind it."""
    lines = [f"{'':<26} {'result':>10}  {'reach':<8} {'':<7}"]
    for name in (*results, *failed):
        goal = GOALS.get(name)
        if name in failed:
            lines.append(f"{name:<26} {'-':>10}  {goal or ''!s:<8} {'FAILED':<7} {failed[name][:LONGEST_REASON]}")
            continue
        met = "" if goal is None else "met" if goal.is_met(results[name]) else "missed"
        lines.append(f"{name:<26} {rounded(results[name]):>10g}  {goal or ''!s:<8} {met:<7} {notes.get(name, '')}".rstrip())
    return "\n".join(lines)


def rounded(value: float) -> float:
    """To three significant digits."""
    return float(f"{value:.3g}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit() -> str:
    """The commit that is checked out, and whether the files are still its."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip()
