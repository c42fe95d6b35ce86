"""`python -m tests.benchmarks [--only NAME] [--json]`: measure, print the table, write `bench.json`.

Exit code 1 if a row could not be measured; a goal that is missed is told, and no error.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from tests.benchmarks import report
from tests.benchmarks.rows import ROWS, Row
from tests.benchmarks.stage import Stage
from tests.engines import EngineFailed
from tests.engines.install import NotInstalled
from tests.gateway import GatewayFailed

START_S = 180


def main() -> int:
    arguments = _arguments()
    rows = [row for row in ROWS if arguments.only in (None, *row.names)]
    results: dict[str, float] = {}
    failed: dict[str, str] = {}
    notes: dict[str, str] = {}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as ending:
        try:
            with _bound(START_S):
                stage = Stage(ending, _say)
        except (EngineFailed, NotInstalled, GatewayFailed, TimeoutError) as error:
            _say(str(error))
            return 1
        for row in rows:
            _run(row, stage, results, failed, notes)
    report.write(results, merge=arguments.only is not None)
    print(json.dumps(results) if arguments.json else report.table(results, failed, notes))
    return 1 if failed else 0


def _run(row: Row, stage: Stage, results: dict[str, float], failed: dict[str, str], notes: dict[str, str]) -> None:
    _say(f"== {', '.join(row.names)}")
    try:
        with _bound(row.seconds):
            measured = row.measure(stage)
    except Exception as error:  # noqa: BLE001 - whatever one row fails of, the others go on
        why = f"{type(error).__name__}: {error}"
        _say(f"   failed: {why}")
        failed.update(dict.fromkeys(row.names, why))
        return
    results.update(measured.results)
    notes.update(dict.fromkeys(measured.results, measured.note))
    _say("   " + ", ".join(f"{name} = {report.rounded(value):g}" for name, value in measured.results.items()))


@contextmanager
def _bound(seconds: int) -> Iterator[None]:
    """Raises `TimeoutError` in the block when the time is over."""

    def over(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure the exchange on real engines.")
    names = [name for row in ROWS for name in row.names]
    parser.add_argument("--only", choices=names, metavar="NAME", help="one result: " + ", ".join(names))
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of the table")
    return parser.parse_args()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
