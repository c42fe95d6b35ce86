"""`make faults`: rounds of bad luck on three real replicas with PostgreSQL, Kafka and load; writes faults.json after each round.

The round of a number is the same for the same seed, as far as a machine's clocks let it: `--first` with its number plays it again.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.report import commit
from tests.engines import EngineFailed, Engines, Kafka, Postgres, install
from tests.engines.sets import RealEngines
from tests.gateway import GatewayFailed
from tests.replicas.city import City
from tests.replicas.rounds import FILE, Tally, play


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asked = _asked()
    tally = Tally(seed=asked.seed, commit=commit())
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)

    failed = ""
    with ExitStack() as ending:
        try:
            city = _city(ending, say)
            say(f"{asked.rounds} rounds from seed {asked.seed}")
            for told in play(city, tally, asked.first, asked.rounds):
                say(told)
                tally.write()
        except KeyboardInterrupt:
            failed = "Stopped."
        except (AssertionError, EngineFailed, GatewayFailed, install.NotInstalled) as error:
            failed = f"It went no further: {error}"
    tally.write()
    judged = f"{tally.forbidden} forbidden, {tally.lost} lost, {tally.late} late"
    log = f"{tally.unrecorded} unrecorded, {tally.duplicates} duplicates, {tally.doubts} doubts of the audit log"
    say(f"{failed} {tally.rounds} rounds: {judged}, {log}. {FILE} says so.".strip())
    return 0 if tally.is_clean and not failed else 1


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--seed", type=int, default=2026, help="which ones (default: 2026)")
    parser.add_argument("--first", type=int, default=0, help="from which number on (default: 0)")
    return parser.parse_args()


def _city(ending: ExitStack, say: Callable[[str], None]) -> City:
    """On engines of its own. PostgreSQL flushes to disk, as it does in production."""
    folder = Path(tempfile.mkdtemp(prefix="exchange-faults-"))
    folder.chmod(0o755)
    ending.callback(shutil.rmtree, folder, ignore_errors=True)
    kafka = Kafka(install.kafka_jars(), folder / "kafka")
    postgres = Postgres(install.postgres_binaries(), folder / "postgres", fsync=True)
    for engine in (kafka, postgres):
        say(f"{type(engine).__name__} starts")
        ending.callback(engine.kill)
        engine.start()
    say("three gateways start")
    engines = Engines(folder / "engines", RealEngines(kafka, postgres, install.opa_binary()))
    return ending.enter_context(City(engines, folder / "city"))


if __name__ == "__main__":
    sys.exit(main())
