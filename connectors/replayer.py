"""A connector: publishes a recorded GTFS-realtime feed as if it came now, faster than it was recorded, over the HTTP API alone.

EXCHANGE_URL=... EXCHANGE_CLIENT_ID=... EXCHANGE_CLIENT_KEY_FILE=feed.jwk python -m connectors.replayer --speed 60
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from connectors.client import Client, Published
from connectors.environment import from_environment
from connectors.sources import transit_feed

SLUG = "transit-feed"
SPEED = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of the feed that the exchange has acknowledged. `after`: seconds since the one before, as it was recorded."""

    after: float
    changed: int
    published: list[Published]


def replay(client: Client, slug: str = SLUG, *, speed: float = SPEED, sleep: Callable[[float], None] = time.sleep) -> Iterator[Snapshot]:
    """Publish each snapshot's changed trips to the dataset when its time has come, `speed` times sooner than it was recorded.

    Raises `ProblemError`, and `httpx2.TransportError` where the exchange stays away.
    """
    due = time.monotonic()
    for wait, changed in transit_feed.replay(speed):
        due += wait  # from the start on, so that slow acknowledgements do not add up
        sleep(max(0.0, due - time.monotonic()))
        yield Snapshot(wait * speed, len(changed), client.publish(slug, changed))


def main() -> None:
    """Replay once, and tell of each snapshot with the receipts of its batches."""
    words = argparse.ArgumentParser(
        prog="python -m connectors.replayer", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    words.add_argument("--slug", default=SLUG, help="the dataset to publish to; it must be there")
    words.add_argument("--speed", type=float, default=SPEED, help="how many times faster than recorded")
    told = words.parse_args()
    with from_environment() as client:
        for snapshot in replay(client, told.slug, speed=told.speed):
            receipts = " ".join(batch.audit_entry for batch in snapshot.published)
            sys.stdout.write(f"{snapshot.after:.0f} s later: {snapshot.changed} trips changed {receipts}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
